/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/did_you_mean.h"

static void
test_did_you_mean(void)
{
    static const char *const names[] = {"pause", "protect", "unprotect", "rp-list", "list", NULL};
    g_autofree char *long_word = g_strnfill(500, 'p');
    g_autofree char *long_name = g_strnfill(65, 'p');
    const char *const too_long[] = {long_name, NULL};

    g_assert_cmpstr(vr_did_you_mean("puase", names), ==, "pause");
    g_assert_cmpstr(vr_did_you_mean("protekt", names), ==, "protect");
    g_assert_cmpstr(vr_did_you_mean("protec", names), ==, "protect");
    g_assert_cmpstr(vr_did_you_mean("rplist", names), ==, "rp-list");
    g_assert_cmpstr(vr_did_you_mean("lsit", names), ==, "list");
    g_assert_null(vr_did_you_mean("failover", names));
    g_assert_null(vr_did_you_mean("zzzz", names));
    g_assert_null(vr_did_you_mean("", names));
    g_assert_null(vr_did_you_mean(long_word, names));
    g_assert_null(vr_did_you_mean("ppppp", too_long));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/did-you-mean", test_did_you_mean);
    return g_test_run();
}
