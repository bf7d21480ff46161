/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/util/run_program.h"

static gboolean
shell(const char *script, GCancellable *cancel, char **ret_stdout, GError **error)
{
    const char *argv[] = {"sh", "-c", script, NULL};

    return vr_run_program(argv, cancel, ret_stdout, error);
}

static void
test_output(void)
{
    g_autofree char *out = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(shell("echo \"$LC_ALL\"; echo noise >&2; printf '\\377'", NULL, &out, &error));
    g_assert_no_error(error);
    g_assert_true(g_str_has_prefix(out, "C\n"));
    g_assert_true(g_utf8_validate(out, -1, NULL));
}

static void
test_failures(void)
{
    static const struct {
        const char *script;
        VrError code;
        const char *slug;
        const char *says;
    } cases[] = {
        {"echo first >&2; echo 'the last line' >&2; exit 3", VR_ERROR_INTERNAL, "program-failed",
         "sh failed (exit status 3): the last line"},
        {"exit 1", VR_ERROR_INTERNAL, "program-failed", "sh failed (exit status 1): no message"},
        {"kill -9 $$", VR_ERROR_INTERNAL, "program-failed", "sh failed (signal 9): no message"},
        {"echo 'x: No space left on device' >&2; exit 1", VR_ERROR_NO_SPACE, "host-no-space", NULL},
        {"echo 'Failed to get \"write\" lock' >&2;"
         "echo 'Is another process using the image [/x]?' >&2; exit 1",
         VR_ERROR_CONFLICT, "image-in-use", NULL},
        {"printf '\\377\\n' >&2; exit 1", VR_ERROR_INTERNAL, "program-failed", NULL},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *out = NULL;
        g_autoptr(GError) error = NULL;

        g_assert_false(shell(cases[i].script, NULL, &out, &error));
        g_assert_error(error, VR_ERROR, (int) cases[i].code);
        g_assert_cmpstr(vr_error_slug(error), ==, cases[i].slug);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
        if (cases[i].says)
            g_assert_cmpstr(error->message, ==, cases[i].says);
        g_assert_null(out);
    }
}

static void
test_missing(void)
{
    const char *argv[] = {"vr-no-such-program", NULL};
    g_autoptr(GError) error = NULL;
    GPid pid;

    g_assert_false(vr_run_program(argv, NULL, NULL, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "program-missing");
    g_clear_error(&error);
    g_assert_false(vr_start_program(argv, &pid, NULL, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "program-missing");
    g_assert_nonnull(strstr(error->message, "vr-no-such-program"));
}

static gpointer
cancel_it(gpointer data)
{
    g_cancellable_cancel(data);
    return NULL;
}

static void
test_cancel(void)
{
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    g_autoptr(GError) error = NULL;
    GThread *thread = g_thread_new("cancel", cancel_it, cancel);

    g_assert_false(shell("exec sleep 100", cancel, NULL, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CANCELLED);
    g_thread_join(thread);
}

typedef struct {
    GCancellable *cancel;
    gint run; /* atomic */
} Canceller;

/* Now and then, whatever runs just then, as a user of layers does to merges. */
static gpointer
cancel_often(gpointer data)
{
    Canceller *self = data;

    while (g_atomic_int_get(&self->run)) {
        g_usleep(700);
        g_cancellable_cancel(self->cancel);
        g_cancellable_reset(self->cancel);
    }
    return NULL;
}

/* Many at once, each is over when it has ended, or was ended. */
static gpointer
run_many(gpointer data)
{
    for (guint i = 0; i < 300; i++) {
        g_autofree char *out = NULL;
        g_autoptr(GError) error = NULL;
        gboolean ok = shell("echo words", data, &out, &error);

        if (ok)
            g_assert_cmpstr(out, ==, "words\n");
        else
            g_assert_error(error, VR_ERROR, VR_ERROR_CANCELLED);
    }
    return NULL;
}

static void
test_many(void)
{
    g_autoptr(GCancellable) never = g_cancellable_new();
    g_autoptr(GCancellable) often = g_cancellable_new();
    Canceller canceller = {often, 1};
    GThread *cancels = g_thread_new("cancel", cancel_often, &canceller);
    GThread *threads[] = {g_thread_new("a", run_many, never), g_thread_new("b", run_many, never),
                          g_thread_new("c", run_many, often), g_thread_new("d", run_many, NULL)};

    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_atomic_int_set(&canceller.run, 0);
    g_thread_join(cancels);
}

/* More than a pipe holds, on both, one after the other. */
static void
test_much(void)
{
    g_autofree char *out = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(shell("head -c 300000 /dev/zero | tr '\\0' e >&2;"
                        "head -c 300000 /dev/zero | tr '\\0' o",
                        NULL, &out, &error));
    g_assert_cmpuint(strlen(out), ==, 300000);
}

static void
test_start(void)
{
    const char *argv[] = {"sh", "-c", "echo words >&2; exit 4", NULL};
    char words[16] = "";
    g_autoptr(GError) error = NULL;
    GPid pid;
    int err, status;

    g_assert_true(vr_start_program(argv, &pid, &err, &error));
    g_assert_no_error(error);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(WEXITSTATUS(status), ==, 4);
    g_assert_cmpint(read(err, words, sizeof words - 1), ==, 6);
    g_assert_cmpstr(words, ==, "words\n");
    close(err);
}

/* The child of a thread that ends does not live on. */
static gpointer
start_and_end(gpointer data)
{
    const char *argv[] = {"sleep", "100", NULL};

    g_assert_true(vr_start_program(argv, data, NULL, NULL));
    return NULL;
}

static void
test_dies_with_thread(void)
{
    GPid pid = 0;
    int status;

    g_thread_join(g_thread_new("start", start_and_end, &pid));
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFSIGNALED(status));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/run-program/output", test_output);
    g_test_add_func("/run-program/failures", test_failures);
    g_test_add_func("/run-program/missing", test_missing);
    g_test_add_func("/run-program/cancel", test_cancel);
    g_test_add_func("/run-program/many", test_many);
    g_test_add_func("/run-program/much", test_much);
    g_test_add_func("/run-program/start", test_start);
    g_test_add_func("/run-program/dies-with-thread", test_dies_with_thread);
    return g_test_run();
}
