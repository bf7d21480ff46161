/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_json.h"

#include "plugin/cli/cli_format.h"
#include "policies/display.h"
#include "storage/util/json_util.h"

JsonObject *
vr_cli_json_object(JsonNode *node)
{
    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

JsonObject *
vr_cli_json_member(JsonObject *object, const char *key)
{
    return object ? vr_cli_json_object(json_object_get_member(object, key)) : NULL;
}

GPtrArray *
vr_cli_json_objects(JsonNode *node)
{
    GPtrArray *objects = g_ptr_array_new();
    JsonArray *array = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;

    for (guint i = 0; array && i < json_array_get_length(array); i++) {
        JsonObject *object = vr_cli_json_object(json_array_get_element(array, i));

        if (object)
            g_ptr_array_add(objects, object);
    }
    return objects;
}

GPtrArray *
vr_cli_json_member_objects(JsonObject *object, const char *key)
{
    return vr_cli_json_objects(object ? json_object_get_member(object, key) : NULL);
}

/* The scalar behind @key, NULL for null, arrays and objects. */
static JsonNode *
scalar(JsonObject *object, const char *key)
{
    JsonNode *node = object ? json_object_get_member(object, key) : NULL;

    return node && JSON_NODE_HOLDS_VALUE(node) ? node : NULL;
}

const char *
vr_cli_json_string(JsonObject *object, const char *key)
{
    JsonNode *node = scalar(object, key);

    return node && json_node_get_value_type(node) == G_TYPE_STRING ? json_node_get_string(node)
                                                                   : NULL;
}

gboolean
vr_cli_json_number(JsonObject *object, const char *key, double *ret_value)
{
    JsonNode *node = scalar(object, key);
    GType type = node ? json_node_get_value_type(node) : G_TYPE_INVALID;

    if (type != G_TYPE_INT64 && type != G_TYPE_DOUBLE)
        return FALSE;
    *ret_value = json_node_get_double(node);
    return TRUE;
}

gint64
vr_cli_json_int(JsonObject *object, const char *key, gint64 fallback)
{
    JsonNode *node = scalar(object, key);

    return node && json_node_get_value_type(node) == G_TYPE_INT64 ? json_node_get_int(node)
                                                                  : fallback;
}

gboolean
vr_cli_json_bool(JsonObject *object, const char *key)
{
    JsonNode *node = scalar(object, key);

    return node && json_node_get_value_type(node) == G_TYPE_BOOLEAN && json_node_get_boolean(node);
}

char *
vr_cli_json_text(JsonObject *object, const char *key)
{
    JsonNode *node = scalar(object, key);

    if (!node)
        return NULL;
    if (json_node_get_value_type(node) == G_TYPE_BOOLEAN)
        return g_strdup(json_node_get_boolean(node) ? "yes" : "no");
    if (json_node_get_value_type(node) == G_TYPE_STRING)
        return json_node_dup_string(node);
    return vr_json_to_text(node);
}

char *
vr_cli_json_time(JsonObject *object, const char *key)
{
    const char *text = vr_cli_json_string(object, key);

    return text ? vr_cli_format_time(text) : NULL;
}

char *
vr_cli_json_size(JsonObject *object, const char *key)
{
    double bytes = 0;

    if (!vr_cli_json_number(object, key, &bytes) || bytes < 0 || bytes >= 0x1p63)
        return NULL;
    return vr_cli_format_size((guint64) bytes);
}

char *
vr_cli_json_interval(JsonObject *object, const char *key)
{
    double seconds = 0;

    if (!vr_cli_json_number(object, key, &seconds) || seconds < 0 || seconds >= 0x1p62)
        return NULL;
    return vr_cli_format_interval((gint64) seconds);
}

void
vr_cli_json_set(JsonObject *object, const char *key, const char *value)
{
    if (value)
        json_object_set_string_member(object, key, value);
}

JsonNode *
vr_cli_json_node(JsonObject *object)
{
    JsonNode *node = json_node_alloc();

    json_node_init_object(node, object);
    json_object_unref(object);
    return node;
}

/* Of JSON only strings hold such characters, and there \\uNNNN means the same. */
static char *
escape_json(const char *text)
{
    GString *out = g_string_new(NULL);

    for (const char *p = text; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (vr_char_safe(c))
            g_string_append_unichar(out, c);
        else if (c > 0xffff)
            g_string_append_printf(out, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
        else
            g_string_append_printf(out, "\\u%04x", c);
    }
    return g_string_free(out, FALSE);
}

void
vr_cli_json_print(FILE *out, JsonNode *node)
{
    g_autofree char *text = node ? vr_json_to_text(node) : g_strdup("{}");
    g_autofree char *safe = escape_json(text);

    fprintf(out, "%s\n", safe);
}
