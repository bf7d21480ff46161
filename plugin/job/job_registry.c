/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/job_private.h"

#include <string.h>

#include "plugin/log.h"
#include "policies/error.h"
#include "storage/util/json_util.h"
#include "storage/wire/error_json.h"

#define LISTED_MAX 1000
#define ENDED_KEPT 2000
#define ENDED_KEPT_OF_PEER 200
#define RECORD_AGAIN_US G_TIME_SPAN_SECOND
#define YIELD_US (10 * G_TIME_SPAN_SECOND)
#define CANCEL_KEY "cancel" /* in a job's result: somebody wants its end */

struct _VrJobs {
    VrState *state;         /* borrowed */
    const VrJobKind *kinds; /* static */
    guint n_kinds;
    gpointer app; /* borrowed */

    GMutex lock; /* guards what follows */
    GCond ended;
    GHashTable *active;  /* owned: id -> VrJob (ref) */
    GPtrArray *finished; /* owned: VrJob (ref) whose threads are to be joined */
    GHashTable *wanted;  /* owned: uuid -> nothing: somebody waits for one that yields */
    gboolean stopping;
};

/* A job whose end is not recorded would run a second time after a restart. */
static void
record_end(VrJob *job, gboolean ok, const GError *error)
{
    while (!vr_job_finish(job, ok, error) && !vr_job_stopping(job))
        g_usleep(RECORD_AGAIN_US);
}

/* One that goes on, and cannot read what it is about to do or undo, is not over with that. */
static gboolean
may_begin_again(VrJob *job, const GError *error)
{
    gboolean stopping = vr_job_stopping(job);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    return job->resumed && !job->begun && !stopping &&
           g_str_has_prefix(vr_error_slug(error), "state-");
}

static gboolean
run_job(VrJob *job, gpointer app, GError **error)
{
    for (;;) {
        g_autoptr(GError) local = NULL;

        if (job->kind->run(job, app, &local))
            return TRUE;
        if (local == NULL || !may_begin_again(job, local)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        vr_job_waiting(job, local);
        g_usleep(RECORD_AGAIN_US);
    }
}

static gpointer
job_thread(gpointer data)
{
    VrJob *job = data;
    VrJobs *jobs = job->jobs;
    g_autoptr(GError) error = NULL;
    gboolean ok;

    if (job->row->origin != NULL)
        vr_log_of_peer(job->row->origin);
    ok = run_job(job, jobs->app, &error);
    if (!ok && error == NULL)
        vr_set_error(&error, VR_ERROR_INTERNAL, "internal", NULL, "job failed without an error");
    if (ok || !vr_job_goes_on(job, error)) {
        record_end(job, ok, error);
        if (ok)
            g_message("job %" G_GINT64_FORMAT " (%s) of '%s' completed", job->row->id,
                      job->kind->name, job->row->domain);
        else
            g_warning("job %" G_GINT64_FORMAT " (%s) of '%s' failed: %s", job->row->id,
                      job->kind->name, job->row->domain, error->message);
    }

    g_mutex_lock(&jobs->lock);
    g_ptr_array_add(jobs->finished, vr_job_ref(job));
    g_hash_table_remove(jobs->active, &job->row->id);
    g_cond_broadcast(&jobs->ended);
    g_mutex_unlock(&jobs->lock);
    return NULL;
}

VrJobs *
vr_jobs_new(VrState *state, const VrJobKind *kinds, guint n_kinds, gpointer app)
{
    VrJobs *self = g_new0(VrJobs, 1);

    self->state = state;
    self->kinds = kinds;
    self->n_kinds = n_kinds;
    self->app = app;
    g_mutex_init(&self->lock);
    g_cond_init(&self->ended);
    self->active =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, (GDestroyNotify) vr_job_unref);
    self->finished = g_ptr_array_new_with_free_func((GDestroyNotify) vr_job_unref);
    self->wanted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return self;
}

/* Joins threads that have announced their end; the caller holds the lock. */
static void
reap(VrJobs *self)
{
    for (guint i = 0; i < self->finished->len; i++) {
        VrJob *job = g_ptr_array_index(self->finished, i);

        g_thread_join(g_steal_pointer(&job->thread));
    }
    g_ptr_array_set_size(self->finished, 0);
}

void
vr_jobs_stop(VrJobs *self)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    GHashTableIter iter;
    gpointer job;

    self->stopping = TRUE;
    g_hash_table_iter_init(&iter, self->active);
    while (g_hash_table_iter_next(&iter, NULL, &job))
        g_cancellable_cancel(((VrJob *) job)->cancel);
    while (g_hash_table_size(self->active) > 0)
        g_cond_wait(&self->ended, &self->lock);
    g_mutex_unlock(&self->lock);
    g_mutex_lock(&self->lock);
    reap(self);
}

