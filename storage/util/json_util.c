/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* json-glib accepts more than JSON, recurses without limit and lets a second key of the same name
 * win. So the text is first walked by a scanner of our own that knows the grammar of RFC 8259, the
 * depth and the number of keys; only what passes is given to json-glib, and the number of members
 * it made must be the number of keys that were there. */
#include "storage/util/json_util.h"

#include <string.h>

#include "policies/error.h"

typedef struct {
    const char *p;
    const char *end;
    guint depth;
    guint keys;
    guint values, max_values;
    const char *why; /* set when refused */
} Scan;

static gboolean
refuse(Scan *scan, const char *why)
{
    if (!scan->why)
        scan->why = why;
    return FALSE;
}

static void
skip_space(Scan *scan)
{
    while (scan->p < scan->end && strchr(" \t\r\n", *scan->p) != NULL && *scan->p != '\0')
        scan->p++;
}

static gboolean
take(Scan *scan, char c)
{
    if (scan->p >= scan->end || *scan->p != c)
        return FALSE;
    scan->p++;
    return TRUE;
}

static gboolean
scan_hex4(Scan *scan, guint *ret)
{
    guint value = 0;

    for (guint i = 0; i < 4; i++) {
        if (scan->p >= scan->end || !g_ascii_isxdigit(*scan->p))
            return refuse(scan, "a bad \\u escape");
        value = value * 16 + (guint) g_ascii_xdigit_value(*scan->p++);
    }
    *ret = value;
    return TRUE;
}

static gboolean
scan_unicode(Scan *scan)
{
    guint high, low;

    if (!scan_hex4(scan, &high))
        return FALSE;
    if (high == 0)
        return refuse(scan, "a NUL character");
    if (high >= 0xdc00 && high <= 0xdfff)
        return refuse(scan, "half a surrogate pair");
    if (high < 0xd800 || high > 0xdbff)
        return TRUE;
    if (!take(scan, '\\') || !take(scan, 'u') || !scan_hex4(scan, &low) || low < 0xdc00 ||
        low > 0xdfff)
        return refuse(scan, "half a surrogate pair");
    return TRUE;
}

static gboolean
scan_string(Scan *scan)
{
    if (!take(scan, '"'))
        return refuse(scan, "no string where one is needed");
    while (scan->p < scan->end) {
        guchar c = (guchar) *scan->p++;

        if (c == '"')
            return TRUE;
        if (c < 0x20)
            return refuse(scan, "a control character in a string");
        if (c != '\\')
            continue;
        if (scan->p >= scan->end)
            break;
        c = (guchar) *scan->p++;
        if (c == 'u') {
            if (!scan_unicode(scan))
                return FALSE;
        } else if (c == '\0' || !strchr("\"\\/bfnrt", c)) {
            return refuse(scan, "an unknown escape");
        }
    }
    return refuse(scan, "a string without an end");
}

static gboolean
scan_digits(Scan *scan)
{
    const char *start = scan->p;

    while (scan->p < scan->end && g_ascii_isdigit(*scan->p))
        scan->p++;
    return scan->p > start ? TRUE : refuse(scan, "a bad number");
}

static gboolean
scan_number(Scan *scan)
{
    const char *start = scan->p;
    char text[24] = "";
    gboolean integer = TRUE;

    take(scan, '-');
    if (scan->p < scan->end && *scan->p == '0')
        scan->p++;
    else if (!scan_digits(scan))
        return FALSE;
    if (take(scan, '.')) {
        integer = FALSE;
        if (!scan_digits(scan))
            return FALSE;
    }
    if (take(scan, 'e') || take(scan, 'E')) {
        integer = FALSE;
        if (!take(scan, '+'))
            take(scan, '-');
        if (!scan_digits(scan))
            return FALSE;
    }
    if ((gsize) (scan->p - start) >= sizeof(text))
        return refuse(scan, "a number that is too long");
    memcpy(text, start, (gsize) (scan->p - start));
    if (integer && !g_ascii_string_to_signed(text, 10, G_MININT64, G_MAXINT64, NULL, NULL))
        return refuse(scan, "an integer out of range");
    return TRUE;
}

