/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policies/error.h"
#include "policies/fault.h"

static void
test_step_names(void)
{
    for (guint i = 0; i < VR_STEP_LAST; i++) {
        VrStep step = VR_STEP_LAST;

        g_assert_nonnull(vr_step_name((VrStep) i));
        g_assert_cmpuint(strlen(vr_step_title((VrStep) i)), >, 4);
        g_assert_true(vr_step_from_name(vr_step_name((VrStep) i), &step));
        g_assert_cmpuint(step, ==, i);
    }
    g_assert_false(vr_step_from_name("S14", NULL));
    g_assert_false(vr_step_from_name("s1", NULL));
    g_assert_false(vr_step_from_name(NULL, NULL));
    g_assert_cmpstr(vr_step_name(VR_STEP_T6), ==, "T6");
}

static void
test_bad_specs(void)
{
    static const char *const specs[] = {
        ",",
        "T5",
        "T5:",
        "T5:boom",
        "X1:kill",
        "T5:kill,",
        "T5:delay=",
        "T5:delay=-1",
        "T5:errno=E",
        "T5:errno=EIO#0",
        "T5:kill#",
        "T5:kill#x",
        "T5:delay=99999999999",
        " T5:kill",
        "T5:kill,T5:stop",
        "T5:errno=EIO#1#2",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(specs); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(vr_fault_init(specs[i], &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    }
    g_assert_true(vr_fault_init("", NULL));
    g_assert_true(vr_fault_init(NULL, NULL));
}

static void
test_errno_passes(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_fault_init("T2:errno=ENOSPC#3,S7:errno=ECONNRESET,S8:errno=EIO#*", &error));
    g_assert_no_error(error);
    g_assert_true(vr_fault_point(VR_STEP_T2, &error));
    g_assert_true(vr_fault_point(VR_STEP_T2, &error));
    g_assert_cmpuint(vr_fault_fired(), ==, 0);
    g_assert_false(vr_fault_point(VR_STEP_T2, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NO_SPACE);
    g_assert_nonnull(strstr(error->message, "T2"));
    g_clear_error(&error);
    g_assert_true(vr_fault_point(VR_STEP_T2, &error));
    g_assert_false(vr_fault_point(VR_STEP_S7, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_TRANSIENT);
    g_clear_error(&error);
    g_assert_true(vr_fault_point(VR_STEP_S7, &error));
    for (int i = 0; i < 3; i++)
        g_assert_false(vr_fault_point(VR_STEP_S8, NULL));
    g_assert_cmpuint(vr_fault_fired(), ==, 5);
    g_assert_true(vr_fault_point(VR_STEP_S1, &error));
    g_assert_true(vr_fault_init(NULL, NULL));
    g_assert_true(vr_fault_point(VR_STEP_S8, &error));
    g_assert_cmpuint(vr_fault_fired(), ==, 0);
}

static void
test_bad_spec_keeps_old(void)
{
    g_assert_true(vr_fault_init("T2:errno=EIO", NULL));
    g_assert_false(vr_fault_init("S1:errno=EIO,nonsense", NULL));
    g_assert_true(vr_fault_point(VR_STEP_S1, NULL));
    g_assert_false(vr_fault_point(VR_STEP_T2, NULL));
    g_assert_true(vr_fault_init(NULL, NULL));
}

static gpointer
pass_many(gpointer data)
{
    guint *failed = data;

    for (int i = 0; i < 10000; i++) {
        if (!vr_fault_point(VR_STEP_T2, NULL))
            (*failed)++;
    }
    return NULL;
}

static void
test_threads(void)
{
    guint failed[4] = {0};
    GThread *threads[4];

    g_assert_true(vr_fault_init("T2:errno=EIO#25000", NULL));
    for (int i = 0; i < 4; i++)
        threads[i] = g_thread_new("pass", pass_many, &failed[i]);
    for (int i = 0; i < 4; i++)
        g_thread_join(threads[i]);
    g_assert_cmpuint(failed[0] + failed[1] + failed[2] + failed[3], ==, 1);
    g_assert_cmpuint(vr_fault_fired(), ==, 1);
    g_assert_true(vr_fault_init(NULL, NULL));
}

static void
test_delay(void)
{
    gint64 start = g_get_monotonic_time();

    g_assert_true(vr_fault_init("S7:delay=2", NULL));
    g_assert_true(vr_fault_point(VR_STEP_S7, NULL));
    g_assert_true(vr_fault_point(VR_STEP_S7, NULL));
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 4000);
    g_assert_cmpuint(vr_fault_fired(), ==, 2);
    g_assert_true(vr_fault_init(NULL, NULL));
}

/* Passes T5 twice in a child and answers what became of it. */
static int
status_of_child(const char *spec, int options)
{
    pid_t pid = fork();
    int status = 0;

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        if (!vr_fault_init(spec, NULL))
            _exit(2);
        (void) vr_fault_point(VR_STEP_T5, NULL);
        (void) vr_fault_point(VR_STEP_T5, NULL);
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, options), ==, pid);
    if (WIFSTOPPED(status)) {
        kill(pid, SIGKILL);
        g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
    }
    return status;
}

static void
test_signals(void)
{
    int killed = status_of_child("T5:kill#2", 0);
    int stopped = status_of_child("T5:stop", WUNTRACED);
    int passed = status_of_child("T5:kill#3", 0);

    g_assert_true(WIFSIGNALED(killed) && WTERMSIG(killed) == SIGKILL);
    g_assert_true(WIFSTOPPED(stopped) && WSTOPSIG(stopped) == SIGSTOP);
    g_assert_true(WIFEXITED(passed) && WEXITSTATUS(passed) == 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fault/step-names", test_step_names);
    g_test_add_func("/fault/bad-specs", test_bad_specs);
    g_test_add_func("/fault/errno-passes", test_errno_passes);
    g_test_add_func("/fault/bad-spec-keeps-old", test_bad_spec_keeps_old);
    g_test_add_func("/fault/threads", test_threads);
    g_test_add_func("/fault/delay", test_delay);
    g_test_add_func("/fault/signals", test_signals);
    return g_test_run();
}