void
vr_jobs_free(VrJobs *self)
{
    if (self == NULL)
        return;
    g_hash_table_unref(self->active);
    g_ptr_array_unref(self->finished);
    g_hash_table_unref(self->wanted);
    g_cond_clear(&self->ended);
    g_mutex_clear(&self->lock);
    g_free(self);
}

static const VrJobKind *
find_kind(VrJobs *self, const char *name)
{
    for (guint i = 0; i < self->n_kinds; i++) {
        if (strcmp(self->kinds[i].name, name) == 0)
            return &self->kinds[i];
    }
    return NULL;
}

/* @row: (transfer full). The caller holds the registry's lock. */
static void
launch(VrJobs *self, const VrJobKind *kind, VrJobRow *row, gboolean resumed)
{
    VrJob *job = vr_job_new(self, self->state, kind, row, resumed);

    g_hash_table_insert(self->active, &row->id, job);
    if (resumed && vr_job_result_get(job, CANCEL_KEY) != NULL)
        g_cancellable_cancel(job->cancel);
    job->thread = g_thread_new(kind->name, job_thread, job);
}

gboolean
vr_jobs_resume(VrJobs *self, GError **error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    g_autoptr(GPtrArray) rows = vr_state_job_list(self->state, NULL, TRUE, LISTED_MAX, error);

    if (rows == NULL)
        return FALSE;
    g_ptr_array_set_free_func(rows, NULL);
    for (guint i = 0; i < rows->len; i++) {
        VrJobRow *row = g_ptr_array_index(rows, i);
        const VrJobKind *kind = find_kind(self, row->kind);

        if (kind == NULL) {
            g_warning("job %" G_GINT64_FORMAT " is of kind '%s', which this version does not know",
                      row->id, row->kind);
            vr_job_row_free(row);
            continue;
        }
        if (g_hash_table_contains(self->active, &row->id)) { /* started since we came up */
            vr_job_row_free(row);
            continue;
        }
        g_message("job %" G_GINT64_FORMAT " (%s) of '%s' goes on after the restart", row->id,
                  row->kind, row->domain);
        launch(self, kind, row, TRUE);
    }
    return TRUE;
}

/* One without a parent before the child that it waits for. */
static VrJob *
active_of(VrJobs *self, const char *uuid)
{
    GHashTableIter iter;
    gpointer value;
    VrJob *found = NULL;

    g_hash_table_iter_init(&iter, self->active);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        VrJob *job = value;

        if (g_strcmp0(job->row->uuid, uuid) == 0 && (found == NULL || job->row->parent == 0))
            found = job;
    }
    return found;
}

static gboolean
yields(VrJobs *self, const VrJobRow *row, const VrJobKind *to, const char *origin)
{
    const VrJobKind *kind = find_kind(self, row->kind);

    return kind != NULL && to != NULL && kind->flags & VR_JOB_KIND_YIELDS &&
           (to->flags & VR_JOB_KIND_URGENT || (row->origin != NULL && origin == NULL));
}

/* The job that holds it, one that yields only if no other does. *@ret_row NULL: none. */
static gboolean
find_holder(VrJobs *self, gint64 parent, const char *uuid, const VrJobKind *to, const char *origin,
            VrJobRow **ret_row, gboolean *ret_yields, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_job_list(self->state, uuid, TRUE, LISTED_MAX, error);
    const VrJobRow *holder = NULL;

    *ret_yields = TRUE;
    for (guint i = 0; rows != NULL && i < rows->len && *ret_yields; i++) {
        const VrJobRow *row = g_ptr_array_index(rows, i);

        if (row->id == parent)
            continue;
        holder = row;
        *ret_yields = yields(self, row, to, origin);
    }
    *ret_row = holder != NULL ? vr_state_job_get(self->state, holder->id, error) : NULL;
    return rows != NULL && (holder == NULL || *ret_row != NULL);
}

static gboolean
say_held(const VrJobRow *holder, const char *domain, GError **error)
{
    g_autofree char *action = g_strdup_printf("Wait with 'virt-replica job-wait %" G_GINT64_FORMAT
                                              "' or cancel it with job-cancel.",
                                              holder->id);

    vr_set_error(error, VR_ERROR_CONFLICT, "job-running", action,
                 "domain '%s': job %" G_GINT64_FORMAT " (%s) is at work on it", domain, holder->id,
                 holder->kind);
    return FALSE;
}

