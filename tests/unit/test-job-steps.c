/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "plugin/job/job.h"
#include "policies/error.h"
#include "storage/util/file_util.h"

#define UUID "11111111-2222-3333-4444-555555555555"
#define LONG_S 30.0

typedef struct {
    char *dir;
    VrState *state;
    VrJobs *jobs;
    GString *log;      /* "a b !b -b -a": run, failed, undone */
    const char *fails; /* step that fails, nullable */
    gboolean undo_fails;
    gint64 child; /* started by step "b" */
} Fixture;

static Fixture *now;

static gboolean
pass(const char *name, GError **error)
{
    gboolean fails = g_strcmp0(now->fails, name) == 0;

    g_string_append_printf(now->log, "%s%s ", fails ? "!" : "", name);
    if (fails)
        vr_set_error(error, VR_ERROR_NO_SPACE, "store-full", NULL, "armed to fail");
    return !fails;
}

static gboolean
undo(const char *name, GError **error)
{
    g_string_append_printf(now->log, "-%s ", name);
    if (now->undo_fails)
        vr_set_error(error, VR_ERROR_INTERNAL, "internal", NULL, "cannot");
    return !now->undo_fails;
}

static gboolean
look(gpointer data, GError **error)
{
    return pass("look", error);
}

static gboolean
run_a(gpointer data, GError **error)
{
    return pass("a", error);
}

static gboolean
undo_a(gpointer data, GError **error)
{
    return undo("a", error);
}

/* One child may hold the protection beside its parent, nobody else. */
static gboolean
run_b(gpointer data, GError **error)
{
    g_autoptr(GError) refused = NULL;
    gint64 other;

    if (!pass("b", error))
        return FALSE;
    g_assert_true(vr_jobs_start_child(now->jobs, vr_job_id(data), "child", UUID, "web1", NULL,
                                      &now->child, NULL));
    vr_jobs_wait(now->jobs, now->child, LONG_S);
    g_assert_false(vr_jobs_start(now->jobs, "child", UUID, "web1", NULL, &other, &refused));
    g_assert_error(refused, VR_ERROR, VR_ERROR_CONFLICT);
    return TRUE;
}

static gboolean
undo_b(gpointer data, GError **error)
{
    return undo("b", error);
}

static gboolean
run_point(gpointer data, GError **error)
{
    return pass("point", error);
}

static gboolean
run_c(gpointer data, GError **error)
{
    return pass("c", error);
}

static gboolean
run_child(VrJob *job, gpointer app, GError **error)
{
    vr_job_step(job, "only");
    return TRUE;
}

static gboolean
run_steps(VrJob *job, gpointer app, GError **error)
{
    return vr_job_run_steps(job, job, error);
}

static const VrJobStepDef steps[] = {
    {"look", look, NULL, VR_JOB_STEP_LOOKS},
    {"a", run_a, undo_a, 0},
    {"b", run_b, undo_b, 0},
    {"point", run_point, NULL, VR_JOB_STEP_NO_RETURN},
    {"c", run_c, NULL, 0},
    {NULL},
};
static const VrJobStepDef one_step[] = {{"only"}, {NULL}};
static const VrJobKind kinds[] = {{"steps", steps, run_steps}, {"child", one_step, run_child}};

static void
set_up(Fixture *f, gconstpointer data)
{
    *f = (Fixture){.dir = g_dir_make_tmp("vr-job-steps-XXXXXX", NULL), .log = g_string_new(NULL)};
    now = f;
    f->state = vr_state_open(f->dir, NULL);
    f->jobs = vr_jobs_new(f->state, kinds, G_N_ELEMENTS(kinds), NULL);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    vr_jobs_stop(f->jobs);
    vr_jobs_free(f->jobs);
    vr_state_close(f->state);
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_free(f->dir);
    g_string_free(f->log, TRUE);
}

/* The log and the state that the job ended in. */
static void
assert_ended(Fixture *f, gint64 id, const char *log, VrJobState state)
{
    g_autoptr(VrJobRow) row = NULL;

    vr_jobs_wait(f->jobs, id, LONG_S);
    row = vr_state_job_get(f->state, id, NULL);
    g_assert_cmpstr(f->log->str, ==, log);
    g_assert_cmpint(row->state, ==, state);
}

static void
run_from_start(Fixture *f, const char *fails, const char *log, VrJobState state)
{
    gint64 id;

    f->fails = fails;
    g_string_truncate(f->log, 0);
    g_assert_true(vr_jobs_start(f->jobs, "steps", UUID, "web1", NULL, &id, NULL));
    assert_ended(f, id, log, state);
}

