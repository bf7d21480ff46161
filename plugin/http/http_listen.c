/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/http/http_listen.h"

#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/wire/http.h"

#define BACKLOG 64
#define BACKLOG_TCP 512

static gboolean
somebody_answers(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    gboolean answers =
        fd >= 0 && connect(fd, (const struct sockaddr *) address, sizeof(*address)) == 0;

    if (fd >= 0)
        close(fd);
    return answers;
}

static gboolean
group_id(const char *name, gid_t *ret_gid)
{
    struct group entry, *found = NULL;
    char buf[8192];

    if (!name || getgrnam_r(name, &entry, buf, sizeof(buf), &found) != 0 || !found)
        return FALSE;
    *ret_gid = entry.gr_gid;
    return TRUE;
}

/* The process's umask leaves it to the owner; opened to the group only when that is right. */
static gboolean
bind_unix(int fd, const struct sockaddr_un *address, const char *group)
{
    mode_t mode = 0600;
    gid_t gid;

    if (bind(fd, (const struct sockaddr *) address, sizeof(*address)) < 0)
        return FALSE;
    if (group_id(group, &gid) && chown(address->sun_path, (uid_t) -1, gid) == 0)
        mode = 0660;
    return chmod(address->sun_path, mode) == 0 && listen(fd, BACKLOG) == 0;
}

int
vr_listen_unix(const char *path, const char *group, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path)) {
        vr_set_error(error, VR_ERROR_INVALID, "path-too-long",
                     "Choose a shorter runtime directory.", "'%s' is too long for a socket", path);
        return -1;
    }
    if (somebody_answers(&address)) {
        vr_set_error(error, VR_ERROR_CONFLICT, "socket-in-use", "Stop the other daemon.",
                     "another program answers behind '%s'", path);
        return -1;
    }
    if (unlink(path) < 0 && errno != ENOENT) {
        vr_set_error_errno(error, errno, "cannot remove the old socket '%s'", path);
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || !bind_unix(fd, &address, group)) {
        vr_set_error_errno(error, errno, "cannot listen on '%s'", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

static int
bind_tcp(const struct addrinfo *info)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
    int one = 1, zero = 0, saved;

    if (fd < 0)
        return -1;
    (void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (info->ai_family == AF_INET6)
        (void) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG_TCP) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static guint16
port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);

    if (getsockname(fd, (struct sockaddr *) &address, &len) < 0)
        return 0;
    return g_ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) &address)->sin6_port
                                                 : ((struct sockaddr_in *) &address)->sin_port);
}

int
vr_listen_tcp(const char *listen_address, guint16 *ret_port, GError **error)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    g_autofree char *host = NULL;
    g_autofree char *service = NULL;
    guint16 port;
    int fd = -1, rc;

    if (!vr_address_parse(listen_address, TRUE, &host, &port, error))
        return -1;
    service = g_strdup_printf("%u", port);
    /* "::" with V6ONLY off takes IPv4 as well; a host without IPv6 gets 0.0.0.0. */
    rc = getaddrinfo(*host ? host : "::", service, &hints, &list);
    if (rc != 0) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-address",
                     "Correct 'listen' in virt-replicad.conf.", "cannot listen on '%s': %s",
                     listen_address, gai_strerror(rc));
        return -1;
    }
    fd = bind_tcp(list);
    freeaddrinfo(list);
    if (fd < 0 && !*host && errno == EAFNOSUPPORT) {
        g_autofree char *all = g_strdup_printf("0.0.0.0:%u", port);

        return vr_listen_tcp(all, ret_port, error);
    }
    if (fd < 0 && errno == EADDRINUSE)
        vr_set_error(error, VR_ERROR_CONFLICT, "address-in-use",
                     "Stop the other program, or change 'listen' in virt-replicad.conf.",
                     "another program listens on '%s'", listen_address);
    else if (fd < 0)
        vr_set_error_errno(error, errno, "cannot listen on '%s'", listen_address);
    else
        *ret_port = port_of(fd);
    return fd;
}
