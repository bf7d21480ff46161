/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/replicate.h"
#include "plugin/exclusive.h"
#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/state/state_peer.h"

#define UUID "11111111-2222-3333-4444-555555555555"
#define PEER "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

/* A real database, guards and scheduler; the cycles are fakes that hang until they are cancelled.
 */
typedef struct {
    VrApp app;
    char *dir;
    gint begun, ended; /* atomic */
    gboolean hang;
} Fixture;

static void
cycle(gpointer data, const char *uuid, GCancellable *cancel)
{
    Fixture *f = data;

    g_atomic_int_inc(&f->begun);
    while (f->hang && !g_cancellable_is_cancelled(cancel))
        g_usleep(1000);
    g_atomic_int_inc(&f->ended);
}

static void
add_protection(Fixture *f, VrRole role, VrProtectionState state)
{
    g_autoptr(GError) error = NULL;
    VrProtection row = {
        .uuid = (char *) UUID,
        .name = (char *) "web1",
        .role = role,
        .peer = (char *) PEER,
        .store = (char *) "default",
        .policy = (char *) "default",
        .policy_text = (char *) "",
        .state = state,
        .generation = (char *) "g",
        .exclude = (char *) "",
    };

    g_assert_true(vr_state_protection_insert(f->app.state, &row, &error));
    g_assert_no_error(error);
}

static void
set_up(Fixture *f, gconstpointer data)
{
    VrPeer peer = {.fingerprint = (char *) PEER,
                   .name = (char *) "kvm2",
                   .address = (char *) "10.0.0.1:16540",
                   .added_us = 5};
    g_autoptr(GError) error = NULL;

    f->dir = g_dir_make_tmp("vr-exclusive-XXXXXX", NULL);
    f->app.state = vr_state_open(f->dir, &error);
    g_assert_no_error(error);
    g_assert_true(vr_state_peer_put(f->app.state, &peer, &error));
    f->app.guards = vr_guards_new();
    f->app.policies = vr_policy_files_new(f->dir);
    f->app.scheduler = vr_scheduler_new(1, cycle, f);
    f->hang = TRUE;
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    vr_scheduler_stop(f->app.scheduler);
    vr_scheduler_free(f->app.scheduler);
    vr_policy_files_free(f->app.policies);
    vr_guards_free(f->app.guards);
    vr_state_close(f->app.state);
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_free(f->dir);
}

/* A cycle of it may be started. */
static gboolean
scheduled(Fixture *f)
{
    VrScheduleInfo info;

    vr_scheduler_info(f->app.scheduler, UUID, &info);
    return info.known && info.next_due_us != 0;
}

static void
begin(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_exclusive_begin(&f->app, UUID, "a test", 0, NULL, &error));
    g_assert_no_error(error);
}

static gboolean
is_free(Fixture *f)
{
    if (!vr_guard_take(f->app.guards, UUID, "looking", 0, NULL, NULL))
        return FALSE;
    vr_guard_release(f->app.guards, UUID);
    return TRUE;
}

/* Whatever happened in between, the state at the end decides. */
static void
test_by_state(Fixture *f, gconstpointer data)
{
    static const struct {
        VrRole role;
        VrProtectionState state;
        gboolean scheduled;
    } rows[] = {
        {VR_ROLE_SOURCE, VR_PROTECTION_PROTECTED, TRUE},
        {VR_ROLE_SOURCE, VR_PROTECTION_INITIAL, TRUE},
        {VR_ROLE_SOURCE, VR_PROTECTION_RESYNC_NEEDED, TRUE},
        {VR_ROLE_SOURCE, VR_PROTECTION_PAUSED, FALSE},
        {VR_ROLE_SOURCE, VR_PROTECTION_FAILING_OVER, FALSE},
        {VR_ROLE_SOURCE, VR_PROTECTION_FAILED_OVER, FALSE},
        {VR_ROLE_SOURCE, VR_PROTECTION_DISABLING, FALSE},
        {VR_ROLE_TARGET, VR_PROTECTION_PROTECTED, FALSE},
    };
    g_autoptr(VrPolicy) policy = vr_policy_default();

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        add_protection(f, rows[i].role, VR_PROTECTION_PROTECTED);
        vr_scheduler_add(f->app.scheduler, UUID, PEER, policy);
        begin(f);
        g_assert_false(scheduled(f));
        g_assert_false(is_free(f));
        g_assert_true(vr_state_protection_set_state(f->app.state, UUID, rows[i].state, NULL));
        vr_exclusive_end(&f->app, UUID);
        g_assert_true(is_free(f));
        g_assert_cmpint(scheduled(f), ==, rows[i].scheduled);
        vr_scheduler_remove(f->app.scheduler, UUID);
        g_assert_true(vr_state_protection_delete(f->app.state, UUID, NULL));
    }
}

static void
test_gone(Fixture *f, gconstpointer data)
{
    add_protection(f, VR_ROLE_SOURCE, VR_PROTECTION_PROTECTED);
    begin(f);
    g_assert_true(vr_state_protection_delete(f->app.state, UUID, NULL));
    vr_exclusive_end(&f->app, UUID);
    g_assert_true(is_free(f));
    g_assert_false(scheduled(f));
}