gboolean
vr_jobs_check_free(VrJobs *self, gint64 parent, const char *kind, const char *uuid,
                   const char *domain, GError **error)
{
    const VrJobKind *to = kind ? find_kind(self, kind) : NULL;
    g_autoptr(VrJobRow) holder = NULL;
    gboolean yielding;

    return find_holder(self, parent, uuid, to, vr_log_peer(), &holder, &yielding, error) &&
           (holder == NULL || yielding || say_held(holder, domain, error));
}

/* Waits, lock held, until those that yield have ended. FALSE also when the daemon is stopping. */
static gboolean
make_room(VrJobs *self, gint64 parent, const VrJobKind *to, const VrJobRow *row, GError **error)
{
    gint64 until = g_get_monotonic_time() + YIELD_US;

    for (;;) {
        g_autoptr(VrJobRow) holder = NULL;
        gboolean yielding;
        VrJob *job;

        if (self->stopping) {
            vr_set_error(error, VR_ERROR_UNREACHABLE, "stopping", "Try again when it runs.",
                         "the daemon is stopping");
            return FALSE;
        }
        if (!find_holder(self, parent, row->uuid, to, row->origin, &holder, &yielding, error))
            return FALSE;
        if (holder == NULL)
            return TRUE;
        job = yielding ? g_hash_table_lookup(self->active, &holder->id) : NULL;
        if (job == NULL || g_get_monotonic_time() >= until)
            return say_held(holder, row->domain, error);
        g_cancellable_cancel(job->cancel);
        (void) g_cond_wait_until(&self->ended, &self->lock, until);
    }
}

/* Whoever had to yield does not begin anew before the one that it yielded to. */
static gboolean
take_room(VrJobs *self, gint64 parent, const VrJobKind *to, const VrJobRow *row, GError **error)
{
    gboolean ok, first;

    if (to->flags & VR_JOB_KIND_YIELDS && g_hash_table_contains(self->wanted, row->uuid)) {
        vr_set_error(error, VR_ERROR_CONFLICT, "job-running", "Try again when it has ended.",
                     "domain '%s': another job is about to begin", row->domain);
        return FALSE;
    }
    first = g_hash_table_add(self->wanted, g_strdup(row->uuid));
    ok = make_room(self, parent, to, row, error);
    if (first)
        g_hash_table_remove(self->wanted, row->uuid);
    return ok;
}

/* The peer that this thread works for, unless it is for a job of somebody else. (transfer full) */
static char *
origin_of(VrJobs *self, gint64 parent)
{
    g_autoptr(VrJobRow) row = parent != 0 ? vr_state_job_get(self->state, parent, NULL) : NULL;

    return g_strdup(row != NULL ? row->origin : vr_log_peer());
}

static VrJobRow *
new_row(gint64 parent, const char *kind, const char *uuid, const char *domain, JsonObject *args)
{
    VrJobRow *row = g_new0(VrJobRow, 1);

    row->parent = parent;
    row->kind = g_strdup(kind);
    row->uuid = g_strdup(uuid);
    row->domain = g_strdup(domain);
    row->state = VR_JOB_RUNNING;
    row->args = args ? vr_json_object_to_text(args) : NULL;
    row->steps = g_strdup("[]");
    row->started_us = g_get_real_time();
    return row;
}

gboolean
vr_jobs_start(VrJobs *self, const char *kind, const char *uuid, const char *domain,
              JsonObject *args, gint64 *ret_id, GError **error)
{
    return vr_jobs_start_child(self, 0, kind, uuid, domain, args, ret_id, error);
}

gboolean
vr_jobs_start_child(VrJobs *self, gint64 parent, const char *kind_name, const char *uuid,
                    const char *domain, JsonObject *args_in, gint64 *ret_id, GError **error)
{
    g_autoptr(JsonObject) args = args_in;
    const VrJobKind *kind = find_kind(self, kind_name);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    g_autoptr(VrJobRow) row = NULL;

    g_return_val_if_fail(kind != NULL, FALSE);
    reap(self);
    row = new_row(parent, kind_name, uuid, domain, args);
    row->origin = origin_of(self, parent);
    if (!take_room(self, parent, kind, row, error))
        return FALSE;
    if (!vr_state_job_insert(self->state, row, error))
        return FALSE;
    (void) vr_state_job_prune(self->state, ENDED_KEPT, ENDED_KEPT_OF_PEER, NULL);
    *ret_id = row->id;
    launch(self, kind, g_steal_pointer(&row), FALSE);
    return TRUE;
}

static VrJob *
lookup_active(VrJobs *self, gint64 id)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    VrJob *job = g_hash_table_lookup(self->active, &id);

    return job ? vr_job_ref(job) : NULL;
}