static gboolean
scan_word(Scan *scan, const char *word)
{
    gsize len = strlen(word);

    if ((gsize) (scan->end - scan->p) < len || memcmp(scan->p, word, len) != 0)
        return refuse(scan, "an unknown word");
    scan->p += len;
    return TRUE;
}

static gboolean scan_value(Scan *scan);

static gboolean
scan_member(Scan *scan, gboolean keyed)
{
    if (keyed) {
        skip_space(scan);
        if (!scan_string(scan))
            return FALSE;
        scan->keys++;
        skip_space(scan);
        if (!take(scan, ':'))
            return refuse(scan, "a key without a value");
    }
    return scan_value(scan);
}

static gboolean
scan_container(Scan *scan, char close, gboolean keyed)
{
    scan->p++;
    if (++scan->depth > VR_JSON_MAX_DEPTH)
        return refuse(scan, "too many levels");
    skip_space(scan);
    if (!take(scan, close)) {
        do {
            if (!scan_member(scan, keyed))
                return FALSE;
            skip_space(scan);
        } while (take(scan, ','));
        if (!take(scan, close))
            return refuse(scan, "no end of an array or object");
    }
    scan->depth--;
    return TRUE;
}

static gboolean
scan_value(Scan *scan)
{
    skip_space(scan);
    if (scan->p >= scan->end)
        return refuse(scan, "an early end");
    if (++scan->values > scan->max_values)
        return refuse(scan, "too many values");
    if (*scan->p == '{')
        return scan_container(scan, '}', TRUE);
    if (*scan->p == '[')
        return scan_container(scan, ']', FALSE);
    if (*scan->p == '"')
        return scan_string(scan);
    if (*scan->p == 't')
        return scan_word(scan, "true");
    if (*scan->p == 'f')
        return scan_word(scan, "false");
    if (*scan->p == 'n')
        return scan_word(scan, "null");
    return scan_number(scan);
}

static guint
count_members(JsonNode *node)
{
    guint n = 0;

    if (JSON_NODE_HOLDS_OBJECT(node)) {
        JsonObjectIter iter;
        JsonNode *child;

        json_object_iter_init(&iter, json_node_get_object(node));
        while (json_object_iter_next(&iter, NULL, &child))
            n += 1 + count_members(child);
    } else if (JSON_NODE_HOLDS_ARRAY(node)) {
        JsonArray *array = json_node_get_array(node);

        for (guint i = 0; i < json_array_get_length(array); i++)
            n += count_members(json_array_get_element(array, i));
    }
    return n;
}

static gboolean
bad_json(GError **error, const char *why)
{
    vr_set_error(error, VR_ERROR_INVALID, "bad-json", NULL, "the JSON text is refused: %s", why);
    return FALSE;
}

JsonNode *
vr_json_parse(const char *data, gsize len, gsize max_bytes, GError **error)
{
    return vr_json_parse_large(data, len, max_bytes, VR_JSON_MAX_VALUES, error);
}

JsonNode *
vr_json_parse_large(const char *data, gsize len, gsize max_bytes, guint max_values, GError **error)
{
    Scan scan = {.p = data, .end = data + len, .max_values = max_values};
    g_autoptr(JsonParser) parser = NULL;
    g_autoptr(JsonNode) node = NULL;

    if (len > max_bytes) {
        bad_json(error, "too large");
        return NULL;
    }
    if (!g_utf8_validate_len(data, len, NULL)) {
        bad_json(error, "not UTF-8");
        return NULL;
    }
    if (scan_value(&scan)) {
        skip_space(&scan);
        if (scan.p != scan.end)
            refuse(&scan, "text behind its end");
    }
    if (scan.why) {
        bad_json(error, scan.why);
        return NULL;
    }
    parser = json_parser_new_immutable();
    if (json_parser_load_from_data(parser, data, (gssize) len, NULL))
        node = json_parser_steal_root(parser);
    if (!node) {
        bad_json(error, "not understood");
        return NULL;
    }
    if (count_members(node) != scan.keys) {
        bad_json(error, "a key stands twice in one object");
        return NULL;
    }
    return g_steal_pointer(&node);
}

