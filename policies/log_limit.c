/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/log_limit.h"

/* More keys than a host has peers; then all begin anew. */
#define PEERS_MAX 1024

typedef struct {
    guint lines; /* that may be written now */
    guint suppressed;
    gint64 since_us; /* up to when lines were credited */
    gint64 said_us;  /* when it was said last, or had not to be, how many were suppressed */
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
        if (bucket->suppressed++ == 0)
            bucket->said_us = now_us;
        return FALSE;
    }
    bucket->lines--;
    *ret_suppressed = bucket->suppressed;
    bucket->suppressed = 0;
    return TRUE;
}

guint
vr_log_limit_left_out(VrLogLimit *self, gint64 now_us, char **ret_peer)
{
    GHashTableIter iter;
    gpointer peer, value;

    g_hash_table_iter_init(&iter, self->buckets);
    while (g_hash_table_iter_next(&iter, &peer, &value)) {
        Bucket *bucket = value;
        guint suppressed = bucket->suppressed;

        if (suppressed == 0 || now_us - bucket->said_us < VR_LOG_LIMIT_SAY_US)
            continue;
        bucket->suppressed = 0;
        *ret_peer = g_strdup(peer);
        return suppressed;
    }
    return 0;
}
