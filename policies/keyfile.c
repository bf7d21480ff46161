/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/keyfile.h"

#include <string.h>

#include "policies/did_you_mean.h"
#include "policies/error.h"
#include "policies/units.h"

#define LINE_MAX_BYTES 1000

static void G_GNUC_PRINTF(4, 5)
    refuse(GError **error, const char *file, guint line, const char *format, ...)
{
    g_autofree char *message = NULL;
    va_list args;

    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    vr_set_error(error, VR_ERROR_INVALID, "bad-key-file", "Correct that line.", "%s:%u: %s", file,
                 line, message);
}

static void
entry_free(gpointer data)
{
    VrKeyfileEntry *entry = data;

    g_free(entry->group);
    g_free(entry->key);
    g_free(entry->value);
    g_free(entry);
}

static gboolean
comment_behind(const char *value)
{
    for (const char *c = value; *c; c++) {
        if ((*c == '#' || *c == ';') && (c == value || g_ascii_isspace(c[-1])))
            return TRUE;
    }
    return FALSE;
}

/* The name in "[name]"; NULL if that is not what the line is. (transfer full) */
static char *
group_name(const char *line)
{
    gsize length = strlen(line);
    g_autofree char *name = NULL;

    if (length < 3 || line[length - 1] != ']')
        return NULL;
    name = g_strstrip(g_strndup(line + 1, length - 2));
    return *name && !strpbrk(name, "[]") ? g_steal_pointer(&name) : NULL;
}

static gboolean
scan_entry(const char *file, guint number, char *line, const char *group, GPtrArray *entries,
           GError **error)
{
    char *equals = strchr(line, '=');
    VrKeyfileEntry *entry;

    if (!equals || equals == line) {
        refuse(error, file, number, "expected 'key = value', '[group]' or a comment");
        return FALSE;
    }
    *equals = '\0';
    if (!group) {
        refuse(error, file, number, "'%s' stands before the first [group]", g_strstrip(line));
        return FALSE;
    }
    if (comment_behind(equals + 1) && *g_strstrip(equals + 1)) {
        refuse(error, file, number,
               "a comment behind a value would be part of it; put it on a line of its own");
        return FALSE;
    }
    entry = g_new0(VrKeyfileEntry, 1);
    entry->group = g_strdup(group);
    entry->key = g_strdup(g_strstrip(line));
    entry->value = g_strdup(g_strstrip(equals + 1));
    entry->line = number;
    g_ptr_array_add(entries, entry);
    return TRUE;
}

static gboolean
check_text(const char *file, const char *text, gsize length, GError **error)
{
    const char *bad;
    guint line = 1;

    if (length > VR_KEYFILE_SIZE_MAX) {
        refuse(error, file, 1, "larger than %d bytes", VR_KEYFILE_SIZE_MAX);
        return FALSE;
    }
    if (g_utf8_validate_len(text, length, &bad))
        return TRUE;
    for (const char *c = text; c < bad; c++)
        line += *c == '\n';
    refuse(error, file, line, "not UTF-8 text");
    return FALSE;
}

GPtrArray *
vr_keyfile_scan(const char *file, const char *text, gsize length, GError **error)
{
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func(entry_free);
    g_autoptr(GHashTable) groups = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char *copy = NULL;
    g_auto(GStrv) lines = NULL;
    g_autofree char *group = NULL;

    if (!check_text(file, text, length, error))
        return NULL;
    copy = g_strndup(text, length);
    lines = g_strsplit(copy, "\n", -1);
    for (guint i = 0; lines[i]; i++) {
        char *line = g_strstrip(lines[i]);

        if (strlen(line) > LINE_MAX_BYTES) {
            refuse(error, file, i + 1, "line longer than %d bytes", LINE_MAX_BYTES);
            return NULL;
        }
        if (*line == '\0' || *line == '#' || *line == ';')
            continue;
        if (*line != '[') {
            if (!scan_entry(file, i + 1, line, group, entries, error))
                return NULL;
            continue;
        }
        g_free(group);
        group = group_name(line);
        if (!group || !g_hash_table_add(groups, g_strdup(group))) {
            refuse(error, file, i + 1, group ? "group %s again" : "'%s' is not a [group]", line);
            return NULL;
        }
    }
    return g_steal_pointer(&entries);
}

static gboolean
in_range(const VrKeySpec *spec, guint64 value)
{
    return value <= G_MAXINT64 && (gint64) value >= spec->min &&
           (spec->max == 0 || (gint64) value <= spec->max);
}

