/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/join_limit.h"

#define MINUTE_US (60 * G_USEC_PER_SEC)
#define NOW_US (1000 * G_USEC_PER_SEC)

static void
be_wrong(VrJoinLimit *limit, const char *address, guint times, gint64 now_us)
{
    for (guint i = 0; i < times; i++) {
        g_assert_true(vr_join_limit_check(limit, address, now_us, NULL));
        vr_join_limit_wrong(limit, address, now_us);
    }
}

static void
test_addresses(void)
{
    VrJoinLimit *limit = vr_join_limit_new();

    be_wrong(limit, "10.0.0.1", VR_JOIN_WRONG_MAX, NOW_US);
    g_assert_false(vr_join_limit_check(limit, "10.0.0.1", NOW_US, NULL));
    g_assert_false(vr_join_limit_check(limit, "10.0.0.1", NOW_US + MINUTE_US, NULL));
    g_assert_true(vr_join_limit_check(limit, "10.0.0.2", NOW_US, NULL));
    be_wrong(limit, "10.0.0.1", VR_JOIN_WRONG_MAX, NOW_US + MINUTE_US + 1);
    g_assert_false(vr_join_limit_check(limit, "10.0.0.1", NOW_US + MINUTE_US + 1, NULL));
    vr_join_limit_free(limit);
}

/* One that is wrong now and then is not kept out. */
static void
test_slow(void)
{
    VrJoinLimit *limit = vr_join_limit_new();

    for (guint i = 0; i < 100; i++)
        be_wrong(limit, "10.0.0.1", 1, NOW_US + i * (MINUTE_US / VR_JOIN_WRONG_MAX + 1));
    vr_join_limit_free(limit);
}

/* Whoever is wrong beside a host, in the same network, does not keep it out. */
static void
test_networks(void)
{
    VrJoinLimit *limit = vr_join_limit_new();

    be_wrong(limit, "2001:db8::1", VR_JOIN_WRONG_MAX, NOW_US);
    g_assert_false(vr_join_limit_check(limit, "2001:db8::1", NOW_US, NULL));
    g_assert_true(vr_join_limit_check(limit, "2001:db8::ffff", NOW_US, NULL));
    for (guint i = 0; i < 2 * VR_JOIN_WRONG_ALL; i++) {
        g_autofree char *address = g_strdup_printf("2001:db8::%x:1", i);

        be_wrong(limit, address, 1, NOW_US);
    }
    g_assert_true(vr_join_limit_check(limit, "2001:db8::ffff", NOW_US, NULL));
    vr_join_limit_free(limit);
}

/* Whoever comes from everywhere neither keeps others out nor makes forget who is. */
static void
test_bounded(void)
{
    VrJoinLimit *limit = vr_join_limit_new();

    be_wrong(limit, "192.168.0.1", VR_JOIN_WRONG_MAX, NOW_US);
    for (guint i = 0; i < 10000; i++) {
        g_autofree char *address = g_strdup_printf("10.%u.%u.1", i / 256, i % 256);

        be_wrong(limit, address, 1, NOW_US + i);
    }
    g_assert_false(vr_join_limit_check(limit, "192.168.0.1", NOW_US + 10000, NULL));
    g_assert_true(vr_join_limit_check(limit, "192.168.0.2", NOW_US + 10000, NULL));
    be_wrong(limit, "192.168.0.1", VR_JOIN_WRONG_MAX, NOW_US + 2 * MINUTE_US);
    g_assert_false(vr_join_limit_check(limit, "192.168.0.1", NOW_US + 2 * MINUTE_US, NULL));
    vr_join_limit_free(limit);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/join-limit/addresses", test_addresses);
    g_test_add_func("/join-limit/slow", test_slow);
    g_test_add_func("/join-limit/networks", test_networks);
    g_test_add_func("/join-limit/bounded", test_bounded);
    return g_test_run();
}
