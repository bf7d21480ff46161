/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/job.h"
#include "plugin/log.h"
#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/state/state_private.h"

#define UUID "11111111-2222-3333-4444-555555555555"
#define OTHER "11111111-2222-3333-4444-666666666666"
#define LONG_S 30.0

/* What the kinds below are told and what they saw. */
typedef struct {
    GMutex lock;
    GCond changed;
    gboolean go_on; /* "gate" may end */
    guint gates;    /* runs of "gate" that have reached the gate */
    gboolean resumed;
    char *earlier; /* result found by a run of "gate" */
} App;

typedef struct {
    char *dir;
    VrState *state;
    VrJobs *jobs;
    App app;
} Fixture;

static gboolean
run_plain(VrJob *job, gpointer app, GError **error)
{
    vr_job_step(job, "first");
    g_assert_cmpstr(vr_job_uuid(job), ==, UUID);
    g_assert_cmpstr(vr_job_domain(job), ==, "web1");
    g_assert_cmpint(json_object_get_int_member(vr_job_args(job), "answer"), ==, 42);
    g_assert_false(vr_job_resumed(job));
    vr_job_progress(job)->total = 100;
    vr_job_progress(job)->done = 40;
    vr_job_progress(job)->sent = 7;
    vr_job_step(job, "what another host calls its own");
    g_assert_cmpstr(vr_job_running_step(job), ==, "first");
    vr_job_step(job, "second");
    vr_job_result_double(job, "downtime_seconds", 1.5);
    vr_job_result_int(job, "number", 9);
    return TRUE;
}

static gboolean
run_peer(VrJob *job, gpointer app, GError **error)
{
    const char *peer = vr_log_peer();

    g_assert_cmpstr(peer, ==, vr_job_origin(job));
    vr_job_result_string(job, "peer", peer ? peer : "none");
    return TRUE;
}

static gboolean
run_failing(VrJob *job, gpointer app, GError **error)
{
    vr_job_step(job, "first");
    vr_job_step(job, "second");
    vr_set_error(error, VR_ERROR_NO_SPACE, "store-full", "Make room.", "the store is full");
    return FALSE;
}

static void
cancelled(GCancellable *cancel, gpointer data)
{
    App *app = data;

    g_mutex_lock(&app->lock);
    g_cond_broadcast(&app->changed);
    g_mutex_unlock(&app->lock);
}

/* Waits until it may go on or is cancelled. */
static gboolean
run_gate(VrJob *job, gpointer data, GError **error)
{
    App *app = data;
    GCancellable *cancel = vr_job_cancellable(job);
    gulong handler = g_cancellable_connect(cancel, G_CALLBACK(cancelled), app, NULL);
    gboolean ok;

    g_mutex_lock(&app->lock);
    app->resumed = vr_job_resumed(job);
    g_free(app->earlier);
    app->earlier = g_strdup(vr_job_result_get(job, "mark"));
    g_mutex_unlock(&app->lock);
    vr_job_result_string(job, "mark", "made by the first run");
    vr_job_step(job, "first");

    g_mutex_lock(&app->lock);
    app->gates++;
    g_cond_broadcast(&app->changed);
    while (!app->go_on && !g_cancellable_is_cancelled(cancel))
        g_cond_wait(&app->changed, &app->lock);
    ok = app->go_on;
    g_mutex_unlock(&app->lock);

    g_cancellable_disconnect(cancel, handler);
    if (!ok)
        vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "cancelled at the gate");
    return ok;
}

/* Fails at the gate and takes back what it did; @go_on lets that end. */
static gboolean
run_undoing(VrJob *job, gpointer data, GError **error)
{
    App *app = data;
    GError *cause = vr_job_undo_cause(job);

    g_mutex_lock(&app->lock);
    app->resumed = cause != NULL;
    if (cause == NULL)
        vr_set_error(&cause, VR_ERROR_CANCELLED, "cancelled", "Again.", "cancelled by somebody");
    vr_job_undoing(job, cause);
    app->gates++;
    g_cond_broadcast(&app->changed);
    while (!app->go_on)
        g_cond_wait(&app->changed, &app->lock);
    g_mutex_unlock(&app->lock);
    vr_job_undone(job);
    g_propagate_error(error, cause);
    return FALSE;
}