static char *
print_number(const VrKeySpec *spec, guint64 value)
{
    if (spec->type == VR_KEY_DURATION)
        return vr_duration_format((gint64) value);
    if (spec->type == VR_KEY_SIZE)
        return vr_size_format(value);
    if (spec->type == VR_KEY_RATE)
        return vr_rate_format(value);
    return g_strdup_printf("%" G_GUINT64_FORMAT "%s", value,
                           spec->type == VR_KEY_PERCENT ? "%" : "");
}

/* Says the range in the unit of the key. */
static void
refuse_range(const VrKeySpec *spec, const char *value, guint64 number, GError **error)
{
    g_autofree char *min = print_number(spec, (guint64) spec->min);
    g_autofree char *max = print_number(spec, (guint64) spec->max);

    if (spec->max != 0)
        vr_set_error(error, VR_ERROR_INVALID, "bad-value", NULL, "'%s' is not within %s to %s",
                     value, min, max);
    else
        vr_set_error(error, VR_ERROR_INVALID, "bad-value", NULL, "'%s' is %s %s", value,
                     number > G_MAXINT64 ? "too far above" : "below", min);
}

static gboolean
parse_number(const VrKeySpec *spec, const char *value, guint64 *ret_number, GError **error)
{
    guint percent = 0;
    gint64 us = 0;
    gboolean ok;

    if (g_strcmp0(value, spec->zero_word) == 0) {
        *ret_number = 0;
        return TRUE;
    }
    if (spec->type == VR_KEY_DURATION) {
        ok = vr_duration_parse(value, &us, error);
        *ret_number = (guint64) us;
    } else if (spec->type == VR_KEY_SIZE) {
        ok = vr_size_parse(value, ret_number, error);
    } else if (spec->type == VR_KEY_RATE) {
        ok = vr_rate_parse(value, ret_number, error);
    } else if (spec->type == VR_KEY_PERCENT) {
        ok = vr_percent_parse(value, &percent, error);
        *ret_number = percent;
    } else {
        ok = g_ascii_string_to_unsigned(value, 10, 0, G_MAXUINT, ret_number, NULL);
        if (!ok)
            vr_set_error(error, VR_ERROR_INVALID, "bad-value", NULL, "'%s' is not a number", value);
    }
    if (!ok)
        return FALSE;
    if (in_range(spec, *ret_number))
        return TRUE;
    refuse_range(spec, value, *ret_number, error);
    return FALSE;
}

static gboolean
parse_word(const char *value, const char *const *names, guint *ret_index, GError **error)
{
    g_autofree char *list = NULL;

    for (guint i = 0; names[i]; i++) {
        if (strcmp(names[i], value) == 0) {
            *ret_index = i;
            return TRUE;
        }
    }
    list = g_strjoinv(", ", (char **) names);
    vr_set_error(error, VR_ERROR_INVALID, "bad-value", NULL, "'%s' is not one of %s", value, list);
    return FALSE;
}

static const char *const yes_no[] = {"no", "yes", NULL};

static gboolean
store(const VrKeySpec *spec, const char *value, gpointer field, GError **error)
{
    guint64 number = 0;
    guint word = 0;

    switch (spec->type) {
    case VR_KEY_STRING:
        g_free(*(char **) field);
        *(char **) field = g_strdup(value);
        return TRUE;
    case VR_KEY_BOOL:
        if (!parse_word(value, yes_no, &word, error))
            return FALSE;
        *(gboolean *) field = word == 1;
        return TRUE;
    case VR_KEY_ENUM:
        if (!parse_word(value, spec->names, &word, error))
            return FALSE;
        *(guint *) field = word;
        return TRUE;
    case VR_KEY_UINT:
    case VR_KEY_PERCENT:
        if (!parse_number(spec, value, &number, error))
            return FALSE;
        *(guint *) field = (guint) number;
        return TRUE;
    case VR_KEY_DURATION:
    case VR_KEY_SIZE:
    case VR_KEY_RATE:
        if (!parse_number(spec, value, &number, error))
            return FALSE;
        *(guint64 *) field = number;
        return TRUE;
    case VR_KEY_CUSTOM:
        return spec->parse(value, field, error);
    }
    return FALSE;
}