JsonNode *
vr_json_node(JsonObject *object)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, object);
    return node;
}

/* With as few digits as give the same number again: 4.2, not 4.2000000000000002. */
static void
append_number(GString *text, const char *token, gsize len)
{
    char buf[G_ASCII_DTOSTR_BUF_SIZE];
    g_autofree char *copy = g_strndup(token, len);
    double value = g_ascii_strtod(copy, NULL);

    if (strpbrk(copy, ".eE") == NULL) {
        g_string_append(text, copy);
        return;
    }
    g_ascii_formatd(buf, sizeof buf, "%.15g", value);
    g_string_append(text, g_ascii_strtod(buf, NULL) == value ? buf : copy);
}

/* Up to the quote that ends the string @at begins with. */
static gsize
string_len(const char *at)
{
    gsize len = 1;

    while (at[len] != '"' && at[len] != '\0')
        len += at[len] == '\\' && at[len + 1] != '\0' ? 2 : 1;
    return at[len] == '"' ? len + 1 : len;
}

char *
vr_json_to_text(JsonNode *node)
{
    g_autofree char *raw = json_to_string(node, FALSE);
    GString *text = g_string_sized_new(strlen(raw));

    for (const char *at = raw; *at;) {
        gsize len = *at == '"' ? string_len(at) : strspn(at, "-+.0123456789eE");

        if (*at != '"' && (*at == '-' || g_ascii_isdigit(*at))) {
            append_number(text, at, len);
        } else {
            len = *at == '"' ? len : 1;
            g_string_append_len(text, at, (gssize) len);
        }
        at += len;
    }
    return g_string_free(text, FALSE);
}

char *
vr_json_object_to_text(JsonObject *object)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);

    json_node_set_object(node, object);
    return vr_json_to_text(node);
}

static void
bad_message(GError **error, const char *key, const char *why)
{
    vr_set_error(error, VR_ERROR_INVALID, "bad-message", NULL, "'%s' in the message %s", key, why);
}

JsonObject *
vr_json_as_object(JsonNode *node)
{
    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

JsonArray *
vr_json_as_array(JsonNode *node)
{
    return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
}

JsonObject *
vr_json_object_in(JsonObject *object, const char *key)
{
    return vr_json_as_object(object ? json_object_get_member(object, key) : NULL);
}

JsonArray *
vr_json_array_in(JsonObject *object, const char *key)
{
    return vr_json_as_array(object ? json_object_get_member(object, key) : NULL);
}

JsonObject *
vr_json_object_at(JsonArray *array, guint i)
{
    return vr_json_as_object(
        array && i < json_array_get_length(array) ? json_array_get_element(array, i) : NULL);
}

const char *
vr_json_text_in(JsonObject *object, const char *key, const char *other)
{
    JsonNode *node = object ? json_object_get_member(object, key) : NULL;
    const char *text = node && JSON_NODE_HOLDS_VALUE(node) ? json_node_get_string(node) : NULL;

    return text ? text : other;
}

JsonObject *
vr_json_object(JsonNode *node, const char *what, GError **error)
{
    if (node && JSON_NODE_HOLDS_OBJECT(node))
        return json_node_get_object(node);
    vr_set_error(error, VR_ERROR_INVALID, "bad-message", NULL, "%s is not a JSON object", what);
    return NULL;
}

gboolean
vr_json_string_opt(JsonObject *object, const char *key, gsize max, const char **ret, GError **error)
{
    JsonNode *node = json_object_get_member(object, key);

    if (!node || JSON_NODE_HOLDS_NULL(node)) {
        *ret = NULL;
        return TRUE;
    }
    if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_STRING) {
        bad_message(error, key, "is not a string");
        return FALSE;
    }
    if (strlen(json_node_get_string(node)) > max) {
        bad_message(error, key, "is too long");
        return FALSE;
    }
    *ret = json_node_get_string(node);
    return TRUE;
}

