/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/maintain.h"

#include "plugin/cycle/replicate.h"
#include "plugin/loop.h"
#include "plugin/log.h"
#include "plugin/peer/peer_replica.h"
#include "plugin/target/activation.h"
#include "policies/error.h"
#include "policies/said.h"

#define LOOK_US (5 * G_TIME_SPAN_SECOND)
#define PROVE_US G_TIME_SPAN_HOUR
#define PROVE_AGAIN_US G_TIME_SPAN_MINUTE /* as long as it is not active */
#define PROVE_WAIT_MS 60000
#define CONNECT_WAIT_MS 1000
#define STARTERS 8
#define GUARD_WAIT_MS                                                                              \
    10000 /* a job that goes on may hold a domain for hours; its cycles recover by themselves */

struct _VrMaintain {
    VrApp *app;            /* borrowed */
    VrLoop *loop;          /* owned */
    GThreadPool *starters; /* owned: begin_one() */
    GCancellable *cancel;  /* owned; the loop's, for the starters as well */
    VrSaid *said;          /* owned; of the loop's thread, like the next */
    gboolean recovering;   /* the domains were given to the starters */
    GMutex lock;           /* guards what follows */
    GHashTable *unclean;   /* owned: UUIDs (owned) whose recovery failed */
};

/* A target starts what it owns and has not seen running, and takes back what it does not own. */
static gboolean
recover_row(VrMaintain *self, const VrProtection *row, GError **error)
{
    if (row->role == VR_ROLE_TARGET)
        return vr_activation_recover(self->app, row, error);
    return row->state == VR_PROTECTION_FAILED_OVER ||
           vr_cycle_clean(self->app, row->uuid, self->cancel, error);
}

/* TRUE if nothing is left to do. Complains once. */
static gboolean
recover_one(VrMaintain *self, const char *uuid, gboolean first)
{
    VrApp *app = self->app;
    g_autoptr(VrProtection) row = NULL;
    g_autoptr(GError) error = NULL;
    gboolean ok;

    if (!vr_guard_take(app->guards, uuid, "recovery", first ? GUARD_WAIT_MS : 0, self->cancel,
                       NULL))
        return FALSE;
    row = vr_state_protection_get(app->state, uuid, &error);
    ok = row != NULL && recover_row(self, row, &error);
    vr_guard_release(app->guards, uuid);
    if (ok || g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_log(G_LOG_DOMAIN, first ? G_LOG_LEVEL_WARNING : G_LOG_LEVEL_DEBUG,
          "domain '%s': what an interrupted run left is not cleaned up yet: %s",
          row ? row->name : uuid, error->message);
    return FALSE;
}

/* A job that goes on finds the domain scheduled, as it did when it was started; only the first
 * replication is the job's own. A RESYNC or INITIAL state with an RP means that the daemon died
 * behind the commit; cycles set it right. */
static void
schedule_one(VrApp *app, const char *uuid, gboolean initial)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, NULL);
    g_autoptr(GError) error = NULL;

    if (row == NULL || !vr_replicate_admitted(row) ||
        (row->state == VR_PROTECTION_INITIAL) != initial ||
        (initial && vr_jobs_running(app->jobs, row->uuid) != 0))
        return;
    if (!vr_replicate_schedule(app, row, &error))
        g_warning("domain '%s' is not replicated: %s", row->name, error->message);
}

static void
set_unclean(VrMaintain *self, const char *uuid, gboolean unclean)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    if (unclean)
        g_hash_table_add(self->unclean, g_strdup(uuid));
    else
        g_hash_table_remove(self->unclean, uuid);
}

static gboolean
is_unclean(VrMaintain *self, const VrProtection *row)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    return g_hash_table_contains(self->unclean, row->uuid);
}

/* What could not be done at start-up, or when it was asked for, may be possible now. */
static void
recover_again(VrMaintain *self)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(self->app->state, NULL);

    for (guint i = 0; rows != NULL && i < rows->len && !g_cancellable_is_cancelled(self->cancel);
         i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);

        if ((is_unclean(self, row) || vr_activation_is_left(self->app, row)) &&
            recover_one(self, row->uuid, FALSE))
            set_unclean(self, row->uuid, FALSE);
    }
}

