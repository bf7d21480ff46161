/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/ids.h"

static void
test_uuid(void)
{
    g_assert_true(vr_uuid_valid("a1b2c3d4-0000-1111-2222-333344445555"));
    g_assert_false(vr_uuid_valid("A1b2c3d4-0000-1111-2222-333344445555"));
    g_assert_false(vr_uuid_valid("a1b2c3d4-0000-1111-2222-33334444555"));
    g_assert_false(vr_uuid_valid("a1b2c3d4-0000-1111-2222-3333444455556"));
    g_assert_false(vr_uuid_valid("a1b2c3d40000-1111-2222-3333-44445555"));
    g_assert_false(vr_uuid_valid("a1b2c3d4-0000-1111-2222-33334444555/"));
    g_assert_false(vr_uuid_valid(""));
    g_assert_false(vr_uuid_valid(NULL));
}

static void
test_names(void)
{
    g_autofree char *longest = g_strnfill(63, 'a');
    g_autofree char *too_long = g_strnfill(64, 'a');
    static const char *const bad[] = {"",    ".",  "..",       "-x", "a/b", "a b",
                                      "a\n", "_a", "\xc3\xa4", "a$", NULL};

    g_assert_true(vr_name_valid("a"));
    g_assert_true(vr_name_valid("Site-2.example_x"));
    g_assert_true(vr_name_valid(longest));
    g_assert_false(vr_name_valid(too_long));
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(vr_name_valid(bad[i]));
}

static void
test_disks_and_ids(void)
{
    g_assert_true(vr_disk_name_valid("vda"));
    g_assert_true(vr_disk_name_valid("sdab12345678901x"));
    g_assert_false(vr_disk_name_valid("sdab123456789012x"));
    g_assert_false(vr_disk_name_valid("v"));
    g_assert_false(vr_disk_name_valid("1da"));
    g_assert_false(vr_disk_name_valid("../a"));
    g_assert_false(vr_disk_name_valid("vdA"));
    g_assert_false(vr_disk_name_valid(NULL));
    g_assert_true(vr_cycle_id_valid("0123456789abcdef0123456789abcdef"));
    g_assert_false(vr_cycle_id_valid("0123456789abcdef0123456789abcde"));
    g_assert_false(vr_cycle_id_valid("0123456789abcdef0123456789abcdef0"));
    g_assert_false(vr_cycle_id_valid("0123456789ABCDEF0123456789abcdef"));
    g_assert_false(vr_cycle_id_valid(NULL));
}

static void
test_display(void)
{
    g_autofree char *clean = vr_display_name("w\xc3\xa4 b", 99);
    g_autofree char *dirty = vr_display_name("a\n\x1b[2J\xff", 99);
    g_autofree char *cut = vr_display_name("\xc3\xa4\xc3\xa4\xc3\xa4", 2);
    g_autofree char *none = vr_display_name(NULL, 2);

    g_assert_cmpstr(clean, ==, "w\xc3\xa4 b");
    g_assert_true(g_str_has_prefix(dirty, "a??[2J"));
    g_assert_true(g_utf8_validate(dirty, -1, NULL));
    g_assert_cmpstr(cut, ==, "\xc3\xa4\xc3\xa4");
    g_assert_cmpstr(none, ==, "");
}

static void
test_shell_word(void)
{
    static const struct {
        const char *word;
        const char *shown;
    } words[] = {
        {"dr", "dr"},
        {"dr,prod-2", "dr,prod-2"},
        {"", "''"},
        {"lab net", "'lab net'"},
        {"$(reboot)", "'$(reboot)'"},
        {"it's", "'it'\\''s'"},
        {"a;b", "'a;b'"},
        {"~root", "'~root'"},
        {"a\\,b", "'a\\,b'"},
        {"gr\303\274n", "gr\303\274n"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(words); i++) {
        g_autofree char *shown = vr_shell_word(words[i].word);

        g_assert_cmpstr(shown, ==, words[i].shown);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ids/uuid", test_uuid);
    g_test_add_func("/ids/names", test_names);
    g_test_add_func("/ids/disks-and-ids", test_disks_and_ids);
    g_test_add_func("/ids/display", test_display);
    g_test_add_func("/ids/shell-word", test_shell_word);
    return g_test_run();
}
