/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/notify.h"

#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void
vr_notify(const char *state)
{
    const char *path = g_getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    gsize len = path ? strlen(path) : 0;
    int fd;

    if (len < 2 || len >= sizeof address.sun_path)
        return;
    memcpy(address.sun_path, path, len);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void) sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *) &address,
                  (socklen_t) (offsetof(struct sockaddr_un, sun_path) + len));
    (void) close(fd);
}

gint64
vr_notify_watchdog_us(void)
{
    const char *text = g_getenv("WATCHDOG_USEC");

    return text ? g_ascii_strtoll(text, NULL, 10) / 2 : 0;
}