/* One domain at start-up. A peer that answers late holds up only the domains it has to do with. */
static void
begin_one(gpointer data, gpointer user_data)
{
    VrMaintain *self = user_data;
    g_autofree char *uuid = data;

    if (!recover_one(self, uuid, TRUE))
        set_unclean(self, uuid, TRUE);
    if (!g_cancellable_is_cancelled(self->cancel))
        schedule_one(self->app, uuid, FALSE);
}

/* Jobs take the same guard as the recovery of their domain, so they need not wait for all of it.
 * FALSE: the database cannot be read now. */
static gboolean
begin(VrMaintain *self)
{
    VrApp *app = self->app;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, &error);
    gboolean ok;

    for (guint i = 0; rows != NULL && !self->recovering && i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);

        (void) g_thread_pool_push(self->starters, g_strdup(row->uuid), NULL);
    }
    self->recovering = self->recovering || rows != NULL;
    ok = rows != NULL && vr_jobs_resume(app->jobs, &error);
    if (vr_said_changed(self->said, "jobs", ok ? NULL : error->message) && !ok)
        g_warning("cannot go on with the jobs of before: %s, tried again", error->message);
    for (guint i = 0; ok && i < rows->len; i++)
        schedule_one(app, ((VrProtection *) g_ptr_array_index(rows, i))->uuid, TRUE);
    return ok;
}

/* Returns when it is to be proven again. A change is said once. */
static gint64
prove_fence(VrMaintain *self)
{
    g_auto(VrFenceStatus) status = {0};

    vr_fence_prove(self->app->fence, self->app->conn, 0, PROVE_WAIT_MS);
    vr_fence_status(self->app->fence, &status);
    if (vr_said_changed(self->said, "fence", status.message)) {
        if (status.message != NULL)
            g_warning("%s. %s", status.message, status.action);
        else
            g_message("libvirt calls the virt-replica hook");
    }
    return g_get_monotonic_time() + (status.state == VR_FENCE_ACTIVE ? PROVE_US : PROVE_AGAIN_US);
}

static void
maintain(VrLoop *loop, gpointer data)
{
    VrMaintain *self = data;
    gboolean begun;
    gint64 prove_at;

    self->cancel = g_object_ref(vr_loop_cancellable(loop));
    while (!vr_conn_wait(self->app->conn, CONNECT_WAIT_MS, self->cancel, NULL)) {
        if (vr_loop_ends(loop))
            return;
    }
    prove_at = prove_fence(self);
    begun = begin(self);
    while (!vr_loop_ends(loop)) {
        gboolean woken = vr_loop_wait(loop, MIN(g_get_monotonic_time() + LOOK_US, prove_at));

        if (woken || g_get_monotonic_time() >= prove_at || vr_fence_hook_changed(self->app->fence))
            prove_at = prove_fence(self);
        begun = begun || begin(self);
        recover_again(self);
        vr_peer_replica_drop_due(self->app, self->said, g_get_real_time());
        vr_log_say_left_out();
    }
}

VrMaintain *
vr_maintain_start(VrApp *app)
{
    VrMaintain *self = g_new0(VrMaintain, 1);

    self->app = app;
    self->said = vr_said_new();
    g_mutex_init(&self->lock);
    self->unclean = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->starters = g_thread_pool_new(begin_one, self, STARTERS, FALSE, NULL);
    self->loop = vr_loop_start("maintain", maintain, self);
    return self;
}

void
vr_maintain_wake(VrMaintain *self)
{
    vr_loop_wake(self->loop);
}

void
vr_maintain_stop(VrMaintain *self)
{
    if (self == NULL)
        return;
    vr_loop_stop(self->loop);
    g_thread_pool_free(self->starters, FALSE, TRUE);
    g_clear_object(&self->cancel);
    g_hash_table_unref(self->unclean);
    vr_said_free(self->said);
    g_mutex_clear(&self->lock);
    g_free(self);
}
