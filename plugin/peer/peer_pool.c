/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_pool.h"

struct _VrPeerPool {
    VrState *state;             /* borrowed */
    const VrIdentity *identity; /* borrowed */
    GMutex lock;                /* guards what follows */
    GHashTable *clients; /* owned: "fingerprint address" -> VrPeerClient; an address that changed
                            makes a new one */
};

VrPeerPool *
vr_peer_pool_new(VrState *state, const VrIdentity *identity)
{
    VrPeerPool *self = g_new0(VrPeerPool, 1);

    self->state = state;
    self->identity = identity;
    g_mutex_init(&self->lock);
    self->clients = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                          (GDestroyNotify) vr_peer_client_free);
    return self;
}

void
vr_peer_pool_free(VrPeerPool *self)
{
    if (self == NULL)
        return;
    g_hash_table_unref(self->clients);
    g_mutex_clear(&self->lock);
    g_free(self);
}

VrPeerClient *
vr_peer_pool_get(VrPeerPool *self, const char *peer, GError **error)
{
    g_autoptr(VrPeer) row = vr_state_peer_get(self->state, peer, error);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = NULL;
    g_autofree char *key = NULL;
    VrPeerClient *client;

    if (row == NULL)
        return NULL;
    key = g_strdup_printf("%s %s", row->fingerprint, row->address);
    locker = g_mutex_locker_new(&self->lock);
    client = g_hash_table_lookup(self->clients, key);
    if (client != NULL)
        return client;
    client = vr_peer_client_new(row->name, row->address, row->fingerprint,
                                vr_identity_cert_path(self->identity),
                                vr_identity_key_path(self->identity), error);
    if (client != NULL)
        g_hash_table_insert(self->clients, g_steal_pointer(&key), client);
    return client;
}
