/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/maintain.h"

#include "plugin/cycle/replicate.h"
#include "plugin/ownership.h"
#include "plugin/peer/peer_replica.h"
#include "plugin/target/activation.h"
#include "policies/error.h"
#include "storage/error_json.h"

#define PROBE_US (5 * G_TIME_SPAN_SECOND)
#define PROVE_US G_TIME_SPAN_HOUR
#define PROVE_AGAIN_US G_TIME_SPAN_MINUTE /* as long as it is not active */
#define PROVE_WAIT_MS 60000
#define CONNECT_WAIT_MS 1000
#define STARTERS 8
#define GUARD_WAIT_MS                                                                              \
    10000 /* a job that goes on may hold a domain for hours; its cycles recover by themselves */

struct _VrMaintain {
    VrApp *app;            /* borrowed */
    GThread *thread;       /* owned */
    GThreadPool *starters; /* owned: begin_one() */
    GCancellable *cancel;  /* owned */
    GMutex lock;           /* guards what follows */
    GCond woken;
    gboolean prove;
    char *fence_said;    /* owned: of the maintain thread: why the fence is not active, nullable */
    GHashTable *unclean; /* owned: UUIDs (owned) whose recovery failed */
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

/* A replica that this host owns and could not start yet; its old host may be gone. */
static gboolean
must_start(VrMaintain *self, const VrProtection *row)
{
    return row->role == VR_ROLE_TARGET && row->state == VR_PROTECTION_FAILED_OVER &&
           !vr_ownership_settled(self->app, row);
}

/* What could not be done at start-up, or when it was asked for, may be possible now. */
static void
recover_again(VrMaintain *self)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(self->app->state, NULL);

    for (guint i = 0; rows != NULL && i < rows->len && !g_cancellable_is_cancelled(self->cancel);
         i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);

        if ((is_unclean(self, row) || must_start(self, row)) && recover_one(self, row->uuid, FALSE))
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

/* Jobs take the same guard as the recovery of their domain, so they need not wait for all of it. */
static void
begin(VrMaintain *self)
{
    VrApp *app = self->app;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, &error);

    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);

        (void) g_thread_pool_push(self->starters, g_strdup(row->uuid), NULL);
    }
    if (rows == NULL || !vr_jobs_resume(app->jobs, &error)) {
        g_warning("cannot go on with the jobs of before: %s", error->message);
        return;
    }
    for (guint i = 0; i < rows->len; i++)
        schedule_one(app, ((VrProtection *) g_ptr_array_index(rows, i))->uuid, TRUE);
}

/* Returns when it is to be proven again. A change is said once. */
static gint64
prove_fence(VrMaintain *self)
{
    g_auto(VrFenceStatus) status = {0};

    vr_fence_prove(self->app->fence, self->app->conn, 0, PROVE_WAIT_MS);
    vr_fence_status(self->app->fence, &status);
    if (status.message != NULL && g_strcmp0(status.message, self->fence_said) != 0)
        g_warning("%s. %s", status.message, status.action);
    if (status.message == NULL && self->fence_said != NULL)
        g_message("libvirt calls the virt-replica hook");
    g_free(self->fence_said);
    self->fence_said = g_strdup(status.message);
    return g_get_monotonic_time() + (status.state == VR_FENCE_ACTIVE ? PROVE_US : PROVE_AGAIN_US);
}

/* Asks each peer once. @answers: borrowed fingerprint -> whether it answered */
static gboolean
peer_answers(VrMaintain *self, const char *fingerprint, GHashTable *answers)
{
    VrPeerClient *peer;
    gboolean ok;

    if (g_hash_table_contains(answers, fingerprint))
        return GPOINTER_TO_INT(g_hash_table_lookup(answers, fingerprint));
    peer = vr_peer_pool_get(self->app->peers, fingerprint, NULL);
    ok = peer != NULL && vr_peer_client_hello(peer, NULL, self->cancel, NULL);
    g_hash_table_insert(answers, (gpointer) fingerprint, GINT_TO_POINTER(ok));
    return ok;
}

