/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/log_limit.h"

/* More keys than a host has peers; then all begin anew. */
#define PEERS_MAX 1024

typedef struct {
    guint lines; /* that may be written now */
    guint suppressed;
    gint64 since_us; /* up to when lines were credited */
} Bucket;

struct _VrLogLimit {
    GHashTable *buckets; /* owned; peer -> Bucket */
};

VrLogLimit *
vr_log_limit_new(void)
{
    VrLogLimit *self = g_new0(VrLogLimit, 1);

    self->buckets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return self;
}

void
vr_log_limit_free(VrLogLimit *self)
{
    if (!self)
        return;
    g_hash_table_unref(self->buckets);
    g_free(self);
}

static Bucket *
bucket_of(VrLogLimit *self, const char *peer, gint64 now_us)
{
    Bucket *bucket = g_hash_table_lookup(self->buckets, peer);

    if (bucket)
        return bucket;
    if (g_hash_table_size(self->buckets) >= PEERS_MAX)
        g_hash_table_remove_all(self->buckets);
    bucket = g_new0(Bucket, 1);
    bucket->lines = VR_LOG_LIMIT_LINES;
    bucket->since_us = now_us;
    g_hash_table_insert(self->buckets, g_strdup(peer), bucket);
    return bucket;
}

gboolean
vr_log_limit_take(VrLogLimit *self, const char *peer, gint64 now_us, guint *ret_suppressed)
{
    Bucket *bucket = bucket_of(self, peer, now_us);
    gint64 credit = MAX(now_us - bucket->since_us, 0) / VR_LOG_LIMIT_EVERY_US;

    bucket->since_us += credit * VR_LOG_LIMIT_EVERY_US;
    bucket->lines = (guint) MIN((gint64) bucket->lines + credit, (gint64) VR_LOG_LIMIT_LINES);
    if (bucket->lines == 0) {
        bucket->suppressed++;
        return FALSE;
    }
    bucket->lines--;
    *ret_suppressed = bucket->suppressed;
    bucket->suppressed = 0;
    return TRUE;
}