JsonNode *
vr_jobs_get(VrJobs *self, gint64 id, GError **error)
{
    g_autoptr(VrJob) job = lookup_active(self, id);
    g_autoptr(VrJobRow) row = NULL;

    if (job != NULL)
        return vr_job_live_json(job);
    row = vr_state_job_get(self->state, id, error);
    return row ? vr_job_row_json(row) : NULL;
}

JsonNode *
vr_jobs_list(VrJobs *self, const char *uuid, gboolean all, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_job_list(self->state, uuid, !all, LISTED_MAX, error);
    JsonArray *array;
    JsonNode *node;

    if (rows == NULL)
        return NULL;
    array = json_array_new();
    for (guint i = 0; i < rows->len; i++) {
        VrJobRow *row = g_ptr_array_index(rows, i);
        g_autoptr(VrJob) job = lookup_active(self, row->id);

        json_array_add_element(array, job ? vr_job_live_json(job) : vr_job_row_json(row));
    }
    node = json_node_new(JSON_NODE_ARRAY);
    json_node_take_array(node, array);
    return node;
}

gint64
vr_jobs_running(VrJobs *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    VrJob *job = active_of(self, uuid);
    g_autoptr(VrJobRow) row = NULL;
    gboolean yielding;

    if (job != NULL)
        return job->row->id;
    return find_holder(self, 0, uuid, NULL, NULL, &row, &yielding, NULL) && row ? row->id : 0;
}

void
vr_job_wait_clear(VrJobWait *self)
{
    g_clear_error(&self->error);
}

void
vr_jobs_get_wait(VrJobs *self, const char *uuid, VrJobWait *ret_wait)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    VrJob *job = active_of(self, uuid);

    *ret_wait = (VrJobWait){NULL};
    if (job == NULL)
        return;
    g_mutex_lock(&job->lock);
    if (job->row->state == VR_JOB_WAITING && job->row->error != NULL) {
        *ret_wait = job->wait;
        ret_wait->kind = job->kind->name;
        ret_wait->error = vr_error_from_json_text(job->row->error);
    }
    g_mutex_unlock(&job->lock);
}

gint64
vr_jobs_find(VrJobs *self, const char *uuid, const char *kind)
{
    g_autoptr(GPtrArray) rows = vr_state_job_list(self->state, uuid, TRUE, LISTED_MAX, NULL);

    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const VrJobRow *row = g_ptr_array_index(rows, i);

        if (strcmp(row->kind, kind) == 0)
            return row->id;
    }
    return rows != NULL ? 0 : -1;
}

guint
vr_jobs_count(VrJobs *self)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    return g_hash_table_size(self->active);
}

void
vr_jobs_wait(VrJobs *self, gint64 id, double seconds)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    gint64 deadline = g_get_monotonic_time() + (gint64) (seconds * G_USEC_PER_SEC);

    while (g_hash_table_contains(self->active, &id)) {
        if (!g_cond_wait_until(&self->ended, &self->lock, deadline))
            return;
    }
}

/* Lock held, so that it is not resumed meanwhile. */
static gboolean
cancel_row(VrJobs *self, VrJobRow *row, GError **error)
{
    g_autoptr(JsonNode) node = row->result ? json_from_string(row->result, NULL) : NULL;
    JsonObject *known = vr_json_as_object(node);
    g_autoptr(JsonObject) result = known ? json_object_ref(known) : json_object_new();

    json_object_set_string_member(result, CANCEL_KEY, "yes");
    g_free(row->result);
    row->result = vr_json_object_to_text(result);
    return vr_state_job_update(self->state, row, error);
}

gboolean
vr_jobs_cancel(VrJobs *self, gint64 id, GError **error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    VrJob *job = g_hash_table_lookup(self->active, &id);
    g_autoptr(VrJobRow) row = NULL;

    if (job != NULL) {
        vr_job_result_string(job, CANCEL_KEY, "yes");
        vr_job_save(job);
        g_cancellable_cancel(job->cancel);
        return TRUE;
    }
    row = vr_state_job_get(self->state, id, error);
    if (row == NULL)
        return FALSE;
    if (row->ended_us == 0)
        return cancel_row(self, row, error);
    vr_set_error(error, VR_ERROR_REFUSED, "job-ended", NULL,
                 "job %" G_GINT64_FORMAT " has ended: %s", id, vr_job_state_name(row->state));
    return FALSE;
}

gboolean
vr_job_stopping(VrJob *job)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->jobs->lock);

    return job->jobs->stopping;
}
