/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/network_map.h"

#include <string.h>

#include "policies/error.h"
#include "policies/ids.h"

struct _VrNetworkMap {
    GPtrArray *entries; /* owned, VrNetworkMapEntry */
};

static void
entry_free(gpointer data)
{
    VrNetworkMapEntry *entry = data;

    g_free(entry->peer);
    g_free(entry->source);
    g_free(entry->target);
    g_free(entry->test);
    g_free(entry);
}

VrNetworkMap *
vr_network_map_new(void)
{
    VrNetworkMap *self = g_new(VrNetworkMap, 1);

    self->entries = g_ptr_array_new_with_free_func(entry_free);
    return self;
}

void
vr_network_map_free(VrNetworkMap *self)
{
    if (!self)
        return;
    g_ptr_array_unref(self->entries);
    g_free(self);
}

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
find(const VrNetworkMap *self, const char *peer, const char *source, guint *ret_index)
{
    for (guint i = 0; i < self->entries->len; i++) {
        const VrNetworkMapEntry *entry = g_ptr_array_index(self->entries, i);

        if (g_strcmp0(entry->peer, peer) == 0 && g_strcmp0(entry->source, source) == 0) {
            *ret_index = i;
            return TRUE;
        }
    }
    return FALSE;
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
vr_network_map_set(VrNetworkMap *self, const char *peer, const char *source, const char *target,
                   const char *test, GError **error)
{
    VrNetworkMapEntry *entry;
    guint index;

    if (!vr_name_valid(peer)) {
        g_autofree char *shown = vr_display_name(peer, VR_NAME_MAX);

        vr_set_error(error, VR_ERROR_INVALID, "bad-peer-name", "Use a name that peer-list shows.",
                     "'%s' is not a peer name", shown);
        return FALSE;
    }
    if (!check_network(source, "source", error) || !check_network(target, "target", error) ||
        (test && !check_network(test, "test", error)))
        return FALSE;
    entry = g_new(VrNetworkMapEntry, 1);
    *entry =
        (VrNetworkMapEntry){g_strdup(peer), g_strdup(source), g_strdup(target), g_strdup(test)};
    if (find(self, peer, source, &index)) {
        entry_free(g_ptr_array_index(self->entries, index));
        g_ptr_array_index(self->entries, index) = entry;
    } else {
        g_ptr_array_add(self->entries, entry);
    }
    return TRUE;
}

gboolean
vr_network_map_unset(VrNetworkMap *self, const char *peer, const char *source, GError **error)
{
    guint index;

    if (find(self, peer, source, &index)) {
        g_ptr_array_remove_index(self->entries, index);
        return TRUE;
    }
    vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-mapping", "See netmap-list.",
                 "network '%s' is not mapped for peer '%s'", source, peer);
    return FALSE;
}

const VrNetworkMapEntry *
vr_network_map_lookup(const VrNetworkMap *self, const char *peer, const char *source)
{
    guint index;

    return find(self, peer, source, &index) ? g_ptr_array_index(self->entries, index) : NULL;
}

char **
vr_network_map_missing(const VrNetworkMap *self, const char *peer, const char *const *sources)
{
    g_autoptr(GStrvBuilder) missing = g_strv_builder_new();

    for (guint i = 0; sources[i]; i++) {
        gboolean again = FALSE;

        for (guint k = 0; k < i; k++)
            again = again || strcmp(sources[k], sources[i]) == 0;
        if (!again && !vr_network_map_lookup(self, peer, sources[i]))
            g_strv_builder_add(missing, sources[i]);
    }
    return g_strv_builder_end(missing);
}

guint
vr_network_map_count(const VrNetworkMap *self)
{
    return self->entries->len;
}

const VrNetworkMapEntry *
vr_network_map_get(const VrNetworkMap *self, guint i)
{
    g_return_val_if_fail(i < self->entries->len, NULL);
    return g_ptr_array_index(self->entries, i);
}
