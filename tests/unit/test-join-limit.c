/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/join_limit.h"

#define MINUTE_US (60 * G_USEC_PER_SEC)

static void
test_keys(void)
{
    VrJoinLimit *limit = vr_join_limit_new();
    gint64 now_us = 1000 * G_USEC_PER_SEC;

    for (guint i = 0; i < VR_JOIN_WRONG_MAX; i++) {
        g_assert_true(vr_join_limit_check(limit, "10.0.0.1", "k1", now_us, NULL));
        vr_join_limit_wrong(limit, "10.0.0.1", "k1", now_us);
    }
    g_assert_false(vr_join_limit_check(limit, "10.0.0.1", "k2", now_us, NULL));
    g_assert_false(vr_join_limit_check(limit, "10.0.0.2", "k1", now_us, NULL));
    g_assert_true(vr_join_limit_check(limit, "10.0.0.2", "k2", now_us, NULL));
    g_assert_true(vr_join_limit_check(limit, "10.0.0.1", "k1", now_us + MINUTE_US + 1, NULL));
    vr_join_limit_free(limit);
}

/* Addresses of one IPv6 network are one; others are others. */
static void
test_networks(void)
{
    VrJoinLimit *limit = vr_join_limit_new();

    for (guint i = 0; i < VR_JOIN_WRONG_MAX; i++) {
        g_autofree char *address = g_strdup_printf("2001:db8::%x", i + 1);
        g_autofree char *key = g_strdup_printf("k%u", i);

        vr_join_limit_wrong(limit, address, key, 1);
    }
    g_assert_false(vr_join_limit_check(limit, "2001:db8::ffff", "new", 1, NULL));
    g_assert_true(vr_join_limit_check(limit, "2001:db8:0:1::1", "new", 1, NULL));
    vr_join_limit_free(limit);
}

/* Whoever comes from everywhere makes the table forget, not refuse. */
static void
test_bounded(void)
{
    VrJoinLimit *limit = vr_join_limit_new();

    for (guint i = 0; i < 10000; i++) {
        g_autofree char *address = g_strdup_printf("10.%u.%u.1", i / 256, i % 256);
        g_autofree char *key = g_strdup_printf("k%u", i);

        g_assert_true(vr_join_limit_check(limit, address, key, 1 + i, NULL));
        vr_join_limit_wrong(limit, address, key, 1 + i);
    }
    g_assert_true(vr_join_limit_check(limit, "192.168.1.1", "right", 10001, NULL));
    vr_join_limit_free(limit);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/join-limit/keys", test_keys);
    g_test_add_func("/join-limit/networks", test_networks);
    g_test_add_func("/join-limit/bounded", test_bounded);
    return g_test_run();
}