/* Three times what it needs cannot be read, when it goes on. */
static gboolean
run_unread(VrJob *job, gpointer data, GError **error)
{
    App *app = data;

    if (++app->gates < 3) {
        vr_set_error(error, VR_ERROR_INTERNAL, "state-failed", NULL, "cannot read");
        return FALSE;
    }
    vr_job_step(job, "first");
    return TRUE;
}

static const VrJobStepDef two_steps[] = {{"first"}, {"second"}, {NULL}};
static const VrJobKind kinds[] = {
    {"plain", two_steps, run_plain},
    {"failing", two_steps, run_failing},
    {"gate", two_steps, run_gate},
    {"undoing", two_steps, run_undoing},
    {"peer", two_steps, run_peer},
    {"reading", two_steps, run_gate, VR_JOB_KIND_YIELDS},
    {"urgent", two_steps, run_peer, VR_JOB_KIND_URGENT},
    {"unread", two_steps, run_unread},
};

static void
open_registry(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    f->state = vr_state_open(f->dir, &error);
    g_assert_no_error(error);
    f->jobs = vr_jobs_new(f->state, kinds, G_N_ELEMENTS(kinds), &f->app);
}

static void
close_registry(Fixture *f)
{
    vr_jobs_stop(f->jobs);
    vr_jobs_free(f->jobs);
    vr_state_close(f->state);
}

static void
set_up(Fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("vr-job-XXXXXX", NULL);
    open_registry(f);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    close_registry(f);
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_free(f->app.earlier);
    g_free(f->dir);
}

static gint64
start(Fixture *f, const char *kind, const char *uuid)
{
    g_autoptr(GError) error = NULL;
    JsonObject *args = json_object_new();
    gint64 id = 0;

    json_object_set_int_member(args, "answer", 42);
    g_assert_true(vr_jobs_start(f->jobs, kind, uuid, "web1", args, &id, &error));
    g_assert_no_error(error);
    return id;
}

static void
wait_for_gates(Fixture *f, guint gates)
{
    g_mutex_lock(&f->app.lock);
    while (f->app.gates < gates)
        g_cond_wait(&f->app.changed, &f->app.lock);
    g_mutex_unlock(&f->app.lock);
}

static void
open_gate(Fixture *f)
{
    g_mutex_lock(&f->app.lock);
    f->app.go_on = TRUE;
    g_cond_broadcast(&f->app.changed);
    g_mutex_unlock(&f->app.lock);
}

static JsonNode *
get(Fixture *f, gint64 id)
{
    g_autoptr(GError) error = NULL;
    JsonNode *node = vr_jobs_get(f->jobs, id, &error);

    g_assert_no_error(error);
    return node;
}

static const char *
text(JsonNode *node, const char *key)
{
    return json_object_get_string_member(json_node_get_object(node), key);
}

static const char *
step_state(JsonNode *node, guint i)
{
    JsonArray *steps = json_object_get_array_member(json_node_get_object(node), "steps");

    g_assert_cmpuint(json_array_get_length(steps), ==, 2);
    return json_object_get_string_member(json_array_get_object_element(steps, i), "state");
}

static void
test_completes(Fixture *f, gconstpointer data)
{
    gint64 id = start(f, "plain", UUID);
    g_autoptr(JsonNode) node = NULL;
    JsonObject *object, *result;

    vr_jobs_wait(f->jobs, id, LONG_S);
    node = get(f, id);
    object = json_node_get_object(node);
    result = json_object_get_object_member(object, "result");
    g_assert_cmpstr(text(node, "state"), ==, "completed");
    g_assert_cmpstr(text(node, "kind"), ==, "plain");
    g_assert_cmpstr(text(node, "domain"), ==, "web1");
    g_assert_cmpstr(step_state(node, 0), ==, "completed");
    g_assert_cmpstr(step_state(node, 1), ==, "completed");
    g_assert_cmpfloat(json_object_get_double_member(object, "progress"), ==, 1.0);
    g_assert_cmpint(json_object_get_int_member(object, "bytes_sent"), ==, 7);
    g_assert_nonnull(text(node, "started"));
    g_assert_nonnull(text(node, "ended"));
    g_assert_true(json_object_get_null_member(object, "error"));
    g_assert_cmpfloat(json_object_get_double_member(result, "downtime_seconds"), ==, 1.5);
    g_assert_cmpint(json_object_get_int_member(result, "number"), ==, 9);
    g_assert_cmpuint(vr_jobs_count(f->jobs), ==, 0);
}

