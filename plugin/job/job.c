/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/job.h"

#include "policies/error.h"
#include "policies/units.h"
#include "storage/error_json.h"

/*
 * Lock order: VrJobs.lock, then VrJob.lock. Rows are written with VrJob.lock held, so that an older state never
 * overwrites a newer one; the database has its own mutex, taken last.
 */

#define LISTED_MAX 1000
#define ENDED_KEPT 2000

typedef enum { STEP_PENDING, STEP_RUNNING, STEP_COMPLETED, STEP_FAILED } StepState;
static const char *const step_states[] = {"pending", "running", "completed", "failed"};

typedef struct {
    const char *name; /* static, of the kind */
    StepState state;
    gint64 started_us; /* monotonic */
    double seconds;
} Step;

struct _VrJob {
    gatomicrefcount refs;
    VrJobs *jobs;          /* borrowed: joins the thread before it goes */
    const VrJobKind *kind; /* static */
    GCancellable *cancel;  /* owned */
    GThread *thread;       /* owned by the registry, joined there */
    VrCopyProgress progress;
    gboolean resumed;
    JsonObject *args; /* owned; read-only once the thread runs */

    GMutex lock;        /* guards what follows */
    VrJobRow *row;      /* owned */
    Step *steps;        /* owned */
    guint n_steps;
    JsonObject *result; /* owned */
    gboolean ended;
};

struct _VrJobs {
    VrState *state;          /* borrowed */
    const VrJobKind *kinds;  /* static */
    guint n_kinds;
    gpointer app;            /* borrowed */

    GMutex lock; /* guards what follows */
    GCond ended;
    GHashTable *active; /* owned: id -> VrJob (ref) */
    GPtrArray *finished; /* owned: VrJob (ref) whose threads are to be joined */
    gboolean stopping;
};

static VrJob *
job_ref(VrJob *job)
{
    g_atomic_ref_count_inc(&job->refs);
    return job;
}

static void
job_unref(VrJob *job)
{
    if (!g_atomic_ref_count_dec(&job->refs))
        return;
    g_object_unref(job->cancel);
    json_object_unref(job->args);
    json_object_unref(job->result);
    vr_job_row_free(job->row);
    g_free(job->steps);
    g_mutex_clear(&job->lock);
    g_free(job);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrJob, job_unref)

static char *
object_text(JsonObject *object)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);

    json_node_set_object(node, object);
    return json_to_string(node, FALSE);
}

static JsonNode *
steps_json(const VrJob *job)
{
    JsonArray *array = json_array_new();
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);

    for (guint i = 0; i < job->n_steps; i++) {
        const Step *step = &job->steps[i];
        JsonObject *object = json_object_new();
        double seconds = step->seconds;

        if (step->state == STEP_RUNNING)
            seconds = (double) (g_get_monotonic_time() - step->started_us) / G_USEC_PER_SEC;
        json_object_set_string_member(object, "name", step->name);
        json_object_set_string_member(object, "state", step_states[step->state]);
        json_object_set_double_member(object, "seconds", seconds);
        json_array_add_object_element(array, object);
    }
    json_node_take_array(node, array);
    return node;
}

static double
job_fraction(const VrJob *job)
{
    guint64 total = __atomic_load_n(&job->progress.total, __ATOMIC_RELAXED);
    guint64 done = __atomic_load_n(&job->progress.done, __ATOMIC_RELAXED);

    if (job->ended)
        return job->row->state == VR_JOB_COMPLETED ? 1.0 : job->row->progress;
    return total > 0 ? MIN((double) done / (double) total, 0.9999) : 0.0;
}