/* A holder that is refused changes nothing. */
static void
test_refused(Fixture *f, gconstpointer data)
{
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    g_autoptr(VrPolicy) policy = vr_policy_default();
    g_autoptr(GError) error = NULL;

    add_protection(f, VR_ROLE_SOURCE, VR_PROTECTION_PROTECTED);
    vr_scheduler_add(f->app.scheduler, UUID, PEER, policy);
    begin(f);
    g_assert_false(vr_exclusive_begin(&f->app, UUID, "another", 0, NULL, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CONFLICT);
    g_assert_false(scheduled(f));
    vr_exclusive_end(&f->app, UUID);
    g_assert_true(scheduled(f));
    begin(f);
    g_clear_error(&error);
    g_cancellable_cancel(cancel);
    g_assert_false(vr_exclusive_begin(&f->app, UUID, "another", -1, cancel, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CANCELLED);
    g_assert_true(
        vr_state_protection_set_state(f->app.state, UUID, VR_PROTECTION_FAILED_OVER, NULL));
    vr_exclusive_end(&f->app, UUID);
    g_assert_false(scheduled(f));
}

/* Somebody has a look at it: that mends no cause of failure and forgets no failure. */
static void
test_keeps_history(Fixture *f, gconstpointer data)
{
    g_autoptr(VrPolicy) policy = vr_policy_default();
    g_autoptr(GError) away = vr_error_new(VR_ERROR_TRANSIENT, "peer-away", NULL, "no answer");
    g_autoptr(GError) wrong = vr_error_new(VR_ERROR_AUTH, "peer-unknown", NULL, "who are you");
    VrScheduleInfo before, after;

    add_protection(f, VR_ROLE_SOURCE, VR_PROTECTION_PROTECTED);
    vr_scheduler_add(f->app.scheduler, UUID, PEER, policy);
    vr_scheduler_report(
        f->app.scheduler, UUID,
        &(VrCycleReport){.point_us = g_get_monotonic_time(), .app_consistent = TRUE});
    vr_scheduler_report(f->app.scheduler, UUID, &(VrCycleReport){.error = away, .scheduled = TRUE});
    vr_scheduler_info(f->app.scheduler, UUID, &before);
    begin(f);
    vr_exclusive_end(&f->app, UUID);
    vr_scheduler_info(f->app.scheduler, UUID, &after);
    g_assert_cmpuint(after.due_hour, ==, 2);
    g_assert_cmpuint(after.missed_hour, ==, 1);
    g_assert_cmpint(after.app_age_us, >=, 0);
    g_assert_cmpint(ABS(after.next_due_us - before.next_due_us), <, G_USEC_PER_SEC);
    vr_scheduler_report(f->app.scheduler, UUID,
                        &(VrCycleReport){.error = wrong, .scheduled = TRUE});
    begin(f);
    vr_exclusive_end(&f->app, UUID);
    vr_scheduler_info(f->app.scheduler, UUID, &after);
    g_assert_true(after.blocked);
}

static void
test_cancels_cycle(Fixture *f, gconstpointer data)
{
    add_protection(f, VR_ROLE_SOURCE, VR_PROTECTION_PROTECTED);
    vr_scheduler_start(f->app.scheduler);
    begin(f);
    vr_exclusive_end(&f->app, UUID);
    while (g_atomic_int_get(&f->begun) == 0)
        g_usleep(1000);
    begin(f);
    g_assert_cmpint(g_atomic_int_get(&f->ended), ==, g_atomic_int_get(&f->begun));
    vr_exclusive_end(&f->app, UUID);
}

/* Whoever schedules what he read before it was paused is late; the cycle finds out. */
static void
test_late_schedule(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) row = NULL;
    VrScheduler *fake = f->app.scheduler;

    f->app.scheduler = vr_scheduler_new(1, vr_replicate_scheduled, &f->app);
    vr_scheduler_start(f->app.scheduler);
    add_protection(f, VR_ROLE_SOURCE, VR_PROTECTION_PROTECTED);
    row = vr_state_protection_get(f->app.state, UUID, NULL);
    begin(f);
    g_assert_true(vr_state_protection_set_state(f->app.state, UUID, VR_PROTECTION_PAUSED, NULL));
    vr_exclusive_end(&f->app, UUID);
    g_assert_true(vr_replicate_schedule(&f->app, row, NULL));
    while (scheduled(f))
        g_usleep(1000);
    vr_scheduler_stop(fake);
    vr_scheduler_free(fake);
}

#define ADD(name, function)                                                                        \
    g_test_add("/exclusive/" name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("by-state", test_by_state);
    ADD("gone", test_gone);
    ADD("refused", test_refused);
    ADD("keeps-history", test_keeps_history);
    ADD("cancels-cycle", test_cancels_cycle);
    ADD("late-schedule", test_late_schedule);
    return g_test_run();
}
