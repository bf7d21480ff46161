/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/error.h"
#include "policies/retry.h"
#include "policies/schedule.h"

#define S ((gint64) G_USEC_PER_SEC)
#define MINUTE (60 * S)

static VrScheduleInput
input(gint64 interval, gint64 last_start)
{
    return (VrScheduleInput){.interval_us = interval,
                             .rpo_target_us = 4 * interval,
                             .last_start_us = last_start,
                             .last_point_us = last_start,
                             .retry_at_us = VR_SCHEDULE_UNKNOWN};
}

static void
test_due(void)
{
    VrScheduleInput in = input(30 * S, 1000 * S);

    g_assert_cmpint(vr_schedule_next_due(&in, 1001 * S), ==, 1030 * S);
    in.last_start_us = VR_SCHEDULE_UNKNOWN;
    in.known_us = 5 * S;
    g_assert_cmpint(vr_schedule_next_due(&in, 7 * S), ==, 5 * S);
    in = input(30 * S, 1000 * S);
    in.paused = TRUE;
    g_assert_cmpint(vr_schedule_next_due(&in, 2000 * S), ==, VR_SCHEDULE_NEVER);
    in.running = TRUE;
    g_assert_cmpint(vr_schedule_next_due(&in, 2000 * S), ==, VR_SCHEDULE_NEVER);
}

static void
test_rpo_brings_forward(void)
{
    VrScheduleInput in = input(100 * S, 1000 * S);

    in.rpo_target_us = 110 * S;
    in.last_duration_us = 20 * S;
    g_assert_cmpint(vr_schedule_next_due(&in, 1001 * S), ==, 1080 * S);
    in.last_duration_us = 500 * S;
    g_assert_cmpint(vr_schedule_next_due(&in, 1001 * S), ==, 1001 * S);
    in.last_point_us = VR_SCHEDULE_UNKNOWN;
    g_assert_cmpint(vr_schedule_next_due(&in, 1001 * S), ==, 1100 * S);
}

static void
test_retry(void)
{
    static const int minutes[] = {1, 2, 4, 8, 10, 30, 30, 30};
    g_autoptr(GError) network = vr_error_new(VR_ERROR_TRANSIENT, "s", NULL, "m");
    g_autoptr(GError) cancelled = vr_error_new(VR_ERROR_CANCELLED, "s", NULL, "m");
    g_autoptr(GError) auth = vr_error_new(VR_ERROR_AUTH, "s", NULL, "m");
    VrRetry retry = {0};
    gint64 now = 5000 * S;

    g_assert_cmpint(vr_retry_due(&retry), ==, VR_SCHEDULE_UNKNOWN);
    vr_retry_failed(&retry, cancelled, now, 0);
    g_assert_cmpint(vr_retry_due(&retry), ==, VR_SCHEDULE_UNKNOWN);
    for (gsize i = 0; i < G_N_ELEMENTS(minutes); i++) {
        vr_retry_failed(&retry, network, now, 0);
        g_assert_cmpint(vr_retry_due(&retry), ==, now + minutes[i] * MINUTE);
        now = vr_retry_due(&retry);
    }
    vr_retry_cause_gone(&retry, now);
    g_assert_cmpint(vr_retry_due(&retry), ==, now);
    vr_retry_failed(&retry, network, now, 0);
    g_assert_cmpint(vr_retry_due(&retry), ==, now + 30 * MINUTE);
    vr_retry_reset(&retry);
    g_assert_cmpint(vr_retry_due(&retry), ==, VR_SCHEDULE_UNKNOWN);
    vr_retry_failed(&retry, auth, now, 0);
    g_assert_cmpint(vr_retry_due(&retry), ==, VR_SCHEDULE_NEVER);
    vr_retry_cause_gone(&retry, now + 1);
    g_assert_cmpint(vr_retry_due(&retry), ==, now + 1);
}

