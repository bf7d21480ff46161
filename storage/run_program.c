/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/run_program.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#include "policies/error.h"

#define MESSAGE_MAX 1000

static void
die_with_parent(gpointer data)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void
set_failed(GSubprocess *process, const char *program, char *message, GError **error)
{
    gsize len = message ? strlen(message) : 0;
    const char *end = len > MESSAGE_MAX ? message + len - MESSAGE_MAX : message;
    g_autofree char *how = NULL;

    if (message)
        g_strstrip(message);
    if (g_subprocess_get_if_exited(process))
        how = g_strdup_printf("exit status %d", g_subprocess_get_exit_status(process));
    else
        how = g_strdup_printf("signal %d", g_subprocess_get_term_sig(process));
    vr_set_error(error, VR_ERROR_INTERNAL, "program-failed", NULL, "%s failed (%s): %s", program,
                 how, end && *end ? end : "no message");
}

static GSubprocess *
start(const char *const *argv, GError **error)
{
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE);
    g_autoptr(GError) local = NULL;
    GSubprocess *process;

    g_subprocess_launcher_setenv(launcher, "LC_ALL", "C", TRUE);
    g_subprocess_launcher_set_child_setup(launcher, die_with_parent, NULL, NULL);
    process = g_subprocess_launcher_spawnv(launcher, argv, &local);
    if (!process)
        vr_set_error(error, VR_ERROR_INTERNAL, "program-failed", "Install the program.",
                     "cannot start %s: %s", argv[0], local->message);
    return process;
}

gboolean
vr_run_program(const char *const *argv, GCancellable *cancel, char **ret_stdout, GError **error)
{
    g_autoptr(GSubprocess) process = start(argv, error);
    g_autofree char *out = NULL, *err = NULL;
    g_autoptr(GError) local = NULL;

    if (!process)
        return FALSE;
    if (!g_subprocess_communicate_utf8(process, NULL, cancel, &out, &err, &local)) {
        gboolean cancelled = g_error_matches(local, G_IO_ERROR, G_IO_ERROR_CANCELLED);

        g_subprocess_force_exit(process);
        (void) g_subprocess_wait(process, NULL, NULL);
        vr_set_error(error, cancelled ? VR_ERROR_CANCELLED : VR_ERROR_INTERNAL,
                     cancelled ? "cancelled" : "program-failed", NULL, "%s was ended: %s", argv[0],
                     local->message);
        return FALSE;
    }
    if (!g_subprocess_get_successful(process)) {
        set_failed(process, argv[0], err, error);
        return FALSE;
    }
    if (ret_stdout)
        *ret_stdout = g_steal_pointer(&out);
    return TRUE;
}
