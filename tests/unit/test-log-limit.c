/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/log_limit.h"

static void
test_limit(void)
{
    VrLogLimit *limit = vr_log_limit_new();
    gint64 now_us = 1000 * G_USEC_PER_SEC;
    guint suppressed = 99;

    for (guint i = 0; i < VR_LOG_LIMIT_LINES; i++) {
        g_assert_true(vr_log_limit_take(limit, "a", now_us, &suppressed));
        g_assert_cmpuint(suppressed, ==, 0);
    }
    for (guint i = 0; i < 1000; i++)
        g_assert_false(vr_log_limit_take(limit, "a", now_us + i, &suppressed));
    g_assert_true(vr_log_limit_take(limit, "b", now_us, &suppressed));
    now_us += VR_LOG_LIMIT_EVERY_US;
    g_assert_true(vr_log_limit_take(limit, "a", now_us, &suppressed));
    g_assert_cmpuint(suppressed, ==, 1000);
    g_assert_false(vr_log_limit_take(limit, "a", now_us, &suppressed));
    now_us += (gint64) 3600 * G_USEC_PER_SEC;
    for (guint i = 0; i < VR_LOG_LIMIT_LINES; i++)
        g_assert_true(vr_log_limit_take(limit, "a", now_us, &suppressed));
    g_assert_false(vr_log_limit_take(limit, "a", now_us, &suppressed));
    vr_log_limit_free(limit);
}

/* Keys that nobody has seen before do not fill the memory. */
static void
test_bounded(void)
{
    VrLogLimit *limit = vr_log_limit_new();
    guint suppressed;

    for (guint i = 0; i < 100000; i++) {
        g_autofree char *peer = g_strdup_printf("%u", i);

        g_assert_true(vr_log_limit_take(limit, peer, 1, &suppressed));
    }
    vr_log_limit_free(limit);
}

/* A peer that was silent since: how many of its lines were left out is said all the same, once. */
static void
test_left_out(void)
{
    VrLogLimit *limit = vr_log_limit_new();
    g_autofree char *peer = NULL;
    guint suppressed = 0;

    for (guint i = 0; i < VR_LOG_LIMIT_LINES; i++)
        g_assert_true(vr_log_limit_take(limit, "a", 1, &suppressed));
    g_assert_true(vr_log_limit_take(limit, "b", 1, &suppressed));
    for (guint i = 0; i < 7; i++)
        g_assert_false(vr_log_limit_take(limit, "a", 2 + i, &suppressed));
    g_assert_cmpuint(vr_log_limit_left_out(limit, VR_LOG_LIMIT_SAY_US, &peer), ==, 0);
    g_assert_cmpuint(vr_log_limit_left_out(limit, VR_LOG_LIMIT_SAY_US + 2, &peer), ==, 7);
    g_assert_cmpstr(peer, ==, "a");
    g_clear_pointer(&peer, g_free);
    g_assert_cmpuint(vr_log_limit_left_out(limit, 2 * VR_LOG_LIMIT_SAY_US, &peer), ==, 0);
    g_assert_true(vr_log_limit_take(limit, "a", 2 * VR_LOG_LIMIT_SAY_US, &suppressed));
    g_assert_cmpuint(suppressed, ==, 0);
    vr_log_limit_free(limit);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/log-limit/limit", test_limit);
    g_test_add_func("/log-limit/bounded", test_bounded);
    g_test_add_func("/log-limit/left-out", test_left_out);
    return g_test_run();
}
