/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/scrub.h"

#include "policies/error.h"
#include "storage/replica_verify.h"
#include "storage/source_policy.h"
#include "storage/token_bucket.h"

#define PAUSE_US G_TIME_SPAN_MINUTE
#define LOOK_US G_TIME_SPAN_HOUR

struct _VrScrub {
    VrApp *app;            /* borrowed */
    GThread *thread;       /* owned */
    GCancellable *cancel;  /* owned */
    VrTokenBucket *bucket; /* owned; NULL: no limit */
    GMutex lock;
    GCond woken;
};

typedef struct {
    VrScrub *scrub;
    VrReplica *replica;
} Reading;

static gboolean
pace(gsize bytes, gpointer data, GError **error)
{
    Reading *reading = data;
    VrScrub *self = reading->scrub;

    if ((self->bucket == NULL || vr_token_bucket_take(self->bucket, bytes, self->cancel)) &&
        !g_cancellable_is_cancelled(self->cancel) &&
        !vr_replicas_is_closing(self->app->replicas, reading->replica))
        return TRUE;
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "the reading was ended");
    return FALSE;
}

/* One layer of it, which merges leave out meanwhile: they are due again. TRUE if there may be more
 * to do. */
static gboolean
scrub_one(VrScrub *self, const VrProtection *row)
{
    VrReplica *replica = vr_replicas_get(self->app->replicas, row->uuid, NULL);
    Reading reading = {self, replica};
    g_autoptr(GError) error = NULL;
    gboolean any = FALSE;

    if (replica == NULL)
        return FALSE;
    if (!vr_replica_scrub(replica, g_get_real_time() - vr_source_policy_verify_us(row), pace,
                          &reading, &any, &error)) {
        if (!g_error_matches(error, VR_ERROR, VR_ERROR_CANCELLED))
            g_warning("domain '%s': its replica could not be read in the background: %s", row->name,
                      error->message);
        any = FALSE;
    }
    if (vr_replica_merges_left_out(replica))
        vr_replicas_retain(self->app->replicas, row->uuid);
    vr_replicas_put(self->app->replicas, replica);
    return any;
}

static void
look_at_one(VrScrub *self, const VrProtection *row)
{
    g_autoptr(GError) error = NULL;
    VrReplica *replica = vr_replicas_get(self->app->replicas, row->uuid, &error);
    gboolean ok = replica != NULL && vr_replica_look(replica, &error);

    if (replica != NULL)
        vr_replicas_put(self->app->replicas, replica);
    if (!ok && !g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND))
        g_warning("domain '%s': the layers of its replica could not be looked at: %s", row->name,
                  error->message);
}

/* TRUE if there may be more to do. */
static gboolean
pass(VrScrub *self, gboolean look)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(self->app->state, NULL);
    gboolean more = FALSE;

    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);

        if (g_cancellable_is_cancelled(self->cancel))
            return FALSE;
        if (row->role != VR_ROLE_TARGET)
            continue;
        if (look)
            look_at_one(self, row);
        more |= scrub_one(self, row);
    }
    return more;
}

static void
wait_pause(VrScrub *self)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    gint64 until = g_get_monotonic_time() + PAUSE_US;

    while (!g_cancellable_is_cancelled(self->cancel) &&
           g_cond_wait_until(&self->woken, &self->lock, until))
        ;
}

static gpointer
scrub_thread(gpointer data)
{
    VrScrub *self = data;
    gint64 look_at = 0;

    while (!g_cancellable_is_cancelled(self->cancel)) {
        gint64 now = g_get_monotonic_time();
        gboolean look = now >= look_at;

        if (look)
            look_at = now + LOOK_US;
        if (!pass(self, look))
            wait_pause(self);
    }
    return NULL;
}

VrScrub *
vr_scrub_start(VrApp *app)
{
    VrScrub *self = g_new0(VrScrub, 1);

    self->app = app;
    self->cancel = g_cancellable_new();
    self->bucket = app->config->verify_rate ? vr_token_bucket_new(app->config->verify_rate) : NULL;
    g_mutex_init(&self->lock);
    g_cond_init(&self->woken);
    self->thread = g_thread_new("scrub", scrub_thread, self);
    return self;
}

void
vr_scrub_stop(VrScrub *self)
{
    if (self == NULL)
        return;
    g_cancellable_cancel(self->cancel);
    g_mutex_lock(&self->lock);
    g_cond_broadcast(&self->woken);
    g_mutex_unlock(&self->lock);
    g_thread_join(self->thread);
    g_clear_pointer(&self->bucket, vr_token_bucket_free);
    g_object_unref(self->cancel);
    g_cond_clear(&self->woken);
    g_mutex_clear(&self->lock);
    g_free(self);
}
