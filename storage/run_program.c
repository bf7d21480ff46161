/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/run_program.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "policies/error.h"

#define LINE_MAX_CHARS 500

/* Between fork and exec. The second test closes the gap in which the parent may have died already.
 */
static void
die_with_parent(gpointer data)
{
    pid_t parent = (pid_t) GPOINTER_TO_INT(data);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
}

static gpointer
this_process(void)
{
    return GINT_TO_POINTER((int) getpid());
}

static char *
last_line(const char *text)
{
    g_autofree char *valid = g_strstrip(g_utf8_make_valid(text ? text : "", -1));
    const char *newline = strrchr(valid, '\n');
    const char *line = newline ? newline + 1 : valid;

    return g_utf8_substring(line, 0, MIN(g_utf8_strlen(line, -1), LINE_MAX_CHARS));
}

void
vr_set_program_error(GError **error, const char *program, const char *how, const char *words)
{
    g_autofree char *line = last_line(words);
    VrError code = VR_ERROR_INTERNAL;
    const char *slug = "program-failed";
    const char *action = NULL;

    if (strstr(line, "No space left")) {
        code = VR_ERROR_NO_SPACE;
        slug = "host-no-space";
        action = "Free space on this host.";
    } else if (strstr(line, "Is another process using the image")) {
        code = VR_ERROR_CONFLICT;
        slug = "image-in-use";
        action = "End the program that uses the image.";
    }
    vr_set_error(error, code, slug, action, "%s failed (%s): %s", program, how,
                 *line ? line : "no message");
}

static void
set_missing(GError **error, const char *program, const GError *cause)
{
    vr_set_error(error, VR_ERROR_INTERNAL, "program-missing",
                 "Install the package that holds it (qemu-utils on Debian).", "cannot start %s: %s",
                 program, cause->message);
}

static GSubprocess *
start(const char *const *argv, GError **error)
{
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE);
    g_autoptr(GError) local = NULL;
    GSubprocess *process;

    g_subprocess_launcher_setenv(launcher, "LC_ALL", "C", TRUE);
    g_subprocess_launcher_set_child_setup(launcher, die_with_parent, this_process(), NULL);
    process = g_subprocess_launcher_spawnv(launcher, argv, &local);
    if (process == NULL)
        set_missing(error, argv[0], local);
    return process;
}

static void
set_ended(GSubprocess *process, const char *program, const char *words, GError **error)
{
    g_autofree char *how = NULL;

    if (g_subprocess_get_if_exited(process))
        how = g_strdup_printf("exit status %d", g_subprocess_get_exit_status(process));
    else
        how = g_strdup_printf("signal %d", g_subprocess_get_term_sig(process));
    vr_set_program_error(error, program, how, words);
}

static char *
bytes_to_text(GBytes *bytes)
{
    gsize len = 0;
    const char *data = bytes ? g_bytes_get_data(bytes, &len) : NULL;

    return g_utf8_make_valid(data ? data : "", (gssize) len);
}

gboolean
vr_run_program(const char *const *argv, GCancellable *cancel, char **ret_stdout, GError **error)
{
    g_autoptr(GSubprocess) process = start(argv, error);
    g_autoptr(GBytes) out = NULL;
    g_autoptr(GBytes) err = NULL;
    g_autoptr(GError) local = NULL;

    if (process == NULL)
        return FALSE;
    if (!g_subprocess_communicate(process, NULL, cancel, &out, &err, &local)) {
        gboolean cancelled = g_error_matches(local, G_IO_ERROR, G_IO_ERROR_CANCELLED);

        g_subprocess_force_exit(process);
        (void) g_subprocess_wait(process, NULL, NULL);
        vr_set_error(error, cancelled ? VR_ERROR_CANCELLED : VR_ERROR_INTERNAL,
                     cancelled ? "cancelled" : "program-failed", NULL, "%s was ended: %s", argv[0],
                     local->message);
        return FALSE;
    }
    if (!g_subprocess_get_successful(process)) {
        g_autofree char *words = bytes_to_text(err);

        set_ended(process, argv[0], words, error);
        return FALSE;
    }
    if (ret_stdout != NULL)
        *ret_stdout = bytes_to_text(out);
    return TRUE;
}

gboolean
vr_start_program(const char *const *argv, GPid *ret_pid, int *ret_stderr, GError **error)
{
    g_auto(GStrv) env = g_environ_setenv(g_get_environ(), "LC_ALL", "C", TRUE);
    g_autoptr(GError) local = NULL;

    if (g_spawn_async_with_pipes(
            NULL, (char **) argv, env,
            G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL,
            die_with_parent, this_process(), ret_pid, NULL, NULL, ret_stderr, &local))
        return TRUE;
    set_missing(error, argv[0], local);
    return FALSE;
}