static void
test_fails(Fixture *f, gconstpointer data)
{
    gint64 id = start(f, "failing", UUID);
    g_autoptr(JsonNode) node = NULL;
    JsonObject *error;

    vr_jobs_wait(f->jobs, id, LONG_S);
    node = get(f, id);
    error = json_object_get_object_member(json_node_get_object(node), "error");
    g_assert_cmpstr(text(node, "state"), ==, "failed");
    g_assert_cmpstr(step_state(node, 0), ==, "completed");
    g_assert_cmpstr(step_state(node, 1), ==, "failed");
    g_assert_cmpstr(json_object_get_string_member(error, "code"), ==, "store-full");
    g_assert_cmpstr(json_object_get_string_member(error, "action"), ==, "Make room.");
}

static void
test_one_a_protection(Fixture *f, gconstpointer data)
{
    gint64 id = start(f, "gate", UUID), second;
    g_autofree char *number = g_strdup_printf("job %d (gate)", (int) id);
    g_autoptr(JsonNode) active = NULL;
    g_autoptr(GError) error = NULL;

    wait_for_gates(f, 1);
    g_assert_cmpint(vr_jobs_running(f->jobs, UUID), ==, id);
    g_assert_false(vr_jobs_start(f->jobs, "plain", UUID, "web1", NULL, &second, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CONFLICT);
    g_assert_cmpstr(vr_error_slug(error), ==, "job-running");
    g_assert_nonnull(strstr(error->message, number));

    second = start(f, "gate", OTHER);
    wait_for_gates(f, 2);
    active = vr_jobs_list(f->jobs, NULL, FALSE, NULL);
    g_assert_cmpuint(json_array_get_length(json_node_get_array(active)), ==, 2);
    open_gate(f);
    vr_jobs_wait(f->jobs, id, LONG_S);
    vr_jobs_wait(f->jobs, second, LONG_S);
    g_assert_cmpint(vr_jobs_running(f->jobs, UUID), ==, 0);
}

typedef struct {
    Fixture *f;
    gint64 parent, id;
} Ordered;

static gpointer
order_as_peer(gpointer data)
{
    Ordered *self = data;
    g_autoptr(GError) error = NULL;

    vr_log_of_peer("aaaa");
    g_assert_true(vr_jobs_start_child(self->f->jobs, self->parent, "peer", UUID, "web1", NULL,
                                      &self->id, &error));
    return NULL;
}

static void
assert_origin(Fixture *f, gint64 id, const char *origin)
{
    g_autoptr(VrJobRow) row = NULL;
    g_autofree char *result = g_strdup_printf("{\"peer\":\"%s\"}", origin ? origin : "none");

    vr_jobs_wait(f->jobs, id, LONG_S);
    row = vr_state_job_get(f->state, id, NULL);
    g_assert_cmpstr(row->origin, ==, origin);
    g_assert_cmpstr(row->result, ==, result);
}

/* What a peer orders is its own, in the log too; what it adds to a job of this host is not. */
static void
test_of_a_peer(Fixture *f, gconstpointer data)
{
    Ordered ordered = {f, 0, 0};
    VrJobRow parent = {.kind = (char *) "failover",
                       .uuid = (char *) UUID,
                       .domain = (char *) "web1",
                       .state = VR_JOB_RUNNING};

    g_thread_join(g_thread_new("peer", order_as_peer, &ordered));
    assert_origin(f, ordered.id, "aaaa");
    assert_origin(f, start(f, "peer", UUID), NULL);
    g_assert_true(vr_state_job_insert(f->state, &parent, NULL));
    ordered.parent = parent.id;
    g_thread_join(g_thread_new("peer", order_as_peer, &ordered));
    assert_origin(f, ordered.id, NULL);
    parent.state = VR_JOB_COMPLETED;
    g_assert_true(vr_state_job_update(f->state, &parent, NULL));
}

static void
assert_state(Fixture *f, gint64 id, VrJobState state)
{
    g_autoptr(VrJobRow) row = vr_state_job_get(f->state, id, NULL);

    g_assert_cmpint(row->state, ==, state);
}

static void
test_unread(Fixture *f, gconstpointer data)
{
    VrJobRow row = {.kind = (char *) "unread",
                    .uuid = (char *) UUID,
                    .domain = (char *) "web1",
                    .state = VR_JOB_RUNNING};

    g_assert_true(vr_state_job_insert(f->state, &row, NULL));
    g_assert_true(vr_jobs_resume(f->jobs, NULL));
    vr_jobs_wait(f->jobs, row.id, LONG_S);
    assert_state(f, row.id, VR_JOB_COMPLETED);
    g_assert_cmpuint(f->app.gates, ==, 3);
}

static gpointer
read_as_peer(gpointer data)
{
    Ordered *self = data;

    vr_log_of_peer("aaaa");
    g_assert_true(vr_jobs_start(self->f->jobs, "reading", UUID, "web1", NULL, &self->id, NULL));
    return NULL;
}

/* What only reads makes room for what must not wait, and a peer's for whatever this host wants. */
static void
test_yields(Fixture *f, gconstpointer data)
{
    gint64 reading = start(f, "reading", UUID), id;
    Ordered ordered = {f, 0, 0};
    g_autoptr(GError) error = NULL;

    wait_for_gates(f, 1);
    g_assert_false(vr_jobs_check_free(f->jobs, 0, "peer", UUID, "web1", NULL));
    g_assert_true(vr_jobs_check_free(f->jobs, 0, "urgent", UUID, "web1", NULL));
    g_assert_false(vr_jobs_start(f->jobs, "peer", UUID, "web1", NULL, &id, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "job-running");
    id = start(f, "urgent", UUID);
    assert_state(f, reading, VR_JOB_CANCELLED);
    vr_jobs_wait(f->jobs, id, LONG_S);

    g_thread_join(g_thread_new("peer", read_as_peer, &ordered));
    wait_for_gates(f, 2);
    id = start(f, "peer", UUID);
    assert_state(f, ordered.id, VR_JOB_CANCELLED);
    vr_jobs_wait(f->jobs, id, LONG_S);
    assert_state(f, id, VR_JOB_COMPLETED);
}

/* A cancel holds also where nobody hears it before the daemon stops, or before it has begun to go
 * on. */
static void
test_cancel_is_durable(Fixture *f, gconstpointer data)
{
    gint64 id = start(f, "gate", UUID);
    gboolean while_down = data != NULL;

    wait_for_gates(f, 1);
    if (!while_down) {
        g_autoptr(VrJobRow) row = NULL;

        close_registry(f);
        f->state = vr_state_open(f->dir, NULL);
        row = vr_state_job_get(f->state, id, NULL);
        g_free(row->result);
        row->result = g_strdup("{\"cancel\":\"yes\"}");
        g_assert_true(vr_state_job_update(f->state, row, NULL));
        vr_state_close(f->state);
    } else {
        close_registry(f);
    }
    open_registry(f);
    g_assert_cmpint(vr_jobs_running(f->jobs, UUID), ==, id);
    if (while_down)
        g_assert_true(vr_jobs_cancel(f->jobs, id, NULL));
    g_assert_true(vr_jobs_resume(f->jobs, NULL));
    vr_jobs_wait(f->jobs, id, LONG_S);
    assert_state(f, id, VR_JOB_CANCELLED);
    g_assert_cmpint(vr_jobs_running(f->jobs, UUID), ==, 0);
}

static void
test_cancel(Fixture *f, gconstpointer data)
{
    gint64 id = start(f, "gate", UUID);
    g_autoptr(JsonNode) running = NULL;
    g_autoptr(JsonNode) ended = NULL;
    g_autoptr(GError) error = NULL;

    wait_for_gates(f, 1);
    running = get(f, id);
    g_assert_cmpstr(text(running, "state"), ==, "running");
    g_assert_cmpstr(step_state(running, 0), ==, "running");
    g_assert_cmpstr(step_state(running, 1), ==, "pending");
    vr_jobs_wait(f->jobs, id, 0);
    g_assert_true(vr_jobs_cancel(f->jobs, id, &error));
    vr_jobs_wait(f->jobs, id, LONG_S);
    ended = get(f, id);
    g_assert_cmpstr(text(ended, "state"), ==, "cancelled");

    g_assert_false(vr_jobs_cancel(f->jobs, id, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_REFUSED);
    g_assert_cmpstr(vr_error_slug(error), ==, "job-ended");
    g_clear_error(&error);
    g_assert_false(vr_jobs_cancel(f->jobs, id + 1000, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NOT_FOUND);
}

/* A stop of the daemon is not a cancellation: the job runs again, with what it had recorded. */
static void
test_restart(Fixture *f, gconstpointer data)
{
    gint64 id = start(f, "gate", UUID);
    g_autoptr(JsonNode) node = NULL;
    g_autoptr(GError) error = NULL;

    wait_for_gates(f, 1);
    g_assert_null(f->app.earlier);
    close_registry(f);
    open_registry(f);
    g_assert_true(vr_jobs_resume(f->jobs, &error));
    g_assert_no_error(error);
    wait_for_gates(f, 2);
    g_assert_cmpint(vr_jobs_running(f->jobs, UUID), ==, id);
    g_assert_true(f->app.resumed);
    g_assert_cmpstr(f->app.earlier, ==, "made by the first run");
    open_gate(f);
    vr_jobs_wait(f->jobs, id, LONG_S);
    node = get(f, id);
    g_assert_cmpstr(text(node, "state"), ==, "completed");
}

static void
test_ended_stays_ended(Fixture *f, gconstpointer data)
{
    gint64 id = start(f, "plain", UUID);
    g_autoptr(JsonNode) all = NULL;

    vr_jobs_wait(f->jobs, id, LONG_S);
    close_registry(f);
    open_registry(f);
    g_assert_true(vr_jobs_resume(f->jobs, NULL));
    g_assert_cmpuint(vr_jobs_count(f->jobs), ==, 0);
    all = vr_jobs_list(f->jobs, UUID, TRUE, NULL);
    g_assert_cmpuint(json_array_get_length(json_node_get_array(all)), ==, 1);
}

/* A row of a later version does not stop the daemon from starting. */
static void
test_unknown_kind(Fixture *f, gconstpointer data)
{
    VrJobRow row = {.kind = (char *) "reverse",
                    .uuid = (char *) UUID,
                    .domain = (char *) "web1",
                    .state = VR_JOB_RUNNING,
                    .steps = (char *) "[]",
                    .started_us = 1};
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_state_job_insert(f->state, &row, &error));
    g_assert_true(vr_jobs_resume(f->jobs, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(vr_jobs_count(f->jobs), ==, 0);
}

static gpointer
stop_thread(gpointer jobs)
{
    vr_jobs_stop(jobs);
    return NULL;
}

/* A job that was cancelled and has undone its work is over, even if the daemon stops before it
 * could say so. */
static void
test_undone_is_not_resumed(Fixture *f, gconstpointer data)
{
    gint64 id = start(f, "undoing", UUID), other;
    g_autoptr(JsonNode) node = NULL;
    GThread *stopper;

    wait_for_gates(f, 1);
    stopper = g_thread_new("stop", stop_thread, f->jobs);
    for (;;) {
        g_autoptr(GError) error = NULL;

        if (!vr_jobs_start(f->jobs, "plain", UUID, "web1", NULL, &other, &error) &&
            g_error_matches(error, VR_ERROR, VR_ERROR_UNREACHABLE))
            break;
        g_thread_yield();
    }
    open_gate(f);
    g_thread_join(stopper);
    close_registry(f);
    open_registry(f);
    g_assert_true(vr_jobs_resume(f->jobs, NULL));
    g_assert_cmpuint(vr_jobs_count(f->jobs), ==, 0);
    node = get(f, id);
    g_assert_cmpstr(text(node, "state"), ==, "cancelled");
}

/* The row as a kill within the undo leaves it: the next run knows why, and only undoes. */
static void
test_undo_goes_on(Fixture *f, gconstpointer data)
{
    VrJobRow row = {.kind = (char *) "undoing",
                    .uuid = (char *) UUID,
                    .domain = (char *) "web1",
                    .state = VR_JOB_RUNNING,
                    .steps = (char *) "[]",
                    .result = (char *) "{\"undo\":\"{\\\"code\\\":\\\"store-full\\\",\\\"kind\\\":"
                                       "\\\"no-space\\\",\\\"message\\\":\\\"full\\\"}\"}",
                    .started_us = 1};
    g_autoptr(JsonNode) node = NULL;

    g_assert_true(vr_state_job_insert(f->state, &row, NULL));
    g_assert_true(vr_jobs_resume(f->jobs, NULL));
    wait_for_gates(f, 1);
    g_assert_true(f->app.resumed);
    open_gate(f);
    vr_jobs_wait(f->jobs, row.id, LONG_S);
    node = get(f, row.id);
    g_assert_cmpstr(text(node, "state"), ==, "failed");
    g_assert_cmpstr(json_object_get_string_member(
                        json_object_get_object_member(json_node_get_object(node), "error"), "code"),
                    ==, "store-full");
}

/* An end that the database does not take is recorded as soon as it does: the job never runs a
 * second time. */
static void
test_end_is_recorded_later(Fixture *f, gconstpointer data)
{
    gint64 id = start(f, "gate", UUID);
    g_autoptr(VrJobRow) row = NULL;

    wait_for_gates(f, 1);
    g_assert_true(vr_state_run(f->state, NULL, NULL, "PRAGMA query_only = 1", ""));
    open_gate(f);
    vr_jobs_wait(f->jobs, id, 0.5);
    g_assert_true(vr_state_run(f->state, NULL, NULL, "PRAGMA query_only = 0", ""));
    vr_jobs_wait(f->jobs, id, LONG_S);
    row = vr_state_job_get(f->state, id, NULL);
    g_assert_cmpint(row->state, ==, VR_JOB_COMPLETED);
}

static void
test_stopping(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    gint64 id;

    vr_jobs_stop(f->jobs);
    g_assert_false(vr_jobs_start(f->jobs, "plain", UUID, "web1", NULL, &id, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_UNREACHABLE);
}

#define ADD(name, function) g_test_add("/job/" name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    /* a failed job is a warning in the log */
    g_log_set_always_fatal((GLogLevelFlags) (G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL));
    ADD("completes", test_completes);
    ADD("fails", test_fails);
    ADD("one-a-protection", test_one_a_protection);
    ADD("cancel", test_cancel);
    ADD("restart", test_restart);
    ADD("ended-stays-ended", test_ended_stays_ended);
    ADD("undone-is-not-resumed", test_undone_is_not_resumed);
    ADD("undo-goes-on", test_undo_goes_on);
    ADD("end-is-recorded-later", test_end_is_recorded_later);
    ADD("unknown-kind", test_unknown_kind);
    ADD("of-a-peer", test_of_a_peer);
    ADD("yields", test_yields);
    ADD("unread", test_unread);
    g_test_add("/job/cancel-is-durable/recorded", Fixture, NULL, set_up, test_cancel_is_durable,
               tear_down);
    g_test_add("/job/cancel-is-durable/while-down", Fixture, "down", set_up, test_cancel_is_durable,
               tear_down);
    ADD("stopping", test_stopping);
    return g_test_run();
}
