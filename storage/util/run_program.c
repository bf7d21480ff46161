/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/util/run_program.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
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

/* A program with its output on pipes. */
typedef struct {
    GPid pid;
    struct pollfd fds[3]; /* output, errors, cancellation; -1: over, or none */
    GString *text[2];     /* owned; what the first two said */
} Run;

static void
run_clear(Run *self)
{
    for (guint i = 0; i < 2; i++) {
        if (self->fds[i].fd >= 0)
            close(self->fds[i].fd);
        if (self->text[i])
            g_string_free(self->text[i], TRUE);
    }
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Run, run_clear)

static gboolean
spawn(const char *const *argv, GSpawnFlags flags, GPid *ret_pid, int *ret_stdout, int *ret_stderr,
      GError **error)
{
    g_auto(GStrv) env = g_environ_setenv(g_get_environ(), "LC_ALL", "C", TRUE);
    g_autoptr(GError) local = NULL;

    if (g_spawn_async_with_pipes(
            NULL, (char **) argv, env, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | flags,
            die_with_parent, this_process(), ret_pid, NULL, ret_stdout, ret_stderr, &local))
        return TRUE;
    set_missing(error, argv[0], local);
    return FALSE;
}

static void
read_some(Run *self, guint i)
{
    char buf[4096];
    gssize n = read(self->fds[i].fd, buf, sizeof buf);

    if (n > 0) {
        g_string_append_len(self->text[i], buf, n);
    } else if (n == 0 || errno != EINTR) {
        close(self->fds[i].fd);
        self->fds[i].fd = -1;
    }
}

/* Until it has closed both, FALSE if cancelled before. */
static gboolean
listen_to(Run *self)
{
    while (self->fds[0].fd >= 0 || self->fds[1].fd >= 0) {
        if (poll(self->fds, G_N_ELEMENTS(self->fds), -1) < 0)
            continue; /* a signal: nothing else is possible */
        if (self->fds[2].revents != 0)
            return FALSE;
        for (guint i = 0; i < 2; i++) {
            if (self->fds[i].revents != 0)
                read_some(self, i);
        }
    }
    return TRUE;
}

/* Its exit status as of waitpid(), or -1. */
static int
reap(GPid pid)
{
    int status = -1;

    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -1;
    }
    return status;
}

static void
set_ended(int status, const char *program, const char *words, GError **error)
{
    g_autofree char *how = WIFSIGNALED(status)
                               ? g_strdup_printf("signal %d", WTERMSIG(status))
                               : g_strdup_printf("exit status %d", WEXITSTATUS(status));

    vr_set_program_error(error, program, how, words);
}

/* Not by GSubprocess: GLib 2.74's frees a source after its context, now and then (a mutex in freed
 * memory), when it was given something to be cancelled by. */
gboolean
vr_run_program(const char *const *argv, GCancellable *cancel, char **ret_stdout, GError **error)
{
    g_auto(Run) run = {.fds = {{-1, POLLIN, 0}, {-1, POLLIN, 0}, {-1, POLLIN, 0}}};
    gboolean ended;
    GPollFD fd;
    int status;

    if (!spawn(argv, G_SPAWN_DEFAULT, &run.pid, &run.fds[0].fd, &run.fds[1].fd, error))
        return FALSE;
    run.text[0] = g_string_new(NULL);
    run.text[1] = g_string_new(NULL);
    if (cancel != NULL && g_cancellable_make_pollfd(cancel, &fd))
        run.fds[2].fd = fd.fd;
    ended = listen_to(&run);
    if (run.fds[2].fd >= 0)
        g_cancellable_release_fd(cancel);
    if (!ended)
        kill(run.pid, SIGKILL);
    status = reap(run.pid);
    if (!ended) {
        vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "%s was ended", argv[0]);
        return FALSE;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        set_ended(status, argv[0], run.text[1]->str, error);
        return FALSE;
    }
    if (ret_stdout != NULL)
        *ret_stdout = g_utf8_make_valid(run.text[0]->str, (gssize) run.text[0]->len);
    return TRUE;
}

gboolean
vr_start_program(const char *const *argv, GPid *ret_pid, int *ret_stderr, GError **error)
{
    return spawn(argv, G_SPAWN_STDOUT_TO_DEV_NULL, ret_pid, NULL, ret_stderr, error);
}
