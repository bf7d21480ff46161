/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/network_map.h"

#include <string.h>

#include "policies/error.h"
#include "policies/ids.h"

gboolean
vr_network_name_valid(const char *name)
{
    gsize length = name ? strnlen(name, 256) : 0;

    if (length == 0 || length > 255 || name[0] == '.' || name[0] == '-' ||
        !g_utf8_validate(name, (gssize) length, NULL))
        return FALSE;
    for (const char *c = name; *c; c = g_utf8_next_char(c)) {
        if (*c == '/' || !g_unichar_isprint(g_utf8_get_char(c)))
            return FALSE;
    }
    return TRUE;
}

/* @which: what kind of network, with a blank behind it, or "". */
static gboolean
check_network(const char *name, const char *which, GError **error)
{
    g_autofree char *shown = NULL;

    if (vr_network_name_valid(name))
        return TRUE;
    shown = vr_display_name(name, 64);
    vr_set_error(error, VR_ERROR_INVALID, "bad-network-name",
                 "Use a name that 'virsh net-list --all' shows.",
                 "%snetwork: '%s' is not a network name", which, shown);
    return FALSE;
}

gboolean
vr_network_map_check(const char *source, const char *target, const char *test, GError **error)
{
    return check_network(source, "source ", error) && check_network(target, "target ", error) &&
           (!test || check_network(test, "test ", error));
}

gboolean
vr_network_list_check(const char *const *names, GError **error)
{
    guint count = 0;

    for (; names[count]; count++) {
        if (count == VR_NETWORK_LIST_MAX) {
            vr_set_error(error, VR_ERROR_INVALID, "too-many-networks", "Name fewer networks.",
                         "a list of more than %d networks", VR_NETWORK_LIST_MAX);
            return FALSE;
        }
        if (!check_network(names[count], "", error))
            return FALSE;
    }
    return TRUE;
}

/* The next name; @text then stands behind its comma, or is NULL behind the last one. */
static char *
take_name(const char **text)
{
    GString *name = g_string_new(NULL);
    const char *c = *text;

    for (; *c && *c != ','; c++) {
        if (c[0] == '\\' && (c[1] == ',' || c[1] == '\\'))
            c++;
        g_string_append_c(name, *c);
    }
    *text = *c ? c + 1 : NULL;
    return g_strstrip(g_string_free(name, FALSE));
}

static int
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static void
sort_unique(GPtrArray *names)
{
    g_ptr_array_sort(names, compare_names);
    for (guint i = names->len; i > 1; i--) {
        if (strcmp(names->pdata[i - 1], names->pdata[i - 2]) == 0)
            g_ptr_array_remove_index(names, i - 1);
    }
}

char **
vr_network_list_parse(const char *text, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    if (strcmp(text, "-") == 0)
        return g_new0(char *, 1);
    while (text && names->len <= VR_NETWORK_LIST_MAX)
        g_ptr_array_add(names, take_name(&text));
    sort_unique(names);
    g_ptr_array_add(names, NULL);
    if (!vr_network_list_check((const char *const *) names->pdata, error))
        return NULL;
    return (char **) g_ptr_array_steal(names, NULL);
}

char *
vr_network_list_format(const char *const *names)
{
    GString *text = g_string_new(names[0] ? NULL : "-");

    for (guint i = 0; names[i]; i++) {
        if (i > 0)
            g_string_append_c(text, ',');
        for (const char *c = names[i]; *c; c++) {
            if (*c == ',' || *c == '\\')
                g_string_append_c(text, '\\');
            g_string_append_c(text, *c);
        }
    }
    return g_string_free(text, FALSE);
}
