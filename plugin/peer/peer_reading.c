/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_reading.h"

#include "storage/wire/token_bucket.h"

#define LOOK_AGAIN_US (G_TIME_SPAN_MILLISECOND * 200)
#define HURRY_EACH_US G_TIME_SPAN_HOUR

struct _VrPeerReading {
    VrTokenBucket *bucket; /* owned; NULL: no limit */
    GMutex lock;           /* guards what follows */
    GCond ended;
    GHashTable *readers; /* owned: peers that read */
    GHashTable *hurried; /* owned: UUID (owned) -> when (owned; monotonic) */
};

VrPeerReading *
vr_peer_reading_new(guint64 rate)
{
    VrPeerReading *self = g_new0(VrPeerReading, 1);

    self->bucket = rate ? vr_token_bucket_new(rate) : NULL;
    g_mutex_init(&self->lock);
    g_cond_init(&self->ended);
    self->readers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->hurried = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return self;
}

void
vr_peer_reading_free(VrPeerReading *self)
{
    if (self == NULL)
        return;
    g_clear_pointer(&self->bucket, vr_token_bucket_free);
    g_hash_table_unref(self->hurried);
    g_hash_table_unref(self->readers);
    g_cond_clear(&self->ended);
    g_mutex_clear(&self->lock);
    g_free(self);
}

gboolean
vr_peer_reading_begin(VrPeerReading *self, const char *peer, GCancellable *cancel)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    while (!g_cancellable_is_cancelled(cancel)) {
        if (!g_hash_table_contains(self->readers, peer))
            return g_hash_table_add(self->readers, g_strdup(peer));
        (void) g_cond_wait_until(&self->ended, &self->lock, g_get_monotonic_time() + LOOK_AGAIN_US);
    }
    return FALSE;
}

void
vr_peer_reading_end(VrPeerReading *self, const char *peer)
{
    g_mutex_lock(&self->lock);
    g_hash_table_remove(self->readers, peer);
    g_cond_broadcast(&self->ended);
    g_mutex_unlock(&self->lock);
}

static gboolean
is_over(gpointer key G_GNUC_UNUSED, gpointer when, gpointer now)
{
    return *(const gint64 *) now - *(const gint64 *) when >= HURRY_EACH_US;
}

gboolean
vr_peer_reading_may_hurry(VrPeerReading *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    gint64 now = g_get_monotonic_time();

    g_hash_table_foreach_remove(self->hurried, is_over, &now);
    if (g_hash_table_contains(self->hurried, uuid))
        return FALSE;
    g_hash_table_insert(self->hurried, g_strdup(uuid), g_memdup2(&now, sizeof now));
    return TRUE;
}

gboolean
vr_peer_reading_take(VrPeerReading *self, guint64 bytes, GCancellable *cancel)
{
    return self->bucket == NULL || vr_token_bucket_take(self->bucket, bytes, cancel);
}
