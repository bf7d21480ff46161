/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/job_private.h"

#include <math.h>
#include <string.h>

#include "policies/error.h"
#include "policies/units.h"
#include "storage/wire/error_json.h"
#include "storage/util/json_util.h"

typedef enum { STEP_PENDING, STEP_RUNNING, STEP_COMPLETED, STEP_FAILED } StepState;
static const char *const step_states[] = {"pending", "running", "completed", "failed"};

typedef struct _VrJobStep {
    const char *name; /* static, of the kind */
    StepState state;
    gint64 started_us; /* monotonic */
    double seconds;
} Step;

static JsonObject *
object_from_text(const char *text)
{
    g_autoptr(JsonNode) node = text ? json_from_string(text, NULL) : NULL;

    if (node != NULL && JSON_NODE_HOLDS_OBJECT(node))
        return json_node_dup_object(node);
    return json_object_new();
}

/* What an earlier run completed; the step it was in begins anew. One before a completed one that is
 * not completed was only looking again. */
static void
restore_steps(VrJob *job)
{
    g_autoptr(JsonNode) node = job->row->steps ? json_from_string(job->row->steps, NULL) : NULL;
    JsonArray *array = vr_json_as_array(node);
    guint done = 0;

    for (guint i = 0; array != NULL && i < json_array_get_length(array) && i < job->n_steps; i++) {
        JsonObject *object = vr_json_object_at(array, i);

        if (g_strcmp0(vr_json_text_in(object, "name", NULL), job->steps[i].name) != 0)
            break;
        job->steps[i].seconds = json_object_get_double_member_with_default(object, "seconds", 0);
        if (strcmp(vr_json_text_in(object, "state", ""), step_states[STEP_COMPLETED]) == 0)
            done = i + 1;
    }
    for (guint i = 0; i < job->n_steps; i++) {
        if (i < done)
            job->steps[i].state = STEP_COMPLETED;
        else
            job->steps[i].seconds = 0;
    }
}

VrJob *
vr_job_new(VrJobs *jobs, VrState *state, const VrJobKind *kind, VrJobRow *row, gboolean resumed)
{
    VrJob *job = g_new0(VrJob, 1);

    g_atomic_ref_count_init(&job->refs);
    g_mutex_init(&job->lock);
    job->jobs = jobs;
    job->state = state;
    job->kind = kind;
    job->row = row;
    job->resumed = resumed;
    job->cancel = g_cancellable_new();
    job->args = object_from_text(row->args);
    job->result = object_from_text(row->result);
    while (kind->steps[job->n_steps].name != NULL)
        job->n_steps++;
    job->steps = g_new0(Step, job->n_steps);
    for (guint i = 0; i < job->n_steps; i++)
        job->steps[i].name = kind->steps[i].name;
    if (resumed)
        restore_steps(job);
    row->state = VR_JOB_RUNNING;
    return job;
}

VrJob *
vr_job_ref(VrJob *job)
{
    g_atomic_ref_count_inc(&job->refs);
    return job;
}

void
vr_job_unref(VrJob *job)
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
    job->row->result = vr_json_object_to_text(job->result);
    job->row->bytes_read = __atomic_load_n(&job->progress.read, __ATOMIC_RELAXED);
    job->row->bytes_sent = __atomic_load_n(&job->progress.sent, __ATOMIC_RELAXED);
    job->row->progress = job_fraction(job);
}

static gboolean
save(VrJob *job)
{
    g_autoptr(GError) error = NULL;

    refresh_row(job);
    if (vr_state_job_update(job->state, job->row, &error))
        return TRUE;
    g_warning("job %" G_GINT64_FORMAT ": cannot record its state: %s, ignoring", job->row->id,
              error->message);
    return FALSE;
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

gboolean
vr_job_finish(VrJob *job, gboolean ok, const GError *error)
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
    return save(job);
}