/* What nobody knows the cause of ends; a scratch limit is met again soon, as less is left then. */
static void
test_retry_by_cause(void)
{
    g_autoptr(GError) network = vr_error_new(VR_ERROR_TRANSIENT, "peer-timeout", NULL, "m");
    g_autoptr(GError) bug = vr_error_new(VR_ERROR_INTERNAL, "libvirt-error", NULL, "m");
    g_autoptr(GError) scratch = vr_error_new(VR_ERROR_NO_SPACE, "scratch-full", NULL, "m");
    VrRetry retry = {0};

    for (guint i = 0; i < VR_RETRY_UNSURE_TRIES; i++)
        vr_retry_failed(&retry, network, 0, 0);
    for (guint i = 1; i < VR_RETRY_UNSURE_TRIES; i++) {
        vr_retry_failed(&retry, bug, 0, 0);
        g_assert_false(retry.blocked);
    }
    vr_retry_failed(&retry, bug, 0, 0);
    g_assert_cmpint(vr_retry_due(&retry), ==, VR_SCHEDULE_NEVER);
    vr_retry_reset(&retry);
    vr_retry_failed(&retry, scratch, 0, 0);
    g_assert_cmpint(vr_retry_due(&retry), ==, 5 * S);
    for (guint i = 0; i < 20; i++)
        vr_retry_failed(&retry, scratch, 0, 0);
    g_assert_cmpint(vr_retry_due(&retry), ==, 60 * S);
}

static void
test_retry_jitter(void)
{
    for (guint i = 1; i < 2000; i++) {
        gint64 plain = vr_retry_delay_us(i % 9, 0);
        gint64 delay = vr_retry_delay_us(i % 9, g_test_rand_int() & G_MAXUINT32);

        g_assert_cmpint(delay, >=, plain);
        g_assert_cmpint(delay, <=, plain + plain / 10);
    }
    g_assert_cmpint(vr_retry_delay_us(G_MAXUINT, 0), ==, 30 * MINUTE);
}

static void
test_retry_classes(void)
{
    static const struct {
        VrError code;
        VrRetryClass class;
    } rows[] = {
        {VR_ERROR_INVALID, VR_RETRY_BLOCKED},   {VR_ERROR_NOT_FOUND, VR_RETRY_BLOCKED},
        {VR_ERROR_REFUSED, VR_RETRY_BLOCKED},   {VR_ERROR_CONFLICT, VR_RETRY_AGAIN},
        {VR_ERROR_TRANSIENT, VR_RETRY_AGAIN},   {VR_ERROR_AUTH, VR_RETRY_BLOCKED},
        {VR_ERROR_NO_SPACE, VR_RETRY_AGAIN},    {VR_ERROR_RESYNC_NEEDED, VR_RETRY_IGNORED},
        {VR_ERROR_CORRUPT, VR_RETRY_BLOCKED},   {VR_ERROR_TIMEOUT, VR_RETRY_AGAIN},
        {VR_ERROR_UNREACHABLE, VR_RETRY_AGAIN}, {VR_ERROR_CANCELLED, VR_RETRY_IGNORED},
        {VR_ERROR_INTERNAL, VR_RETRY_UNSURE},
    };
    g_autoptr(GError) foreign = g_error_new_literal(G_FILE_ERROR, G_FILE_ERROR_IO, "x");

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = vr_error_new(rows[i].code, "s", NULL, "m");

        g_assert_cmpint(vr_error_retry_class(error), ==, rows[i].class);
    }
    g_assert_cmpint(vr_error_retry_class(foreign), ==, VR_RETRY_UNSURE);
}

static void
test_schedule_while_failing(void)
{
    VrScheduleInput in = input(30 * S, 1000 * S);

    in.retry_at_us = 1060 * S;
    g_assert_cmpint(vr_schedule_next_due(&in, 1001 * S), ==, 1060 * S);
    in.retry_at_us = VR_SCHEDULE_NEVER;
    g_assert_cmpint(vr_schedule_next_due(&in, 1001 * S), ==, VR_SCHEDULE_NEVER);
}

