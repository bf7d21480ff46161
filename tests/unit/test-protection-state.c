/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/error.h"
#include "policies/protection_state.h"

static void
test_names(void)
{
    for (guint i = 0; i < VR_PROTECTION_STATE_LAST; i++) {
        VrProtectionState state = VR_PROTECTION_STATE_LAST;

        g_assert_true(
            vr_protection_state_from_name(vr_protection_state_name((VrProtectionState) i), &state));
        g_assert_cmpuint(state, ==, i);
    }
    g_assert_false(vr_protection_state_from_name("nonsense", NULL));
    g_assert_false(vr_protection_state_from_name(NULL, NULL));
    for (guint i = 0; i < VR_EVENT_LAST; i++)
        g_assert_nonnull(vr_protection_event_name((VrProtectionEvent) i));
    for (guint i = 0; i < VR_OPERATION_LAST; i++)
        g_assert_nonnull(vr_operation_name((VrOperation) i));
}

static VrProtectionState
walk(VrProtectionState state, const VrProtectionEvent *events, guint n)
{
    for (guint i = 0; i < n; i++) {
        g_autoptr(GError) error = NULL;

        g_assert_true(vr_protection_next(state, events[i], &state, &error));
        g_assert_no_error(error);
    }
    return state;
}

static void
test_main_path(void)
{
    static const VrProtectionEvent events[] = {
        VR_EVENT_CREATED,           VR_EVENT_INITIAL_DONE,
        VR_EVENT_TRACKING_LOST,     VR_EVENT_RESYNC_STARTED,
        VR_EVENT_RESYNC_STOPPED,    VR_EVENT_RESYNC_STARTED,
        VR_EVENT_RESYNC_DONE,       VR_EVENT_PAUSED,
        VR_EVENT_RESUMED,           VR_EVENT_FAILOVER_STARTED,
        VR_EVENT_FAILOVER_UNDONE,   VR_EVENT_FAILOVER_STARTED,
        VR_EVENT_FAILOVER_DONE,     VR_EVENT_UNPROTECT_STARTED,
        VR_EVENT_UNPROTECT_STARTED,
    };

    g_assert_cmpint(walk(VR_PROTECTION_ENABLING, events, G_N_ELEMENTS(events)), ==,
                    VR_PROTECTION_DISABLING);
    g_assert_cmpint(walk(VR_PROTECTION_ENABLING, events, 2), ==, VR_PROTECTION_PROTECTED);
    g_assert_cmpint(walk(VR_PROTECTION_ENABLING, events, 13), ==, VR_PROTECTION_FAILED_OVER);
}

static void
test_refusals(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) busy = NULL;
    VrProtectionState state = VR_PROTECTION_PAUSED;

    g_assert_false(
        vr_protection_next(VR_PROTECTION_FAILED_OVER, VR_EVENT_RESYNC_DONE, &state, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_REFUSED);
    g_assert_cmpint(state, ==, VR_PROTECTION_PAUSED);
    g_assert_nonnull(strstr(error->message, "'failed-over'"));
    g_assert_nonnull(strstr(error->message, "unprotect-started"));
    g_clear_error(&error);
    g_assert_false(vr_protection_admits(VR_PROTECTION_PAUSED, VR_OPERATION_SYNC, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_REFUSED);
    g_assert_cmpstr(error->message, ==,
                    "'sync' is not possible in state 'paused'; possible: resume, change of policy "
                    "or disks, unprotect");
    g_assert_false(vr_protection_admits(VR_PROTECTION_FAILING_OVER, VR_OPERATION_UNPROTECT, NULL));
    g_assert_false(vr_protection_admits(VR_PROTECTION_REVERSING, VR_OPERATION_PAUSE, &busy));
    g_assert_nonnull(strstr(busy->message, "possible: nothing"));
}

/* What a state admits must be possible by the table. */
static void
test_tables_agree(void)
{
    for (guint i = 0; i < VR_PROTECTION_STATE_LAST; i++) {
        VrProtectionState state = (VrProtectionState) i;
        VrProtectionState next;

        g_assert_cmpint(vr_protection_admits(state, VR_OPERATION_PAUSE, NULL), ==,
                        vr_protection_next(state, VR_EVENT_PAUSED, &next, NULL));
        g_assert_cmpint(vr_protection_admits(state, VR_OPERATION_RESUME, NULL), ==,
                        vr_protection_next(state, VR_EVENT_RESUMED, &next, NULL));
        g_assert_cmpint(vr_protection_admits(state, VR_OPERATION_PLANNED_FAILOVER, NULL), ==,
                        vr_protection_next(state, VR_EVENT_FAILOVER_STARTED, &next, NULL));
        if (state != VR_PROTECTION_COMMITTED)
            g_assert_cmpint(vr_protection_admits(state, VR_OPERATION_UNPROTECT, NULL), ==,
                            vr_protection_next(state, VR_EVENT_UNPROTECT_STARTED, &next, NULL));
    }
}

/* From wherever events may lead, unprotect is within two steps. */
static void
test_random_walks(void)
{
    for (guint run = 0; run < 2000; run++) {
        VrProtectionState state = VR_PROTECTION_ENABLING;

        for (guint i = 0; i < 30; i++)
            (void) vr_protection_next(
                state, (VrProtectionEvent) g_test_rand_int_range(0, VR_EVENT_UNPROTECT_STARTED),
                &state, NULL);
        if (state == VR_PROTECTION_FAILING_OVER)
            g_assert_true(vr_protection_next(state, VR_EVENT_FAILOVER_UNDONE, &state, NULL));
        g_assert_true(vr_protection_next(state, VR_EVENT_UNPROTECT_STARTED, &state, NULL));
        g_assert_cmpint(state, ==, VR_PROTECTION_DISABLING);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/protection-state/names", test_names);
    g_test_add_func("/protection-state/main-path", test_main_path);
    g_test_add_func("/protection-state/refusals", test_refusals);
    g_test_add_func("/protection-state/tables-agree", test_tables_agree);
    g_test_add_func("/protection-state/random-walks", test_random_walks);
    return g_test_run();
}
