/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "plugin/policy_files.h"
#include "policies/error.h"
#include "storage/util/file_util.h"

typedef struct {
    char *dir;
    VrPolicyFiles *files;
} Fixture;

static void
set_up(Fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("vr-policies-XXXXXX", NULL);
    f->files = vr_policy_files_new(f->dir);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    vr_policy_files_free(f->files);
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_free(f->dir);
}

static void
assert_list(Fixture *f, const char *expected)
{
    g_auto(GStrv) names = vr_policy_files_list(f->files);
    g_autofree char *text = g_strjoinv(" ", names);

    g_assert_cmpstr(text, ==, expected);
}

static void
put(Fixture *f, const char *name, const char *text)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_policy_files_put(f->files, name, "given.conf", text, &error));
    g_assert_no_error(error);
}

static void
test_builtin(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrPolicy) policy = vr_policy_files_get(f->files, "default", &error);

    g_assert_no_error(error);
    g_assert_cmpint(policy->interval_us, ==, 30 * G_TIME_SPAN_SECOND);
    g_assert_false(vr_policy_files_has_file(f->files, "default"));
    g_assert_false(vr_policy_files_delete(f->files, "default", &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_REFUSED);
    assert_list(f, "default");
}

static void
test_put_get_delete(Fixture *f, gconstpointer data)
{
    g_autoptr(VrPolicy) policy = NULL;
    g_autoptr(GError) error = NULL;

    put(f, "silver", "[policy]\ninterval=5min\n");
    put(f, "gold", "[policy]\ninterval=1s\n");
    assert_list(f, "default gold silver");
    g_assert_true(vr_policy_files_has_file(f->files, "gold"));
    policy = vr_policy_files_get(f->files, "gold", &error);
    g_assert_no_error(error);
    g_assert_cmpstr(policy->name, ==, "gold");
    g_assert_cmpint(policy->interval_us, ==, G_TIME_SPAN_SECOND);

    g_assert_true(vr_policy_files_delete(f->files, "gold", &error));
    assert_list(f, "default silver");
    g_assert_null(vr_policy_files_get(f->files, "gold", &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NOT_FOUND);
    g_clear_error(&error);
    g_assert_false(vr_policy_files_delete(f->files, "gold", &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NOT_FOUND);
}

/* A file of that name replaces the built-in policy until it is removed. */
static void
test_own_default(Fixture *f, gconstpointer data)
{
    g_autoptr(VrPolicy) own = NULL;
    g_autoptr(VrPolicy) builtin = NULL;

    put(f, "default", "[policy]\ninterval=7s\n");
    own = vr_policy_files_get(f->files, "default", NULL);
    g_assert_cmpint(own->interval_us, ==, 7 * G_TIME_SPAN_SECOND);
    assert_list(f, "default");
    g_assert_true(vr_policy_files_delete(f->files, "default", NULL));
    builtin = vr_policy_files_get(f->files, "default", NULL);
    g_assert_cmpint(builtin->interval_us, ==, 30 * G_TIME_SPAN_SECOND);
}

static void
test_bad_text_changes_nothing(Fixture *f, gconstpointer data)
{
    g_autoptr(VrPolicy) policy = NULL;
    g_autoptr(GError) error = NULL;

    put(f, "gold", "[policy]\ninterval=1s\n");
    g_assert_false(
        vr_policy_files_put(f->files, "gold", "given.conf", "[policy]\n\ninterval=0s\n", &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, "given.conf:3"));
    policy = vr_policy_files_get(f->files, "gold", NULL);
    g_assert_cmpint(policy->interval_us, ==, G_TIME_SPAN_SECOND);
}

static void
test_bad_names(Fixture *f, gconstpointer data)
{
    static const char *const names[] = {"", "..", "../gold", "a/b", ".hidden", "new\nline"};

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(vr_policy_files_put(f->files, names[i], "given.conf",
                                           "[policy]\ninterval=1s\n", &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
        g_clear_error(&error);
        g_assert_null(vr_policy_files_get(f->files, names[i], &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_NOT_FOUND);
        g_assert_false(vr_policy_files_has_file(f->files, names[i]));
    }
}

static void
test_edited_by_hand(Fixture *f, gconstpointer data)
{
    g_autofree char *dir = g_build_filename(f->dir, "policies", NULL);
    g_autofree char *good = g_build_filename(dir, "gold.conf", NULL);
    g_autofree char *other = g_build_filename(dir, "notes.txt", NULL);
    g_autoptr(GError) error = NULL;

    put(f, "gold", "[policy]\ninterval=1s\n");
    g_assert_true(g_file_set_contents(good, "[policy]\ninterval=often\n", -1, NULL));
    g_assert_true(g_file_set_contents(other, "remember", -1, NULL));
    g_assert_null(vr_policy_files_get(f->files, "gold", &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, "gold.conf:2"));
    assert_list(f, "default gold");
}

#define ADD(name, function)                                                                        \
    g_test_add("/policy-files/" name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("builtin", test_builtin);
    ADD("put-get-delete", test_put_get_delete);
    ADD("own-default", test_own_default);
    ADD("bad-text-changes-nothing", test_bad_text_changes_nothing);
    ADD("bad-names", test_bad_names);
    ADD("edited-by-hand", test_edited_by_hand);
    return g_test_run();
}