/* Whether the last job says that it took something back. */
static void
assert_undone(Fixture *f, gboolean undone)
{
    g_autoptr(JsonNode) list = vr_jobs_list(f->jobs, UUID, TRUE, NULL);
    JsonObject *job = json_array_get_object_element(json_node_get_array(list), 0);
    JsonNode *result = json_object_get_member(job, "result");

    g_assert_cmpint(JSON_NODE_HOLDS_OBJECT(result) &&
                        json_object_has_member(json_node_get_object(result), "undo"),
                    ==, undone);
}

static void
test_order(Fixture *f, gconstpointer data)
{
    g_autoptr(VrJobRow) child = NULL;

    run_from_start(f, NULL, "look a b point c ", VR_JOB_COMPLETED);
    child = vr_state_job_get(f->state, f->child, NULL);
    g_assert_cmpint(child->parent, ==, f->child - 1);
    run_from_start(f, "look", "!look ", VR_JOB_FAILED);
    assert_undone(f, FALSE);
    run_from_start(f, "a", "look !a -a ", VR_JOB_FAILED);
    assert_undone(f, TRUE);
    run_from_start(f, "b", "look a !b -b -a ", VR_JOB_FAILED);
    run_from_start(f, "point", "look a b !point -b -a ", VR_JOB_FAILED);
    run_from_start(f, "c", "look a b point !c ", VR_JOB_FAILED);
}

static void
test_undo_fails(Fixture *f, gconstpointer data)
{
    f->undo_fails = TRUE;
    run_from_start(f, "b", "look a !b -b -a ", VR_JOB_FAILED);
}

#define STATE(name, state) "{\"name\":\"" name "\",\"state\":\"" state "\",\"seconds\":1}"

/* The row as an earlier run of the daemon left it. */
static void
resume(Fixture *f, const char *row_steps, const char *result, const char *log, VrJobState state)
{
    VrJobRow row = {.kind = (char *) "steps",
                    .uuid = (char *) UUID,
                    .domain = (char *) "web1",
                    .state = VR_JOB_RUNNING,
                    .steps = (char *) row_steps,
                    .result = (char *) result,
                    .started_us = 1};

    g_string_truncate(f->log, 0);
    g_assert_true(vr_state_job_insert(f->state, &row, NULL));
    g_assert_true(vr_jobs_resume(f->jobs, NULL));
    assert_ended(f, row.id, log, state);
}

static void
test_resumed(Fixture *f, gconstpointer data)
{
    static const char at_point[] = "[" STATE("look", "completed") "," STATE(
        "a", "completed") "," STATE("b", "completed") "," STATE("point", "running") "]";
    static const char behind[] =
        "[" STATE("look", "completed") "," STATE("a", "completed") "," STATE(
            "b", "completed") "," STATE("point", "completed") "," STATE("c", "running") "]";
    static const char looking[] = "[" STATE("look", "running") "," STATE(
        "a", "completed") "," STATE("b", "completed") "," STATE("point", "pending") "]";
    static const char undoing[] = "{\"undo\":\"{\\\"code\\\":\\\"store-full\\\",\\\"kind\\\":"
                                  "\\\"no-space\\\",\\\"message\\\":\\\"full\\\"}\"}";

    resume(f, at_point, NULL, "look point c ", VR_JOB_COMPLETED);
    f->fails = "point";
    resume(f, at_point, NULL, "look !point -b -a ", VR_JOB_FAILED);
    f->fails = "c";
    resume(f, behind, NULL, "look !c ", VR_JOB_FAILED);
    f->fails = "look";
    resume(f, at_point, NULL, "!look -b -a ", VR_JOB_FAILED);
    f->fails = NULL;
    resume(f, looking, NULL, "look point c ", VR_JOB_COMPLETED);
    resume(f, looking, undoing, "-b -a ", VR_JOB_FAILED);
    resume(f, at_point, undoing, "-b -a ", VR_JOB_FAILED);
    resume(f, "[]", NULL, "look a b point c ", VR_JOB_COMPLETED);
    resume(f, "nonsense", NULL, "look a b point c ", VR_JOB_COMPLETED);
}

static void
quiet(const char *domain, GLogLevelFlags level, const char *message, gpointer data)
{
    if (level & (G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_ERROR))
        g_log_default_handler(domain, level, message, data);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL);
    g_log_set_default_handler(quiet, NULL);
    g_test_add("/job-steps/order", Fixture, NULL, set_up, test_order, tear_down);
    g_test_add("/job-steps/undo-fails", Fixture, NULL, set_up, test_undo_fails, tear_down);
    g_test_add("/job-steps/resumed", Fixture, NULL, set_up, test_resumed, tear_down);
    return g_test_run();
}