gboolean
vr_job_goes_on(VrJob *job, const GError *error)
{
    gboolean stopping = vr_job_stopping(job);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    return stopping && !job->undone && g_error_matches(error, VR_ERROR, VR_ERROR_CANCELLED);
}

void
vr_job_undoing(VrJob *job, const GError *cause)
{
    g_autofree char *text = vr_error_to_json_text(cause);

    vr_job_result_string(job, "undo", text);
    vr_job_save(job);
}

guint
vr_job_steps_done(VrJob *job)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);
    guint n = job->n_steps;

    while (n > 0 && job->steps[n - 1].state != STEP_COMPLETED)
        n--;
    return n;
}

GError *
vr_job_undo_cause(VrJob *job)
{
    const char *text = vr_job_result_get(job, "undo");

    return text != NULL ? vr_error_from_json_text(text) : NULL;
}

gboolean
vr_job_is_undoing(VrJob *job)
{
    return vr_job_result_get(job, "undo") != NULL;
}

void
vr_job_undone(VrJob *job)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    job->undone = TRUE;
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

/* The keys that a failover adds to a job (design: JSON keys); null until they are known. */
static void
add_failover(JsonObject *object)
{
    static const char *const keys[] = {"downtime_seconds", "root_source", "root_target"};
    JsonObject *result = vr_json_object_in(object, "result");

    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
        JsonNode *known = result != NULL ? json_object_get_member(result, keys[i]) : NULL;

        if (known != NULL)
            json_object_set_member(object, keys[i], json_node_copy(known));
        else
            json_object_set_null_member(object, keys[i]);
    }
}

JsonNode *
vr_job_row_json(const VrJobRow *row)
{
    JsonObject *object = json_object_new();

    json_object_set_int_member(object, "id", row->id);
    if (row->parent != 0)
        json_object_set_int_member(object, "parent", row->parent);
    else
        json_object_set_null_member(object, "parent");
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
    if (g_str_equal(row->kind, "failover"))
        add_failover(object);
    return vr_json_node(object);
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

JsonNode *
vr_job_live_json(VrJob *job)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);
    JsonNode *node;

    refresh_row(job);
    node = vr_job_row_json(job->row);
    add_live(node, job);
    return node;
}

const char *
vr_job_origin(const VrJob *job)
{
    return job->row->origin;
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

void
vr_job_step(VrJob *job, const char *name)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    job->begun = TRUE;
    for (guint i = 0; i < job->n_steps; i++) {
        if (strcmp(job->steps[i].name, name) != 0)
            continue;
        end_running_step(job, STEP_COMPLETED);
        job->steps[i].state = STEP_RUNNING;
        job->steps[i].started_us = g_get_monotonic_time();
        (void) save(job);
        return;
    }
}

const char *
vr_job_running_step(VrJob *job)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    for (guint i = 0; i < job->n_steps; i++) {
        if (job->steps[i].state == STEP_RUNNING)
            return job->steps[i].name;
    }
    return NULL;
}

void
vr_job_waiting(VrJob *job, const GError *reason)
{
    vr_job_waiting_retry(job, reason, 0, 0);
}

void
vr_job_waiting_retry(VrJob *job, const GError *reason, guint attempts, gint64 next_us)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    job->wait = (VrJobWait){.attempts = attempts, .next_attempt_us = next_us};
    job->row->state = reason ? VR_JOB_WAITING : VR_JOB_RUNNING;
    g_clear_pointer(&job->row->error, g_free);
    if (reason != NULL)
        job->row->error = vr_error_to_json_text(reason);
    (void) save(job);
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

    if (isfinite(value)) /* JSON has no other numbers */
        json_object_set_double_member(job->result, key, value);
}

void
vr_job_result_int(VrJob *job, const char *key, gint64 value)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    json_object_set_int_member(job->result, key, value);
}

void
vr_job_save(VrJob *job)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    (void) save(job);
}

const char *
vr_job_result_get(VrJob *job, const char *key)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&job->lock);

    return json_object_get_string_member_with_default(job->result, key, NULL);
}
