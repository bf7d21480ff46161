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

static void
test_list(void)
{
    static const struct {
        const char *text;
        const char *joined; /* with '|' between */
        const char *back;
    } lists[] = {
        {"dr", "dr", "dr"},
        {"prod,dr", "dr|prod", "dr,prod"},
        {"dr,dr,prod,dr", "dr|prod", "dr,prod"},
        {" dr , lab net ", "dr|lab net", "dr,lab net"},
        {"a\\,b,c\\\\d", "a,b|c\\d", "a\\,b,c\\\\d"},
        {"a\\b", "a\\b", "a\\\\b"},
        {"-", "", "-"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(lists); i++) {
        g_autoptr(GError) error = NULL;
        g_auto(GStrv) names = vr_network_list_parse(lists[i].text, &error);
        g_autofree char *joined = NULL;
        g_autofree char *back = NULL;

        g_assert_no_error(error);
        joined = g_strjoinv("|", names);
        g_assert_cmpstr(joined, ==, lists[i].joined);
        back = vr_network_list_format((const char *const *) names);
        g_assert_cmpstr(back, ==, lists[i].back);
    }
}

static void
test_bad_lists(void)
{
    static const char *const bad[] = {"",     ",",   "dr,",   ",dr",   "dr,,x",
                                      "-,dr", "a/b", "dr,..", "x\nz,y"};
    GString *many = g_string_new("n");
    g_autoptr(GError) error = NULL;

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) refused = NULL;

        g_assert_null(vr_network_list_parse(bad[i], &refused));
        g_assert_error(refused, VR_ERROR, VR_ERROR_INVALID);
        g_assert_cmpstr(vr_error_slug(refused), ==, "bad-network-name");
    }
    for (guint i = 0; i < VR_NETWORK_LIST_MAX; i++)
        g_string_append_printf(many, ",n%u", i);
    g_assert_null(vr_network_list_parse(many->str, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "too-many-networks");
    g_string_free(many, TRUE);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/network-map/bad-names", test_bad_names);
    g_test_add_func("/network-map/good-names", test_good_names);
    g_test_add_func("/network-map/list", test_list);
    g_test_add_func("/network-map/bad-lists", test_bad_lists);
    return g_test_run();
}
