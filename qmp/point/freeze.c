/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/point/freeze.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policies/error.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/point/freeze_proto.h"
#include "qmp/virerr.h"

#define START_MS 3000
#define THAW_WAIT_MS 15000
#define FAILED_WAIT_MS 1000
#define POLL_MS 50
#define LINE_MAX_BYTES 1024

struct _VrFreeze {
    GPid pid;   /* 0: reaped */
    int helper; /* socket, its standard input and output; -1: closed */
};

static VrFreeze *
start_helper(const char *uri, const char *uuid, guint deadline_ms, GError **error)
{
    g_autofree char *self_path = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *deadline = g_strdup_printf("%u", deadline_ms);
    const char *argv[] = {self_path, VR_FREEZE_HELPER_ARG, uri, uuid, deadline, NULL};
    g_autoptr(GError) local = NULL;
    VrFreeze *self;
    GPid pid = 0;
    int ends[2];

    /* A socket, because a write to a pipe whose reader is gone would raise SIGPIPE. */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        vr_set_error_errno(error, errno, "freeze helper");
        return NULL;
    }
    if (!g_spawn_async_with_fds(NULL, (char **) argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                                &pid, ends[1], ends[1], -1, &local)) {
        vr_set_error(error, VR_ERROR_TRANSIENT, "freeze-failed", NULL, "freeze helper: %s",
                     local->message);
        close(ends[0]);
        close(ends[1]);
        return NULL;
    }
    close(ends[1]);
    self = g_new0(VrFreeze, 1);
    self->pid = pid;
    self->helper = ends[0];
    return self;
}

/* One line of the helper, without its newline. FALSE: end of file, time over or cancelled. */
static gboolean
read_line(VrFreeze *self, guint timeout_ms, GCancellable *cancel, char line[LINE_MAX_BYTES])
{
    gint64 until = g_get_monotonic_time() + (gint64) timeout_ms * 1000;
    gsize len = 0;

    while (len < LINE_MAX_BYTES - 1) {
        struct pollfd fd = {self->helper, POLLIN, 0};
        ssize_t got;

        if (g_get_monotonic_time() >= until || g_cancellable_is_cancelled(cancel))
            return FALSE;
        if (poll(&fd, 1, POLL_MS) <= 0)
            continue;
        got = read(self->helper, line + len, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return FALSE;
        if (line[len] == '\n') {
            line[len] = '\0';
            return TRUE;
        }
        len++;
    }
    return FALSE;
}

static gpointer
reap_later(gpointer data)
{
    waitpid((pid_t) GPOINTER_TO_INT(data), NULL, 0);
    return NULL;
}

/* The helper leaves by itself once the guest is thawed; one that cannot thaw yet goes on trying. */
static void
reap(VrFreeze *self, guint timeout_ms)
{
    gint64 until = g_get_monotonic_time() + (gint64) timeout_ms * 1000;

    if (self->helper >= 0)
        close(self->helper);
    self->helper = -1;
    while (self->pid > 0) {
        if (waitpid(self->pid, NULL, WNOHANG) != 0) {
            self->pid = 0;
        } else if (g_get_monotonic_time() < until) {
            g_usleep(5000);
        } else {
            g_thread_unref(
                g_thread_new("freeze-reap", reap_later, GINT_TO_POINTER((int) self->pid)));
            self->pid = 0;
        }
    }
}

VrFreeze *
vr_freeze_begin(const char *uri, const char *uuid, guint deadline_ms, GCancellable *cancel,
                GError **error)
{
    guint bounded = CLAMP(deadline_ms, 1000, 9000);
    g_autoptr(VrFreeze) self = start_helper(uri, uuid, bounded, error);
    char line[LINE_MAX_BYTES];
    gboolean answered;

    if (!self)
        return NULL;
    answered = read_line(self, bounded + START_MS, cancel, line);
    if (answered && strcmp(line, VR_FREEZE_FROZEN) == 0)
        return g_steal_pointer(&self);
    reap(self, FAILED_WAIT_MS);
    if (!answered && g_cancellable_is_cancelled(cancel))
        vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "freeze: cancelled");
    else
        vr_set_error(error, VR_ERROR_TRANSIENT, "freeze-failed",
                     "Check the guest agent inside the guest.",
                     "the guest's file systems could not be frozen: %s",
                     answered ? line : "no answer from the agent in time");
    return NULL;
}

gboolean
vr_freeze_end(VrFreeze *self, GError **error)
{
    char line[LINE_MAX_BYTES] = "";
    guint held_ms = 0;
    char how[16] = "";

    if (send(self->helper, "t", 1, MSG_NOSIGNAL) < 0)
        g_debug("freeze helper: %s", g_strerror(errno));
    if (read_line(self, THAW_WAIT_MS, NULL, line) &&
        sscanf(line, VR_FREEZE_THAWED " %u %15s", &held_ms, how) != 2)
        how[0] = '\0';
    reap(self, THAW_WAIT_MS);
    if (strcmp(how, VR_FREEZE_TOLD) == 0)
        return TRUE;
    vr_set_error(error, VR_ERROR_TRANSIENT, "freeze-too-long", NULL,
                 *how ? "the guest was thawed at its deadline, after %u ms"
                      : "the thaw was not confirmed (%u ms)",
                 held_ms);
    return FALSE;
}

void
vr_freeze_free(VrFreeze *self)
{
    if (!self)
        return;
    reap(self, THAW_WAIT_MS);
    g_free(self);
}

gboolean
vr_freeze_thaw_now(VrConn *conn, const char *uuid, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, uuid, error);
    g_autoptr(GError) local = NULL;
    int rc;

    if (!dom)
        return FALSE;
    if (virDomainIsActive(dom->dom) != 1)
        return TRUE;
    virDomainAgentSetResponseTimeout(dom->dom, VR_FREEZE_AGENT_TIMEOUT_S, 0);
    rc = virDomainFSThaw(dom->dom, NULL, 0, 0);
    if (rc < 0)
        vr_virerr_set(&local, "the guest's file systems could not be thawed");
    virDomainAgentSetResponseTimeout(dom->dom, VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0);
    vr_virerr_ignore();
    /* Without an agent channel nobody can have frozen it. */
    if (rc >= 0 || g_error_matches(local, VR_ERROR, VR_ERROR_REFUSED))
        return TRUE;
    vr_set_error(error, VR_ERROR_TRANSIENT, "thaw-failed",
                 "Check the guest agent inside the guest.", "%s", local->message);
    return FALSE;
}
