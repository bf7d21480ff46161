/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/run.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "policies/error.h"

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

char *
vr_run_last_line(const char *text)
{
    g_autofree char *trimmed = g_strstrip(g_utf8_make_valid(text ? text : "", -1));
    const char *last = strrchr(trimmed, '\n');

    return g_strdup(last ? last + 1 : trimmed);
}

static void
set_failed(GError **error, const char *program, const char *words)
{
    g_autofree char *line = vr_run_last_line(words);
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
    vr_set_error(error, code, slug, action, "%s: %s", program,
                 *line ? line : "failed without a word");
}

gboolean
vr_run(const char *const *argv, char **ret_stdout, GError **error)
{
    g_auto(GStrv) env = g_environ_setenv(g_get_environ(), "LC_ALL", "C", TRUE);
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;
    g_autoptr(GError) spawn_error = NULL;
    int status = 0;

    if (!g_spawn_sync(NULL, (char **) argv, env, G_SPAWN_SEARCH_PATH, die_with_parent,
                      GINT_TO_POINTER((int) getpid()), &out, &err, &status, &spawn_error)) {
        vr_set_error(error, VR_ERROR_INTERNAL, "program-missing", "Install qemu-utils.", "%s: %s",
                     argv[0], spawn_error->message);
        return FALSE;
    }
    if (!g_spawn_check_wait_status(status, NULL)) {
        set_failed(error, argv[0], err);
        return FALSE;
    }
    if (ret_stdout)
        *ret_stdout = g_steal_pointer(&out);
    return TRUE;
}

gboolean
vr_run_start(const char *const *argv, GPid *ret_pid, int *ret_stderr, GError **error)
{
    g_auto(GStrv) env = g_environ_setenv(g_get_environ(), "LC_ALL", "C", TRUE);
    g_autoptr(GError) spawn_error = NULL;

    if (!g_spawn_async_with_pipes(NULL, (char **) argv, env,
                                  G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
                                      G_SPAWN_STDOUT_TO_DEV_NULL,
                                  die_with_parent, GINT_TO_POINTER((int) getpid()), ret_pid, NULL,
                                  NULL, ret_stderr, &spawn_error)) {
        vr_set_error(error, VR_ERROR_INTERNAL, "program-missing", "Install qemu-utils.", "%s: %s",
                     argv[0], spawn_error->message);
        return FALSE;
    }
    return TRUE;
}
