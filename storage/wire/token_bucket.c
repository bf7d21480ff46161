/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/wire/token_bucket.h"

#define SAVED_US (G_USEC_PER_SEC / 10)
#define SLICE_US (G_USEC_PER_SEC / 50) /* between two looks at the cancellable */

struct _VrTokenBucket {
    guint64 bytes_per_second;
    GMutex lock;
    gint64 spent_until_us; /* under lock; monotonic: all before it is given away */
};

VrTokenBucket *
vr_token_bucket_new(guint64 bytes_per_second)
{
    VrTokenBucket *self = g_new0(VrTokenBucket, 1);

    self->bytes_per_second = MAX(bytes_per_second, (guint64) 1);
    g_mutex_init(&self->lock);
    return self;
}

void
vr_token_bucket_free(VrTokenBucket *self)
{
    if (!self)
        return;
    g_mutex_clear(&self->lock);
    g_free(self);
}

/* Takes the bytes' share of time; answers when it ends. */
static gint64
book(VrTokenBucket *self, guint64 bytes)
{
    gint64 oldest_us = g_get_monotonic_time() - SAVED_US;
    gint64 end_us;

    g_mutex_lock(&self->lock);
    end_us = MAX(self->spent_until_us, oldest_us) +
             (gint64) (bytes * G_USEC_PER_SEC / self->bytes_per_second);
    self->spent_until_us = end_us;
    g_mutex_unlock(&self->lock);
    return end_us;
}

gboolean
vr_token_bucket_take(VrTokenBucket *self, guint64 bytes, GCancellable *cancel)
{
    gint64 end_us = book(self, bytes);

    for (;;) {
        gint64 left_us = end_us - g_get_monotonic_time();

        if (g_cancellable_is_cancelled(cancel))
            return FALSE;
        if (left_us <= 0)
            return TRUE;
        g_usleep((gulong) MIN(left_us, SLICE_US));
    }
}
