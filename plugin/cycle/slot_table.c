/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/slot_table.h"

struct _VrSlotPeer {
    VrSlotUse use;
    guint protections;
};

typedef struct {
    VrSlotPeer *peer; /* borrowed */
    VrSlotClass class;
} Taken;

struct _VrSlotTable {
    VrSlots slots;
    GHashTable *peers;  /* owned: fingerprint (owned) -> VrSlotPeer (owned) */
    guint active_peers; /* those with protections */
    GHashTable *taken;  /* owned: UUID (owned) -> Taken (owned) */
};

VrSlotTable *
vr_slot_table_new(guint max)
{
    VrSlotTable *self = g_new0(VrSlotTable, 1);

    self->slots.max = max;
    self->peers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return self;
}

void
vr_slot_table_free(VrSlotTable *self)
{
    if (self == NULL)
        return;
    g_hash_table_unref(self->taken);
    g_hash_table_unref(self->peers);
    g_free(self);
}

const VrSlots *
vr_slot_table_slots(const VrSlotTable *self)
{
    return &self->slots;
}

VrSlotPeer *
vr_slot_table_peer(VrSlotTable *self, const char *fingerprint)
{
    const char *key = fingerprint != NULL ? fingerprint : "";
    VrSlotPeer *peer = g_hash_table_lookup(self->peers, key);

    if (peer == NULL) {
        peer = g_new0(VrSlotPeer, 1);
        g_hash_table_insert(self->peers, g_strdup(key), peer);
    }
    return peer;
}

void
vr_slot_table_move(VrSlotTable *self, VrSlotPeer **place, VrSlotPeer *peer)
{
    if (*place != NULL && --(*place)->protections == 0)
        self->active_peers--;
    *place = peer;
    if (peer != NULL && peer->protections++ == 0)
        self->active_peers++;
}

VrSlotWaiter
vr_slot_table_waiter(const VrSlotTable *self, const VrSlotPeer *peer, VrSlotClass class,
                     gint64 since_us)
{
    guint others = self->active_peers - (peer->protections > 0 ? 1 : 0);

    return (VrSlotWaiter){class, since_us, peer->use, others > 0};
}

static void
count(VrSlotUse *use, VrSlotClass class, int by)
{
    use->used += (guint) by;
    use->used_long += class == VR_SLOT_LONG ? (guint) by : 0;
}

void
vr_slot_table_use(VrSlotTable *self, VrSlotPeer *peer, VrSlotClass class)
{
    count(&self->slots.all, class, 1);
    count(&peer->use, class, 1);
}

void
vr_slot_table_free_one(VrSlotTable *self, VrSlotPeer *peer, VrSlotClass class)
{
    count(&self->slots.all, class, -1);
    count(&peer->use, class, -1);
}

void
vr_slot_table_take(VrSlotTable *self, const char *uuid, VrSlotPeer *peer, VrSlotClass class)
{
    Taken *taken = g_new(Taken, 1);

    taken->peer = peer;
    taken->class = class;
    vr_slot_table_use(self, peer, class);
    g_hash_table_insert(self->taken, g_strdup(uuid), taken);
}

gboolean
vr_slot_table_has(const VrSlotTable *self, const char *uuid)
{
    return g_hash_table_contains(self->taken, uuid);
}

gboolean
vr_slot_table_give_back(VrSlotTable *self, const char *uuid)
{
    const Taken *taken = g_hash_table_lookup(self->taken, uuid);

    if (taken == NULL)
        return FALSE;
    vr_slot_table_free_one(self, taken->peer, taken->class);
    g_hash_table_remove(self->taken, uuid);
    return TRUE;
}
