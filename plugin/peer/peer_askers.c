/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_askers.h"

struct _VrPeerAskers {
    VrPeerAskFunc func;
    gpointer data;        /* borrowed */
    GThreadPool *pool;    /* owned; as many threads as there are peers to be asked */
    GCancellable *cancel; /* owned */
    GMutex lock;          /* guards what follows */
    GHashTable *asking;   /* owned: fingerprints (owned) */
};

static void
ask(gpointer data, gpointer user_data)
{
    VrPeerAskers *self = user_data;
    g_autofree char *fingerprint = data;

    if (!g_cancellable_is_cancelled(self->cancel))
        self->func(fingerprint, self->cancel, self->data);
    g_mutex_lock(&self->lock);
    g_hash_table_remove(self->asking, fingerprint);
    g_mutex_unlock(&self->lock);
}

VrPeerAskers *
vr_peer_askers_new(VrPeerAskFunc func, gpointer data)
{
    VrPeerAskers *self = g_new0(VrPeerAskers, 1);

    self->func = func;
    self->data = data;
    self->cancel = g_cancellable_new();
    g_mutex_init(&self->lock);
    self->asking = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->pool = g_thread_pool_new(ask, self, -1, FALSE, NULL);
    return self;
}

gboolean
vr_peer_askers_ask(VrPeerAskers *self, const char *fingerprint)
{
    gboolean begins;

    g_mutex_lock(&self->lock);
    begins = g_hash_table_add(self->asking, g_strdup(fingerprint));
    g_mutex_unlock(&self->lock);
    if (begins)
        (void) g_thread_pool_push(self->pool, g_strdup(fingerprint), NULL);
    return begins;
}

void
vr_peer_askers_free(VrPeerAskers *self)
{
    if (self == NULL)
        return;
    g_cancellable_cancel(self->cancel);
    g_thread_pool_free(self->pool, FALSE, TRUE);
    g_hash_table_unref(self->asking);
    g_object_unref(self->cancel);
    g_mutex_clear(&self->lock);
    g_free(self);
}
