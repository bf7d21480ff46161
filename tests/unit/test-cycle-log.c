/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/cycle_log.h"
#include "policies/error.h"

#define UUID "11111111-2222-3333-4444-555555555555"

static void
assert_state(JsonObject *cycle, const char *state, const char *kind, gint64 read, double progress)
{
    g_assert_nonnull(cycle);
    g_assert_cmpstr(json_object_get_string_member(cycle, "state"), ==, state);
    g_assert_cmpstr(json_object_get_string_member_with_default(cycle, "kind", NULL), ==, kind);
    g_assert_cmpint(json_object_get_int_member(cycle, "bytes_read"), ==, read);
    g_assert_cmpfloat(json_object_get_double_member(cycle, "progress"), ==, progress);
    g_assert_cmpfloat(json_object_get_double_member(cycle, "seconds"), >=, 0);
    g_assert_nonnull(json_object_get_string_member(cycle, "started"));
    json_object_unref(cycle);
}

static void
test_life(void)
{
    VrCycleLog *log = vr_cycle_log_new();
    VrCopyProgress progress = {0};
    JsonObject *last;

    g_assert_null(vr_cycle_log_current(log, UUID));
    g_assert_null(vr_cycle_log_last(log, UUID));
    vr_cycle_log_kind(log, UUID, VR_CYCLE_DELTA); /* of nothing */
    vr_cycle_log_end(log, UUID, NULL, 1);
    g_assert_null(vr_cycle_log_last(log, UUID));

    vr_cycle_log_begin(log, UUID, &progress);
    assert_state(vr_cycle_log_current(log, UUID), "waiting", NULL, 0, 0);
    vr_cycle_log_running(log, UUID);
    vr_cycle_log_kind(log, UUID, VR_CYCLE_DELTA);
    progress = (VrCopyProgress){.total = 200, .done = 50, .read = 40, .sent = 20};
    assert_state(vr_cycle_log_current(log, UUID), "running", "delta", 40, 0.25);
    g_assert_null(vr_cycle_log_last(log, UUID));

    progress.done = 100;
    vr_cycle_log_end(log, UUID, NULL, 17);
    g_assert_null(vr_cycle_log_current(log, UUID));
    progress.read = 0; /* not looked at any more */
    last = vr_cycle_log_last(log, UUID);
    g_assert_cmpint(json_object_get_int_member(last, "rp"), ==, 17);
    g_assert_cmpint(json_object_get_int_member(last, "bytes_sent"), ==, 20);
    g_assert_true(json_object_get_null_member(last, "error"));
    assert_state(last, "completed", "delta", 40, 1);
    vr_cycle_log_forget(log, UUID);
    g_assert_null(vr_cycle_log_last(log, UUID));
    vr_cycle_log_free(log);
}

/* One that failed replaces the last; the one under way is seen beside it. */
static void
test_failure(void)
{
    VrCycleLog *log = vr_cycle_log_new();
    VrCopyProgress progress = {.total = 4, .done = 1};
    g_autoptr(GError) error = vr_error_new(VR_ERROR_TRANSIENT, "peer-unreachable", NULL, "away");
    g_autoptr(GError) cancelled = vr_error_new(VR_ERROR_CANCELLED, "cancelled", NULL, "stop");
    JsonObject *last;

    vr_cycle_log_begin(log, UUID, &progress);
    vr_cycle_log_end(log, UUID, error, 0);
    vr_cycle_log_begin(log, UUID, &progress);
    last = vr_cycle_log_last(log, UUID);
    g_assert_cmpstr(
        json_object_get_string_member(json_object_get_object_member(last, "error"), "message"), ==,
        "away");
    g_assert_true(json_object_get_null_member(last, "rp"));
    assert_state(last, "failed", NULL, 0, 0.25);
    assert_state(vr_cycle_log_current(log, UUID), "waiting", NULL, 0, 0.25);
    vr_cycle_log_end(log, UUID, cancelled, 0);
    assert_state(vr_cycle_log_last(log, UUID), "cancelled", NULL, 0, 0.25);
    vr_cycle_log_free(log);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cycle-log/life", test_life);
    g_test_add_func("/cycle-log/failure", test_failure);
    return g_test_run();
}