/* Fills the row's changing fields; the caller holds the lock. */
static void
refresh_row(VrJob *job)
{
    g_autoptr(JsonNode) steps = steps_json(job);

    g_free(job->row->steps);
    job->row->steps = json_to_string(steps, FALSE);
    g_free(job->row->result);
    job->row->result = object_text(job->result);
    job->row->bytes_read = __atomic_load_n(&job->progress.read, __ATOMIC_RELAXED);
    job->row->bytes_sent = __atomic_load_n(&job->progress.sent, __ATOMIC_RELAXED);
    job->row->progress = job_fraction(job);
}

static void
save(VrJob *job)
{
    g_autoptr(GError) error = NULL;

    refresh_row(job);
    if (!vr_state_job_update(job->jobs->state, job->row, &error))
        g_warning("job %" G_GINT64_FORMAT ": cannot record its state: %s, ignoring", job->row->id,
                  error->message);
}

static void
end_running_step(VrJob *job, StepState state)
{
    for (guint i = 0; i < job->n_steps; i++) {
        Step *step = &job->steps[i];

        if (step->state != STEP_RUNNING)
            continue;
        step->state = state;
        step->seconds = (double) (g_get_monotonic_time() - step->started_us) / G_USEC_PER_SEC;
    }
}

static void
job_finish(VrJob *job, gboolean ok, const GError *error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);
    gboolean cancelled = g_error_matches(error, VR_ERROR, VR_ERROR_CANCELLED);

    end_running_step(job, ok ? STEP_COMPLETED : STEP_FAILED);
    job->row->progress = job_fraction(job);
    job->row->state = ok ? VR_JOB_COMPLETED : cancelled ? VR_JOB_CANCELLED : VR_JOB_FAILED;
    job->row->ended_us = g_get_real_time();
    g_clear_pointer(&job->row->error, g_free);
    if (!ok)
        job->row->error = vr_error_to_json_text(error);
    job->ended = TRUE;
    save(job);
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
    if (!(vr_job_stopping(job) && !ok && g_error_matches(error, VR_ERROR, VR_ERROR_CANCELLED))) {
        job_finish(job, ok, error);
        if (ok)
            g_message("job %" G_GINT64_FORMAT " (%s) of '%s' completed", job->row->id, job->kind->name,
                      job->row->domain);
        else
            g_warning("job %" G_GINT64_FORMAT " (%s) of '%s' failed: %s", job->row->id,
                      job->kind->name, job->row->domain, error->message);
    }

    g_mutex_lock(&jobs->lock);
    g_ptr_array_add(jobs->finished, job_ref(job));
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
        g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, (GDestroyNotify) job_unref);
    self->finished = g_ptr_array_new_with_free_func((GDestroyNotify) job_unref);
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

static JsonObject *
object_from_text(const char *text)
{
    g_autoptr(JsonNode) node = text ? json_from_string(text, NULL) : NULL;

    if (node != NULL && JSON_NODE_HOLDS_OBJECT(node))
        return json_node_dup_object(node);
    return json_object_new();
}

/* @row: (transfer full). The caller holds the registry's lock. */
static void
launch(VrJobs *self, const VrJobKind *kind, VrJobRow *row, gboolean resumed)
{
    VrJob *job = g_new0(VrJob, 1);

    g_atomic_ref_count_init(&job->refs);
    g_mutex_init(&job->lock);
    job->jobs = self;
    job->kind = kind;
    job->row = row;
    job->resumed = resumed;
    job->cancel = g_cancellable_new();
    job->args = object_from_text(row->args);
    job->result = object_from_text(row->result);
    job->n_steps = g_strv_length((char **) kind->steps);
    job->steps = g_new0(Step, job->n_steps);
    for (guint i = 0; i < job->n_steps; i++)
        job->steps[i].name = kind->steps[i];
    row->state = VR_JOB_RUNNING;
    g_hash_table_insert(self->active, &row->id, job);
    job->thread = g_thread_new(kind->name, job_thread, job);
}