static const VrKeySpec *
find_spec(const char *file, const VrKeyfileEntry *entry, const VrKeySpec *specs, guint n_specs,
          GError **error)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    const char *meant;

    for (guint i = 0; i < n_specs; i++) {
        if (strcmp(specs[i].group, entry->group) != 0)
            continue;
        if (strcmp(specs[i].key, entry->key) == 0)
            return &specs[i];
        g_ptr_array_add(keys, (gpointer) specs[i].key);
    }
    if (keys->len == 0) {
        refuse(error, file, entry->line, "'%s' stands in the unknown group [%s]", entry->key,
               entry->group);
        return NULL;
    }
    g_ptr_array_add(keys, NULL);
    meant = vr_did_you_mean(entry->key, (const char *const *) keys->pdata);
    if (meant)
        refuse(error, file, entry->line, "unknown key '%s' in [%s] (did you mean '%s'?)",
               entry->key, entry->group, meant);
    else
        refuse(error, file, entry->line, "unknown key '%s' in [%s]", entry->key, entry->group);
    return NULL;
}

/* Also those without a key in them, which are what somebody meant to be taken. */
static gboolean
check_groups(const char *file, const char *text, gsize length, const VrKeySpec *specs,
             guint n_specs, GError **error)
{
    g_autofree char *copy = g_strndup(text, length);
    g_auto(GStrv) lines = g_strsplit(copy, "\n", -1);

    for (guint i = 0; lines[i]; i++) {
        const char *line = g_strstrip(lines[i]);
        g_autofree char *group = *line == '[' ? group_name(line) : NULL;
        gboolean known = group == NULL;

        for (guint k = 0; !known && k < n_specs; k++)
            known = strcmp(specs[k].group, group) == 0;
        if (!known) {
            refuse(error, file, i + 1, "unknown group [%s]", group);
            return FALSE;
        }
    }
    return TRUE;
}

gboolean
vr_keyfile_parse(const char *file, const char *text, gsize length, const VrKeySpec *specs,
                 guint n_specs, gpointer target, GError **error)
{
    g_autoptr(GPtrArray) entries = vr_keyfile_scan(file, text, length, error);
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL); /* spec -> entry, both borrowed */

    if (!entries)
        return FALSE;
    for (guint i = 0; i < entries->len; i++) {
        const VrKeyfileEntry *entry = g_ptr_array_index(entries, i);
        const VrKeySpec *spec = find_spec(file, entry, specs, n_specs, error);
        const VrKeyfileEntry *before;
        g_autoptr(GError) cause = NULL;

        if (!spec)
            return FALSE;
        before = g_hash_table_lookup(seen, spec);
        if (before && !spec->repeatable) {
            refuse(error, file, entry->line, "'%s' again, it is set in line %u", entry->key,
                   before->line);
            return FALSE;
        }
        g_hash_table_insert(seen, (gpointer) spec, (gpointer) entry);
        if (!store(spec, entry->value, (char *) target + spec->offset, &cause)) {
            refuse(error, file, entry->line, "%s: %s", entry->key, cause->message);
            return FALSE;
        }
    }
    return check_groups(file, text, length, specs, n_specs, error);
}

static char *
print_value(const VrKeySpec *spec, gconstpointer field)
{
    guint64 number = 0;

    switch (spec->type) {
    case VR_KEY_STRING:
        return g_strdup(*(char *const *) field);
    case VR_KEY_BOOL:
        return g_strdup(*(const gboolean *) field ? "yes" : "no");
    case VR_KEY_ENUM:
        return g_strdup(spec->names[*(const guint *) field]);
    case VR_KEY_UINT:
    case VR_KEY_PERCENT:
        number = *(const guint *) field;
        break;
    case VR_KEY_DURATION:
    case VR_KEY_SIZE:
    case VR_KEY_RATE:
        number = *(const guint64 *) field;
        break;
    case VR_KEY_CUSTOM:
        return NULL;
    }
    if (number == 0 && spec->zero_word)
        return g_strdup(spec->zero_word);
    return print_number(spec, number);
}

char *
vr_keyfile_print(const VrKeySpec *specs, guint n_specs, gconstpointer source)
{
    GString *out = g_string_new(NULL);
    const char *group = NULL;

    for (guint i = 0; i < n_specs; i++) {
        gconstpointer field = (const char *) source + specs[i].offset;
        g_autofree char *value = print_value(&specs[i], field);

        if (g_strcmp0(group, specs[i].group) != 0) {
            group = specs[i].group;
            g_string_append_printf(out, "%s[%s]\n", i > 0 ? "\n" : "", group);
        }
        if (specs[i].type == VR_KEY_CUSTOM)
            specs[i].print(specs[i].key, field, out);
        else if (value)
            g_string_append_printf(out, "%s = %s\n", specs[i].key, value);
    }
    return g_string_free(out, FALSE);
}
