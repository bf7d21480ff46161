/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/error.h"
#include "policies/network_map.h"

static void
test_set_lookup_unset(void)
{
    g_autoptr(VrNetworkMap) map = vr_network_map_new();
    g_autoptr(GError) error = NULL;
    const VrNetworkMapEntry *entry;

    g_assert_null(vr_network_map_lookup(map, "b", "prod"));
    g_assert_true(vr_network_map_set(map, "b", "prod", "dr", NULL, &error));
    g_assert_true(vr_network_map_set(map, "c", "prod", "other", "lab", &error));
    g_assert_true(vr_network_map_set(map, "b", "prod", "dr2", "lab net", &error));
    g_assert_no_error(error);
    g_assert_cmpuint(vr_network_map_count(map), ==, 2);
    entry = vr_network_map_lookup(map, "b", "prod");
    g_assert_cmpstr(entry->target, ==, "dr2");
    g_assert_cmpstr(entry->test, ==, "lab net");
    g_assert_true(entry == vr_network_map_get(map, 0));
    g_assert_null(vr_network_map_lookup(map, "b", "dr"));
    g_assert_true(vr_network_map_unset(map, "b", "prod", &error));
    g_assert_null(vr_network_map_lookup(map, "b", "prod"));
    g_assert_nonnull(vr_network_map_lookup(map, "c", "prod"));
    g_assert_false(vr_network_map_unset(map, "b", "prod", &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NOT_FOUND);
}

static void
test_names(void)
{
    static const struct {
        const char *peer;
        const char *source;
        const char *target;
        const char *test;
    } bad[] = {
        {"../b", "n", "n", NULL}, {"b", "", "n", NULL},   {"b", "n", "a/b", NULL},
        {"b", "n", "..", NULL},   {"b", "n", "-x", NULL}, {"b", "n", "n", ""},
        {"b", "n\n", "n", NULL},  {"b", NULL, "n", NULL}, {"b", "n", "\xff", NULL},
    };
    g_autoptr(VrNetworkMap) map = vr_network_map_new();
    g_autofree char *longest = g_strnfill(255, 'n');
    g_autofree char *too_long = g_strnfill(256, 'n');

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(vr_network_map_set(map, bad[i].peer, bad[i].source, bad[i].target,
                                          bad[i].test, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    }
    g_assert_cmpuint(vr_network_map_count(map), ==, 0);
    g_assert_true(vr_network_name_valid("ovs network-1"));
    g_assert_true(vr_network_name_valid(longest));
    g_assert_false(vr_network_name_valid(too_long));
}

static void
test_missing(void)
{
    static const char *const sources[] = {"prod", "dmz", "dmz", "lan", NULL};
    static const char *const none[] = {NULL};
    g_autoptr(VrNetworkMap) map = vr_network_map_new();
    g_auto(GStrv) missing = NULL;
    g_auto(GStrv) nothing = NULL;

    g_assert_true(vr_network_map_set(map, "b", "prod", "dr", NULL, NULL));
    g_assert_true(vr_network_map_set(map, "c", "lan", "dr", NULL, NULL));
    missing = vr_network_map_missing(map, "b", sources);
    g_assert_cmpuint(g_strv_length(missing), ==, 2);
    g_assert_cmpstr(missing[0], ==, "dmz");
    g_assert_cmpstr(missing[1], ==, "lan");
    nothing = vr_network_map_missing(map, "b", none);
    g_assert_cmpuint(g_strv_length(nothing), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/network-map/set-lookup-unset", test_set_lookup_unset);
    g_test_add_func("/network-map/names", test_names);
    g_test_add_func("/network-map/missing", test_missing);
    return g_test_run();
}
