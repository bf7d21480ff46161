/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A process of its own, in its own session, deaf to the signals that end a service: whatever
 * happens to the daemon, the guest is thawed at the deadline. After a freeze was sent it thaws in
 * every case, also when the agent's answer was lost.
 */
#include <errno.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "qmp/point/freeze.h"
#include "qmp/point/freeze_proto.h"
#include "qmp/virerr.h"

#define THAW_RETRY_US (G_USEC_PER_SEC / 5)
#define THAW_GIVE_UP_US (600 * G_USEC_PER_SEC)
#define THAW_UNSURE_US (60 * G_USEC_PER_SEC)

typedef struct {
    const char *uri;
    const char *uuid;
    virConnectPtr vir; /* NULL between attempts */
    virDomainPtr dom;
} Guest;

static void
guest_close(Guest *guest)
{
    if (guest->dom)
        virDomainFree(guest->dom);
    if (guest->vir)
        virConnectClose(guest->vir);
    guest->dom = NULL;
    guest->vir = NULL;
}

static gboolean
guest_open(Guest *guest)
{
    guest->vir = virConnectOpen(guest->uri);
    if (guest->vir)
        guest->dom = virDomainLookupByUUIDString(guest->vir, guest->uuid);
    return guest->dom != NULL;
}

static void say(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* The daemon may be gone: a failed write is no reason not to thaw. */
static void
say(const char *format, ...)
{
    g_autofree char *line = NULL;
    va_list args;

    va_start(args, format);
    line = g_strdup_vprintf(format, args);
    va_end(args);
    g_strdelimit(line, "\r\n", ' ');
    printf("%s\n", line);
    fflush(stdout);
}

/* A stopped domain, or one without an agent channel, has nothing to thaw. */
static gboolean
thaw_once(Guest *guest)
{
    int code;

    if (!guest->dom && !guest_open(guest))
        return virGetLastErrorCode() == VIR_ERR_NO_DOMAIN;
    if (virDomainIsActive(guest->dom) == 0 || virDomainFSThaw(guest->dom, NULL, 0, 0) >= 0)
        return TRUE;
    code = virGetLastErrorCode();
    if (code == VIR_ERR_OPERATION_INVALID || code == VIR_ERR_ARGUMENT_UNSUPPORTED)
        return TRUE;
    if (virConnectIsAlive(guest->vir) != 1)
        guest_close(guest);
    return FALSE;
}

static gboolean
thaw(Guest *guest, gint64 give_up_us)
{
    gint64 give_up = g_get_monotonic_time() + give_up_us;

    while (!thaw_once(guest)) {
        if (g_get_monotonic_time() > give_up)
            return FALSE;
        g_usleep(THAW_RETRY_US);
    }
    return TRUE;
}

/* How the wait ended: told, deadline or orphan. */
static const char *
wait_until(gint64 until)
{
    for (;;) {
        gint64 left_ms = (until - g_get_monotonic_time()) / 1000;
        struct pollfd fd = {STDIN_FILENO, POLLIN, 0};
        char byte;
        ssize_t got;

        if (left_ms <= 0)
            return VR_FREEZE_DEADLINE;
        if (poll(&fd, 1, (int) left_ms) <= 0)
            continue;
        got = read(STDIN_FILENO, &byte, 1);
        if (got < 0 && errno == EINTR)
            continue;
        return got == 1 ? VR_FREEZE_TOLD : VR_FREEZE_ORPHAN;
    }
}

static void
cut_off(void)
{
    static const int deaf[] = {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGQUIT};

    setsid();
    for (gsize i = 0; i < G_N_ELEMENTS(deaf); i++)
        signal(deaf[i], SIG_IGN);
}

static int
freeze_and_thaw(Guest *guest, guint deadline_ms)
{
    gint64 start = g_get_monotonic_time();
    const char *how;
    int frozen;

    virDomainAgentSetResponseTimeout(guest->dom, (int) MAX(1, deadline_ms / 1000), 0);
    frozen = virDomainFSFreeze(guest->dom, NULL, 0, 0);
    if (frozen < 0) {
        g_autofree char *why = g_strdup(virGetLastErrorMessage());
        gboolean not_sent = strstr(why, "not connected") || strstr(why, "not configured");

        say("%s", why);
        virDomainAgentSetResponseTimeout(guest->dom, VR_FREEZE_AGENT_TIMEOUT_S, 0);
        if (!not_sent)
            (void) thaw(guest, THAW_UNSURE_US);
        return 1;
    }
    say(VR_FREEZE_FROZEN);
    how = wait_until(start + (gint64) deadline_ms * 1000);
    virDomainAgentSetResponseTimeout(guest->dom, VR_FREEZE_AGENT_TIMEOUT_S, 0);
    if (!thaw(guest, THAW_GIVE_UP_US))
        return 2;
    say(VR_FREEZE_THAWED " %u %s", (guint) ((g_get_monotonic_time() - start) / 1000), how);
    return 0;
}

int
vr_freeze_helper_main(int argc, char **argv)
{
    Guest guest = {0};
    guint64 deadline_ms = 0;
    int status;

    if (argc != 5 || !g_ascii_string_to_unsigned(argv[4], 10, 1, 60000, &deadline_ms, NULL))
        return 64;
    cut_off();
    vr_virerr_init();
    guest.uri = argv[2];
    guest.uuid = argv[3];
    if (virInitialize() < 0 || !guest_open(&guest)) {
        say("%s", virGetLastErrorMessage());
        guest_close(&guest);
        return 1;
    }
    status = freeze_and_thaw(&guest, (guint) deadline_ms);
    if (guest.dom)
        virDomainAgentSetResponseTimeout(guest.dom, VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0);
    guest_close(&guest);
    return status;
}
