/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/scrub.h"

#include "plugin/loop.h"
#include "policies/error.h"
#include "policies/said.h"
#include "storage/replica/replica_verify.h"
#include "storage/state/source_policy.h"
#include "storage/wire/token_bucket.h"

#define PAUSE_US G_TIME_SPAN_MINUTE

struct _VrScrub {
    VrApp *app;            /* borrowed */
    VrLoop *looks, *reads; /* owned */
    VrTokenBucket *bucket; /* owned; NULL: no limit */
};

typedef struct {
    VrScrub *scrub;
    VrLoop *loop;
    VrReplica *replica;
} Reading;

static gboolean
pace(gsize bytes, gpointer data, GError **error)
{
    Reading *reading = data;
    VrScrub *self = reading->scrub;

    if ((self->bucket == NULL ||
         vr_token_bucket_take(self->bucket, bytes, vr_loop_cancellable(reading->loop))) &&
        !vr_loop_ends(reading->loop) &&
        !vr_replicas_is_closing(self->app->replicas, reading->replica))
        return TRUE;
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "the reading was ended");
    return FALSE;
}

/* One that cannot be opened is the look's to tell. */
static gboolean
read_layer(VrScrub *self, VrLoop *loop, const VrProtection *row, GError **error)
{
    VrReplica *replica = vr_replicas_get(self->app->replicas, row->uuid, NULL);
    Reading reading = {self, loop, replica};
    gboolean any = FALSE, ok;

    if (replica == NULL)
        return FALSE;
    ok = vr_replica_scrub(replica, g_get_real_time() - vr_source_policy_verify_us(row), pace,
                          &reading, &any, error);
    vr_replicas_put(self->app->replicas, replica);
    return ok && any;
}

/* One layer of it, which merges leave out meanwhile: they are due again. TRUE if there may be more
 * to do. */
static gboolean
scrub_one(VrScrub *self, VrLoop *loop, VrSaid *said, const VrProtection *row)
{
    g_autoptr(GError) error = NULL;
    gboolean any = read_layer(self, loop, row, &error);

    if (g_error_matches(error, VR_ERROR, VR_ERROR_CANCELLED))
        return FALSE;
    if (vr_said_changed(said, row->uuid, error ? error->message : NULL) && error != NULL)
        g_warning("domain '%s': its replica could not be read in the background: %s", row->name,
                  error->message);
    return any;
}

/* A layer that was begun in the window is read to its end: one that takes longer than the window
 * would never be read otherwise. */
static gboolean
in_window(VrScrub *self)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();

    return vr_window_contains(&self->app->config->scrub_window, now);
}

/* TRUE if there may be more to do. */
static gboolean
scrub_all(VrScrub *self, VrLoop *loop, VrSaid *said)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(self->app->state, NULL);
    gboolean more = FALSE;

    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);

        if (vr_loop_ends(loop) || !in_window(self))
            return FALSE;
        if (row->role == VR_ROLE_TARGET)
            more |= scrub_one(self, loop, said, row);
    }
    return more;
}

static void
read_loop(VrLoop *loop, gpointer data)
{
    VrScrub *self = data;
    VrSaid *said = vr_said_new();

    while (!vr_loop_ends(loop)) {
        if (!scrub_all(self, loop, said))
            (void) vr_loop_wait(loop, g_get_monotonic_time() + PAUSE_US);
    }
    vr_said_free(said);
}

static gboolean
look_at(VrScrub *self, const VrProtection *row, GError **error)
{
    VrReplica *replica = vr_replicas_get(self->app->replicas, row->uuid, error);
    gboolean ok = replica != NULL && vr_replica_look(replica, error);

    if (replica != NULL)
        vr_replicas_put(self->app->replicas, replica);
    return ok;
}

static void
look_at_one(VrScrub *self, VrSaid *said, const VrProtection *row)
{
    g_autoptr(GError) error = NULL;
    gboolean wrong = !look_at(self, row, &error) &&
                     !g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND) &&
                     !g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT);

    if (vr_said_changed(said, row->uuid, wrong ? error->message : NULL) && wrong)
        g_warning("domain '%s': the layers of its replica could not be looked at: %s", row->name,
                  error->message);
}

static void
look_loop(VrLoop *loop, gpointer data)
{
    VrScrub *self = data;
    VrSaid *said = vr_said_new();

    while (!vr_loop_ends(loop)) {
        gint64 next = g_get_monotonic_time() + self->app->config->look_interval_us;
        g_autoptr(GPtrArray) rows = vr_state_protection_list(self->app->state, NULL);

        for (guint i = 0; rows != NULL && i < rows->len && !vr_loop_ends(loop); i++) {
            const VrProtection *row = g_ptr_array_index(rows, i);

            if (row->role == VR_ROLE_TARGET)
                look_at_one(self, said, row);
        }
        (void) vr_loop_wait(loop, next);
    }
    vr_said_free(said);
}

VrScrub *
vr_scrub_start(VrApp *app)
{
    VrScrub *self = g_new0(VrScrub, 1);

    self->app = app;
    self->bucket = app->config->verify_rate ? vr_token_bucket_new(app->config->verify_rate) : NULL;
    self->looks = vr_loop_start("look", look_loop, self);
    self->reads = vr_loop_start("scrub", read_loop, self);
    return self;
}

void
vr_scrub_stop(VrScrub *self)
{
    if (self == NULL)
        return;
    vr_loop_stop(self->reads);
    vr_loop_stop(self->looks);
    g_clear_pointer(&self->bucket, vr_token_bucket_free);
    g_free(self);
}