gboolean
vr_jobs_resume(VrJobs *self, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_job_list(self->state, NULL, TRUE, LISTED_MAX, error);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = NULL;

    if (rows == NULL)
        return FALSE;
    locker = g_mutex_locker_new(&self->lock);
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
        g_message("job %" G_GINT64_FORMAT " (%s) of '%s' goes on after the restart", row->id, row->kind,
                  row->domain);
        launch(self, kind, row, TRUE);
    }
    return TRUE;
}

static VrJob *
active_of(VrJobs *self, const char *uuid)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->active);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        VrJob *job = value;

        if (g_strcmp0(job->row->uuid, uuid) == 0)
            return job;
    }
    return NULL;
}

static VrJobRow *
new_row(const char *kind, const char *uuid, const char *domain, JsonObject *args)
{
    VrJobRow *row = g_new0(VrJobRow, 1);

    row->kind = g_strdup(kind);
    row->uuid = g_strdup(uuid);
    row->domain = g_strdup(domain);
    row->state = VR_JOB_RUNNING;
    row->args = args ? object_text(args) : NULL;
    row->steps = g_strdup("[]");
    row->started_us = g_get_real_time();
    return row;
}

gboolean
vr_jobs_start(VrJobs *self, const char *kind_name, const char *uuid, const char *domain,
              JsonObject *args_in, gint64 *ret_id, GError **error)
{
    g_autoptr(JsonObject) args = args_in;
    const VrJobKind *kind = find_kind(self, kind_name);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    g_autoptr(VrJobRow) row = NULL;
    VrJob *holder;

    g_return_val_if_fail(kind != NULL, FALSE);
    reap(self);
    if (self->stopping) {
        vr_set_error(error, VR_ERROR_UNREACHABLE, "stopping", "Try again when it runs.",
                     "the daemon is stopping");
        return FALSE;
    }
    holder = active_of(self, uuid);
    if (holder != NULL) {
        g_autofree char *action = g_strdup_printf(
            "Wait with 'virt-replica job-wait %" G_GINT64_FORMAT "' or cancel it with job-cancel.",
            holder->row->id);

        vr_set_error(error, VR_ERROR_CONFLICT, "job-running", action,
                     "domain '%s': job %" G_GINT64_FORMAT " (%s) is at work on it", domain,
                     holder->row->id, holder->kind->name);
        return FALSE;
    }
    row = new_row(kind_name, uuid, domain, args);
    if (!vr_state_job_insert(self->state, row, error))
        return FALSE;
    (void) vr_state_job_prune(self->state, ENDED_KEPT, NULL);
    *ret_id = row->id;
    launch(self, kind, g_steal_pointer(&row), FALSE);
    return TRUE;
}

static void
set_time(JsonObject *object, const char *name, gint64 time_us)
{
    if (time_us == 0) {
        json_object_set_null_member(object, name);
    } else {
        g_autofree char *text = vr_time_format(time_us);

        json_object_set_string_member(object, name, text);
    }
}

static void
set_parsed(JsonObject *object, const char *name, const char *text)
{
    JsonNode *node = text ? json_from_string(text, NULL) : NULL;

    if (node != NULL)
        json_object_set_member(object, name, node);
    else
        json_object_set_null_member(object, name);
}

static JsonNode *
row_json(const VrJobRow *row)
{
    JsonObject *object = json_object_new();
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_object_set_int_member(object, "id", row->id);
    json_object_set_string_member(object, "kind", row->kind);
    json_object_set_string_member(object, "domain", row->domain);
    json_object_set_string_member(object, "state", vr_job_state_name(row->state));
    set_parsed(object, "steps", row->steps);
    json_object_set_double_member(object, "progress", row->progress);
    json_object_set_int_member(object, "bytes_read", (gint64) row->bytes_read);
    json_object_set_int_member(object, "bytes_sent", (gint64) row->bytes_sent);
    set_time(object, "started", row->started_us);
    set_time(object, "ended", row->ended_us);
    set_parsed(object, "error", row->error);
    set_parsed(object, "result", row->result);
    json_node_take_object(node, object);
    return node;
}

