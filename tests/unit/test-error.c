/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "policies/error.h"

static void
test_carries_slug_and_action(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) copy = NULL;

    vr_set_error(&error, VR_ERROR_NOT_FOUND, "no-such-domain", "Run list.", "domain '%s'", "web");
    g_prefix_error(&error, "peer 'b': ");
    copy = g_error_copy(error);
    g_clear_error(&error);
    g_assert_error(copy, VR_ERROR, VR_ERROR_NOT_FOUND);
    g_assert_cmpstr(copy->message, ==, "peer 'b': domain 'web'");
    g_assert_cmpstr(vr_error_slug(copy), ==, "no-such-domain");
    g_assert_cmpstr(vr_error_action(copy), ==, "Run list.");
}

static void
test_null_and_foreign(void)
{
    g_autoptr(GError) foreign = g_error_new_literal(G_FILE_ERROR, G_FILE_ERROR_IO, "x");
    g_autoptr(GError) bare = g_error_new_literal(VR_ERROR, 9999, "x");

    vr_set_error(NULL, VR_ERROR_INVALID, "s", NULL, "x");
    vr_set_error_errno(NULL, EIO, "x");
    g_assert_cmpstr(vr_error_slug(foreign), ==, "internal");
    g_assert_null(vr_error_action(foreign));
    g_assert_cmpint(vr_error_exit_status(foreign), ==, 1);
    g_assert_cmpint(vr_error_http_status(foreign), ==, 500);
    g_assert_false(vr_error_is_transient(foreign));
    g_assert_cmpstr(vr_error_slug(bare), ==, "internal");
    g_assert_cmpint(vr_error_exit_status(bare), ==, 1);
}

static void
test_errno(void)
{
    static const struct {
        int errnum;
        int code;
    } rows[] = {
        {ENOSPC, VR_ERROR_NO_SPACE}, {EDQUOT, VR_ERROR_NO_SPACE}, {ENOENT, VR_ERROR_NOT_FOUND},
        {EIO, VR_ERROR_INTERNAL},    {EACCES, VR_ERROR_INTERNAL},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        vr_set_error_errno(&error, rows[i].errnum, "open '%s'", "f");
        g_assert_error(error, VR_ERROR, rows[i].code);
        g_assert_true(g_str_has_prefix(error->message, "open 'f': "));
        g_assert_nonnull(strstr(error->message, g_strerror(rows[i].errnum)));
    }
}

static void
test_tables(void)
{
    static const struct {
        VrError code;
        const char *name;
        int exit_status;
        gboolean transient;
    } rows[] = {
        {VR_ERROR_INVALID, "invalid", 2, FALSE},
        {VR_ERROR_NOT_FOUND, "not-found", 4, FALSE},
        {VR_ERROR_REFUSED, "refused", 5, FALSE},
        {VR_ERROR_CONFLICT, "conflict", 5, TRUE},
        {VR_ERROR_TRANSIENT, "transient", 1, TRUE},
        {VR_ERROR_AUTH, "auth", 7, FALSE},
        {VR_ERROR_NO_SPACE, "no-space", 1, TRUE},
        {VR_ERROR_RESYNC_NEEDED, "resync-needed", 1, FALSE},
        {VR_ERROR_CORRUPT, "corrupt", 1, FALSE},
        {VR_ERROR_TIMEOUT, "timeout", 3, TRUE},
        {VR_ERROR_UNREACHABLE, "unreachable", 6, TRUE},
        {VR_ERROR_CANCELLED, "cancelled", 1, FALSE},
        {VR_ERROR_INTERNAL, "internal", 1, FALSE},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = vr_error_new(rows[i].code, "a-slug", NULL, "100% text");

        g_assert_cmpstr(error->message, ==, "100% text");
        g_assert_null(vr_error_action(error));
        g_assert_cmpstr(vr_error_code_name(rows[i].code), ==, rows[i].name);
        g_assert_cmpint(vr_error_code_from_name(rows[i].name), ==, rows[i].code);
        g_assert_cmpint(vr_error_exit_status(error), ==, rows[i].exit_status);
        g_assert_cmpint(vr_error_http_status(error), >=, 400);
        g_assert_cmpint(vr_error_http_status(error), <, 600);
        g_assert_cmpint(vr_error_is_transient(error), ==, rows[i].transient);
    }
    g_assert_cmpint(vr_error_code_from_name("nonsense"), ==, VR_ERROR_INTERNAL);
    g_assert_cmpint(vr_error_code_from_name(NULL), ==, VR_ERROR_INTERNAL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/carries-slug-and-action", test_carries_slug_and_action);
    g_test_add_func("/error/null-and-foreign", test_null_and_foreign);
    g_test_add_func("/error/errno", test_errno);
    g_test_add_func("/error/tables", test_tables);
    return g_test_run();
}
