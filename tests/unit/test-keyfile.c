/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/error.h"
#include "policies/keyfile.h"

typedef struct {
    char *name;
    gboolean on;
    guint count;
    guint64 size;
} Target;

static const VrKeySpec specs[] = {
    {.group = "one", .key = "name", .type = VR_KEY_STRING, .offset = G_STRUCT_OFFSET(Target, name)},
    {.group = "one", .key = "on", .type = VR_KEY_BOOL, .offset = G_STRUCT_OFFSET(Target, on)},
    {.group = "two",
     .key = "count",
     .type = VR_KEY_UINT,
     .offset = G_STRUCT_OFFSET(Target, count),
     .min = 2},
    {.group = "two", .key = "size", .type = VR_KEY_SIZE, .offset = G_STRUCT_OFFSET(Target, size)},
};

static gboolean
parse(const char *text, Target *target, GError **error)
{
    return vr_keyfile_parse("f", text, strlen(text), specs, G_N_ELEMENTS(specs), target, error);
}

static void
test_types(void)
{
    Target target = {.name = g_strdup("default"), .count = 3};
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(parse("[one]\nname = a=b#c\non = yes\n[two]\nsize = 64KiB\n", &target, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(target.name, ==, "a=b#c");
    g_assert_true(target.on);
    g_assert_cmpuint(target.count, ==, 3);
    g_assert_cmpuint(target.size, ==, 65536);
    text = vr_keyfile_print(specs, G_N_ELEMENTS(specs), &target);
    g_assert_cmpstr(text, ==, "[one]\nname = a=b#c\non = yes\n\n[two]\ncount = 3\nsize = 64KiB\n");
    g_clear_pointer(&target.name, g_free);
    g_free(text);
    text = vr_keyfile_print(specs, G_N_ELEMENTS(specs), &target);
    g_assert_true(g_str_has_prefix(text, "[one]\non = yes\n"));
}

static void
test_errors(void)
{
    static const struct {
        const char *text;
        const char *message;
    } rows[] = {
        {"[one]\non = true\n", "f:2: on: 'true' is not one of no, yes"},
        {"[two]\ncount = 1\n", "f:2: count: '1' is below 2"},
        {"[two]\ncount = 99999999999\n", "f:2: count: '99999999999' is not a number"},
        {"[two]\nsize = 9223372036854775808\n",
         "f:2: size: '9223372036854775808' is too far above 0"},
        {"[two]\nname = x\n", "f:2: unknown key 'name' in [two]"},
        {"[one]\n= x\n", "f:2: expected 'key = value', '[group]' or a comment"},
        {"[one]\nname = # x\n",
         "f:2: a comment behind a value would be part of it; put it on a line of its own"},
        {"[]\n", "f:1: '[]' is not a [group]"},
        {"[a]]\n", "f:1: '[a]]' is not a [group]"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        Target target = {NULL};
        g_autoptr(GError) error = NULL;

        g_assert_false(parse(rows[i].text, &target, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
        g_assert_cmpstr(vr_error_slug(error), ==, "bad-key-file");
        g_assert_cmpstr(error->message, ==, rows[i].message);
        g_free(target.name);
    }
}

static void
test_scan(void)
{
    static const char text[] = "[vm web]\ndisk = a\ndisk = b\n\n[vm db]\n  order=1";
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) entries = vr_keyfile_scan("f", text, strlen(text), &error);
    const VrKeyfileEntry *last;

    g_assert_no_error(error);
    g_assert_cmpuint(entries->len, ==, 3);
    last = g_ptr_array_index(entries, 2);
    g_assert_cmpstr(last->group, ==, "vm db");
    g_assert_cmpstr(last->key, ==, "order");
    g_assert_cmpstr(last->value, ==, "1");
    g_assert_cmpuint(last->line, ==, 6);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/keyfile/types", test_types);
    g_test_add_func("/keyfile/errors", test_errors);
    g_test_add_func("/keyfile/scan", test_scan);
    return g_test_run();
}