/* What only a running job knows: total, rate since the start, time left. */
static void
add_live(JsonNode *node, const VrJob *job)
{
    JsonObject *object = json_node_get_object(node);
    guint64 total = __atomic_load_n(&job->progress.total, __ATOMIC_RELAXED);
    guint64 done = __atomic_load_n(&job->progress.done, __ATOMIC_RELAXED);
    double seconds = 0, rate;

    for (guint i = 0; i < job->n_steps; i++) {
        if (job->steps[i].state == STEP_RUNNING)
            seconds = (double) (g_get_monotonic_time() - job->steps[i].started_us) / G_USEC_PER_SEC;
    }
    rate = seconds > 0.1 ? (double) done / seconds : 0;
    json_object_set_int_member(object, "bytes_total", (gint64) total);
    json_object_set_double_member(object, "rate", rate);
    if (rate > 0 && total >= done)
        json_object_set_double_member(object, "seconds_left", (double) (total - done) / rate);
    else
        json_object_set_null_member(object, "seconds_left");
}

static JsonNode *
live_json(VrJob *job)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);
    JsonNode *node;

    refresh_row(job);
    node = row_json(job->row);
    add_live(node, job);
    return node;
}

static VrJob *
lookup_active(VrJobs *self, gint64 id)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    VrJob *job = g_hash_table_lookup(self->active, &id);

    return job ? job_ref(job) : NULL;
}

JsonNode *
vr_jobs_get(VrJobs *self, gint64 id, GError **error)
{
    g_autoptr(VrJob) job = lookup_active(self, id);
    g_autoptr(VrJobRow) row = NULL;

    if (job != NULL)
        return live_json(job);
    row = vr_state_job_get(self->state, id, error);
    return row ? row_json(row) : NULL;
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

        json_array_add_element(array, job ? live_json(job) : row_json(row));
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

const char *
vr_job_uuid(VrJob *job)
{
    return job->row->uuid;
}

const char *
vr_job_domain(VrJob *job)
{
    return job->row->domain;
}

gint64
vr_job_id(VrJob *job)
{
    return job->row->id;
}

JsonObject *
vr_job_args(VrJob *job)
{
    return job->args;
}

gboolean
vr_job_resumed(VrJob *job)
{
    return job->resumed;
}

GCancellable *
vr_job_cancellable(VrJob *job)
{
    return job->cancel;
}

VrCopyProgress *
vr_job_progress(VrJob *job)
{
    return &job->progress;
}

gboolean
vr_job_stopping(VrJob *job)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->jobs->lock);

    return job->jobs->stopping;
}

void
vr_job_step(VrJob *job, const char *name)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    end_running_step(job, STEP_COMPLETED);
    for (guint i = 0; i < job->n_steps; i++) {
        if (strcmp(job->steps[i].name, name) == 0) {
            job->steps[i].state = STEP_RUNNING;
            job->steps[i].started_us = g_get_monotonic_time();
        }
    }
    save(job);
}

void
vr_job_waiting(VrJob *job, const GError *reason)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    job->row->state = reason ? VR_JOB_WAITING : VR_JOB_RUNNING;
    g_clear_pointer(&job->row->error, g_free);
    if (reason != NULL)
        job->row->error = vr_error_to_json_text(reason);
    save(job);
}

void
vr_job_result_string(VrJob *job, const char *key, const char *value)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    json_object_set_string_member(job->result, key, value);
}

void
vr_job_result_double(VrJob *job, const char *key, double value)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    json_object_set_double_member(job->result, key, value);
}

void
vr_job_result_int(VrJob *job, const char *key, gint64 value)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    json_object_set_int_member(job->result, key, value);
}

const char *
vr_job_result_get(VrJob *job, const char *key)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    return json_object_get_string_member_with_default(job->result, key, NULL);
}