const char *
vr_json_string(JsonObject *object, const char *key, gsize max, GError **error)
{
    const char *text;

    if (!vr_json_string_opt(object, key, max, &text, error))
        return NULL;
    if (!text)
        bad_message(error, key, "is missing");
    return text;
}

gboolean
vr_json_bool_opt(JsonObject *object, const char *key, gboolean fallback, gboolean *ret,
                 GError **error)
{
    JsonNode *node = object ? json_object_get_member(object, key) : NULL;

    if (!node || JSON_NODE_HOLDS_NULL(node)) {
        *ret = fallback;
        return TRUE;
    }
    if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_BOOLEAN) {
        bad_message(error, key, "is neither true nor false");
        return FALSE;
    }
    *ret = json_node_get_boolean(node);
    return TRUE;
}

static gboolean
is_absent(JsonObject *object, const char *key)
{
    JsonNode *node = json_object_get_member(object, key);

    return !node || JSON_NODE_HOLDS_NULL(node);
}

gboolean
vr_json_object_opt(JsonObject *object, const char *key, JsonObject **ret, GError **error)
{
    *ret = vr_json_object_in(object, key);
    if (*ret || is_absent(object, key))
        return TRUE;
    bad_message(error, key, "is not an object");
    return FALSE;
}

gboolean
vr_json_double_opt(JsonObject *object, const char *key, double fallback, double *ret,
                   GError **error)
{
    JsonNode *node = json_object_get_member(object, key);

    if (is_absent(object, key)) {
        *ret = fallback;
        return TRUE;
    }
    if (!JSON_NODE_HOLDS_VALUE(node) || (json_node_get_value_type(node) != G_TYPE_DOUBLE &&
                                         json_node_get_value_type(node) != G_TYPE_INT64)) {
        bad_message(error, key, "is not a number");
        return FALSE;
    }
    *ret = json_node_get_double(node);
    return TRUE;
}

gboolean
vr_json_uint_opt(JsonObject *object, const char *key, guint64 max, guint64 fallback, guint64 *ret,
                 GError **error)
{
    if (!is_absent(object, key))
        return vr_json_uint(object, key, max, ret, error);
    *ret = fallback;
    return TRUE;
}

gboolean
vr_json_array_opt(JsonObject *object, const char *key, guint max, JsonArray **ret, GError **error)
{
    JsonNode *node = json_object_get_member(object, key);

    if (!node || JSON_NODE_HOLDS_NULL(node)) {
        *ret = NULL;
        return TRUE;
    }
    if (!JSON_NODE_HOLDS_ARRAY(node)) {
        bad_message(error, key, "is not an array");
        return FALSE;
    }
    if (json_array_get_length(json_node_get_array(node)) > max) {
        bad_message(error, key, "has too many elements");
        return FALSE;
    }
    *ret = json_node_get_array(node);
    return TRUE;
}

gboolean
vr_json_uint(JsonObject *object, const char *key, guint64 max, guint64 *ret, GError **error)
{
    JsonNode *node = json_object_get_member(object, key);

    if (!node) {
        bad_message(error, key, "is missing");
        return FALSE;
    }
    if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_INT64 ||
        json_node_get_int(node) < 0 || (guint64) json_node_get_int(node) > max) {
        bad_message(error, key, "is not an integer in its range");
        return FALSE;
    }
    *ret = (guint64) json_node_get_int(node);
    return TRUE;
}
