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

static gboolean
check_network(const char *name, const char *which, GError **error)
{
    g_autofree char *shown = NULL;

    if (vr_network_name_valid(name))
        return TRUE;
    shown = vr_display_name(name, 64);
    vr_set_error(error, VR_ERROR_INVALID, "bad-network-name",
                 "Use a name that 'virsh net-list --all' shows.",
                 "%s network: '%s' is not a network name", which, shown);
    return FALSE;
}

gboolean
vr_network_map_check(const char *source, const char *target, const char *test, GError **error)
{
    return check_network(source, "source", error) && check_network(target, "target", error) &&
           (!test || check_network(test, "test", error));
}
