/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/error.h"
#include "policies/network_map.h"

static void
test_bad_names(void)
{
    static const struct {
        const char *source;
        const char *target;
        const char *test;
        const char *blamed;
    } bad[] = {
        {"", "n", NULL, "source"},   {"n", "a/b", NULL, "target"},  {"n", "..", NULL, "target"},
        {"n", "-x", NULL, "target"}, {"n", "n", "", "test"},        {"n\n", "n", NULL, "source"},
        {NULL, "n", NULL, "source"}, {"n", "\xff", NULL, "target"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(vr_network_map_check(bad[i].source, bad[i].target, bad[i].test, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
        g_assert_true(g_str_has_prefix(error->message, bad[i].blamed));
    }
}

static void
test_good_names(void)
{
    g_autofree char *longest = g_strnfill(255, 'n');
    g_autofree char *too_long = g_strnfill(256, 'n');
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_network_map_check("prod", "dr2", "lab net", &error));
    g_assert_true(vr_network_map_check("prod", "dr2", NULL, &error));
    g_assert_no_error(error);
    g_assert_true(vr_network_name_valid("ovs network-1"));
    g_assert_true(vr_network_name_valid("bridge:br0"));
    g_assert_true(vr_network_name_valid(longest));
    g_assert_false(vr_network_name_valid(too_long));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/network-map/bad-names", test_bad_names);
    g_test_add_func("/network-map/good-names", test_good_names);
    return g_test_run();
}