static void
test_pick(void)
{
    VrScheduleInput in[3] = {input(10 * S, 1000 * S), input(30 * S, 1000 * S),
                             input(3600 * S, 1000 * S)};
    guint index = 99;
    gint64 wake = 0;

    g_assert_false(vr_schedule_pick(in, 3, 1005 * S, &index, &wake));
    g_assert_cmpint(wake, ==, 1010 * S);
    g_assert_cmpuint(index, ==, 99);
    g_assert_true(vr_schedule_pick(in, 3, 1010 * S, &index, NULL));
    g_assert_cmpuint(index, ==, 0);
    in[0].running = TRUE;
    g_assert_true(vr_schedule_pick(in, 3, 1050 * S, &index, NULL));
    g_assert_cmpuint(index, ==, 1);
    g_assert_false(vr_schedule_pick(in, 0, 1050 * S, &index, &wake));
    g_assert_cmpint(wake, ==, VR_SCHEDULE_NEVER);
}

/* One worker, more work than it can do: everybody gets a turn within minutes. */
static void
test_no_starvation(void)
{
    VrScheduleInput in[4] = {input(S, 0), input(S, 0), input(3600 * S, 0), input(86400 * S, 0)};
    gint64 now = 0;
    gint64 worst[4] = {0};

    while (now < 3 * 86400 * S) {
        guint i = 0;
        gint64 wake = 0;

        if (!vr_schedule_pick(in, 4, now, &i, &wake)) {
            g_assert_cmpint(wake, >, now);
            now = wake;
            continue;
        }
        worst[i] = MAX(worst[i], now - vr_schedule_next_due(&in[i], now));
        in[i].last_start_us = now;
        in[i].last_point_us = now;
        now += 3 * S;
    }
    g_assert_cmpint(worst[0], <=, 20 * S);
    g_assert_cmpint(worst[1], <=, 20 * S);
    g_assert_cmpint(worst[2], <=, 20 * MINUTE);
    g_assert_cmpint(worst[3], <=, 20 * MINUTE);
    g_assert_cmpint(in[3].last_start_us, >, 0);
}

/* Many on a host that cannot keep up, all unknown at first: none waits for the others for ever. */
static void
test_first_turns(void)
{
    VrScheduleInput in[60];
    guint index, turns[G_N_ELEMENTS(in)] = {0};
    gint64 now = 1000 * S;

    for (guint i = 0; i < G_N_ELEMENTS(in); i++) {
        in[i] = input(3 * S, VR_SCHEDULE_UNKNOWN);
        in[i].known_us = now;
    }
    for (guint n = 0; n < 3 * G_N_ELEMENTS(in); n++) {
        g_assert_true(vr_schedule_pick(in, G_N_ELEMENTS(in), now, &index, NULL));
        turns[index]++;
        in[index].last_start_us = in[index].last_point_us = now;
        now += S / 5;
    }
    for (guint i = 0; i < G_N_ELEMENTS(in); i++)
        g_assert_cmpuint(turns[i], ==, 3);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/schedule/due", test_due);
    g_test_add_func("/schedule/rpo-brings-forward", test_rpo_brings_forward);
    g_test_add_func("/schedule/while-failing", test_schedule_while_failing);
    g_test_add_func("/schedule/pick", test_pick);
    g_test_add_func("/schedule/no-starvation", test_no_starvation);
    g_test_add_func("/schedule/first-turns", test_first_turns);
    g_test_add_func("/retry/delays", test_retry);
    g_test_add_func("/retry/by-cause", test_retry_by_cause);
    g_test_add_func("/retry/jitter", test_retry_jitter);
    g_test_add_func("/retry/classes", test_retry_classes);
    return g_test_run();
}
