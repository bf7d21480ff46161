/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "plugin/hook/hook_rule.h"

#ifndef VR_FENCE_DIR
#define VR_FENCE_DIR "/var/lib/virt-replica/fence"
#endif
#ifndef VR_HOOK_SOCKET
#define VR_HOOK_SOCKET "/run/virt-replica/hook.sock"
#endif

/* libvirt waits for us with the domain locked: a pipe that nobody fills or closes is given up. */
#define STDIN_WAIT_MS 2000

/* What comes behind the first 64 KiB is read and dropped, up to this, so that libvirt's write ends.
 */
#define DRAIN_MAX (8 * 1024 * 1024)

static gsize
read_stdin(char *buffer, gsize size)
{
    static char rest[16 * 1024];
    gsize kept = 0;
    gsize total = 0;

    while (total < DRAIN_MAX) {
        struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
        char *into = kept < size ? buffer + kept : rest;
        gsize room = kept < size ? size - kept : sizeof(rest);
        ssize_t n;

        if (poll(&in, 1, STDIN_WAIT_MS) <= 0)
            break;
        n = read(STDIN_FILENO, into, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        if (kept < size)
            kept += (gsize) n;
        total += (gsize) n;
    }
    return kept;
}

int
main(int argc, char **argv)
{
    static char xml[VR_HOOK_XML_MAX];
    const VrHookPaths paths = {.fence_dir = VR_FENCE_DIR, .event_socket = VR_HOOK_SOCKET};
    g_autofree char *message = NULL;
    gsize length = 0;
    int answer;

    if (argc > 2 && vr_hook_needs_xml(argv[2]))
        length = read_stdin(xml, sizeof(xml));
    answer = vr_hook_run(&paths, argc, (const char *const *) argv, xml, length, &message);
    if (message)
        fprintf(stderr, "virt-replica: %s\n", message);
    return answer;
}
