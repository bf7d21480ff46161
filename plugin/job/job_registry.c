/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/job_private.h"

#include <string.h>

#include "policies/error.h"
#include "storage/json_util.h"

#define LISTED_MAX 1000
#define ENDED_KEPT 2000
#define RECORD_AGAIN_US G_TIME_SPAN_SECOND

struct _VrJobs {
    VrState *state;         /* borrowed */
    const VrJobKind *kinds; /* static */
    guint n_kinds;
    gpointer app; /* borrowed */

    GMutex lock; /* guards what follows */
    GCond ended;
    GHashTable *active;  /* owned: id -> VrJob (ref) */
    GPtrArray *finished; /* owned: VrJob (ref) whose threads are to be joined */
    gboolean stopping;
};

/* A job whose end is not recorded would run a second time after a restart. */
static void
record_end(VrJob *job, gboolean ok, const GError *error)
{
    while (!vr_job_finish(job, ok, error) && !vr_job_stopping(job))
        g_usleep(RECORD_AGAIN_US);
}

static gpointer
job_thread(gpointer data)
{
    VrJob *job = data;
    VrJobs *jobs = job->jobs;
    g_autoptr(GError) error = NULL;
    gboolean ok = job->kind->run(job, jobs->app, &error);

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

/* FALSE with CONFLICT if a job other than @parent holds the protection: one that runs, or one of
 * before that is not resumed yet. */
static gboolean
is_free(VrJobs *self, gint64 parent, const char *uuid, const char *domain, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_job_list(self->state, uuid, TRUE, LISTED_MAX, error);
    const VrJobRow *holder = NULL;
    g_autofree char *action = NULL;

    for (guint i = 0; rows != NULL && i < rows->len && holder == NULL; i++) {
        const VrJobRow *row = g_ptr_array_index(rows, i);

        if (row->id != parent)
            holder = row;
    }
    if (rows == NULL || holder == NULL)
        return rows != NULL;
    action = g_strdup_printf("Wait with 'virt-replica job-wait %" G_GINT64_FORMAT
                             "' or cancel it with job-cancel.",
                             holder->id);
    vr_set_error(error, VR_ERROR_CONFLICT, "job-running", action,
                 "domain '%s': job %" G_GINT64_FORMAT " (%s) is at work on it", domain, holder->id,
                 holder->kind);
    return FALSE;
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
    if (self->stopping) {
        vr_set_error(error, VR_ERROR_UNREACHABLE, "stopping", "Try again when it runs.",
                     "the daemon is stopping");
        return FALSE;
    }
    if (!is_free(self, parent, uuid, domain, error))
        return FALSE;
    row = new_row(parent, kind_name, uuid, domain, args);
    if (!vr_state_job_insert(self->state, row, error))
        return FALSE;
    (void) vr_state_job_prune(self->state, ENDED_KEPT, NULL);
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

    return job ? job->row->id : 0;
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
    return 0;
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

gboolean
vr_jobs_cancel(VrJobs *self, gint64 id, GError **error)
{
    g_autoptr(VrJob) job = lookup_active(self, id);
    g_autoptr(VrJobRow) row = NULL;

    if (job != NULL) {
        g_cancellable_cancel(job->cancel);
        return TRUE;
    }
    row = vr_state_job_get(self->state, id, error);
    if (row != NULL)
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