/* The other host had lost its database, and may have the pairing and the replica back. */
static gboolean
was_unknown(const GError *error)
{
    const char *slug = vr_error_slug(error);

    return g_str_equal(slug, "peer-unknown") || g_str_equal(slug, "no-such-protection");
}

static gboolean
peer_knows(VrMaintain *self, const VrProtection *row)
{
    VrPeerClient *peer = vr_peer_pool_get(self->app->peers, row->peer, NULL);
    g_autoptr(JsonNode) answer =
        peer ? vr_peer_client_action(peer, row->uuid, "known", NULL, self->cancel, NULL) : NULL;

    return answer != NULL;
}

/* A peer that could not be reached answers again: its domains need not wait for their retry. */
static void
probe_causes(VrMaintain *self)
{
    VrApp *app = self->app;
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, NULL);
    g_autoptr(GHashTable) answers = g_hash_table_new(g_str_hash, g_str_equal); /* while rows live */

    for (guint i = 0; rows != NULL && i < rows->len && !g_cancellable_is_cancelled(self->cancel);
         i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);
        g_autoptr(GError) last = row->last_error ? vr_error_from_json_text(row->last_error) : NULL;

        if (vr_replicate_admitted(row) && last != NULL &&
            ((vr_error_is_peer_away(last) && peer_answers(self, row->peer, answers)) ||
             (was_unknown(last) && peer_knows(self, row))))
            vr_scheduler_kick(app->scheduler, row->uuid);
    }
}

/* TRUE if the fence is to be proven now. */
static gboolean
wait_turn(VrMaintain *self, gint64 prove_at)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    gint64 until = MIN(g_get_monotonic_time() + PROBE_US, prove_at);
    gboolean prove;

    while (!self->prove && !g_cancellable_is_cancelled(self->cancel) &&
           g_cond_wait_until(&self->woken, &self->lock, until))
        ;
    prove = self->prove || g_get_monotonic_time() >= prove_at;
    self->prove = FALSE;
    return prove;
}

static gpointer
maintain_thread(gpointer data)
{
    VrMaintain *self = data;
    gint64 prove_at;

    while (!vr_conn_wait(self->app->conn, CONNECT_WAIT_MS, self->cancel, NULL)) {
        if (g_cancellable_is_cancelled(self->cancel))
            return NULL;
    }
    prove_at = prove_fence(self);
    begin(self);
    while (!g_cancellable_is_cancelled(self->cancel)) {
        if (wait_turn(self, prove_at) || vr_fence_hook_changed(self->app->fence))
            prove_at = prove_fence(self);
        recover_again(self);
        vr_peer_replica_drop_due(self->app, g_get_real_time());
        probe_causes(self);
    }
    return NULL;
}

VrMaintain *
vr_maintain_start(VrApp *app)
{
    VrMaintain *self = g_new0(VrMaintain, 1);

    self->app = app;
    self->cancel = g_cancellable_new();
    g_mutex_init(&self->lock);
    g_cond_init(&self->woken);
    self->unclean = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->starters = g_thread_pool_new(begin_one, self, STARTERS, FALSE, NULL);
    self->thread = g_thread_new("maintain", maintain_thread, self);
    return self;
}

void
vr_maintain_wake(VrMaintain *self)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    self->prove = TRUE;
    g_cond_broadcast(&self->woken);
}

void
vr_maintain_stop(VrMaintain *self)
{
    if (self == NULL)
        return;
    g_cancellable_cancel(self->cancel);
    g_mutex_lock(&self->lock);
    g_cond_broadcast(&self->woken);
    g_mutex_unlock(&self->lock);
    g_thread_join(self->thread);
    g_thread_pool_free(self->starters, FALSE, TRUE);
    g_hash_table_unref(self->unclean);
    g_free(self->fence_said);
    g_object_unref(self->cancel);
    g_cond_clear(&self->woken);
    g_mutex_clear(&self->lock);
    g_free(self);
}
