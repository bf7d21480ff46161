/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/hook_events.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <glib-unix.h>

#include "plugin/cycle/cycle.h"
#include "policies/error.h"
#include "policies/ids.h"

struct _VrHookEvents {
    char *path;
    int fd;
    guint source;
};

static gboolean
readable(int fd, GIOCondition condition G_GNUC_UNUSED, gpointer data G_GNUC_UNUSED)
{
    char line[512];
    ssize_t n = recv(fd, line, sizeof line - 1, MSG_DONTWAIT);
    g_auto(GStrv) words = NULL;

    if (n <= 0)
        return G_SOURCE_CONTINUE;
    line[n] = '\0';
    words = g_strsplit(line, " ", 3);
    if (g_strv_length(words) >= 2 && vr_uuid_valid(words[0]) && strcmp(words[1], "prepare") == 0)
        vr_cycle_give_way(words[0]);
    return G_SOURCE_CONTINUE;
}

VrHookEvents *
vr_hook_events_new(const char *runtime_dir, GError **error)
{
    g_autofree char *path = g_build_filename(runtime_dir, "hook.sock", NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    VrHookEvents *self;
    int fd = -1;

    if (g_strlcpy(address.sun_path, path, sizeof address.sun_path) < sizeof address.sun_path)
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void) unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof address) < 0 ||
        chmod(path, 0600) < 0) {
        vr_set_error_errno(error, fd < 0 ? ENAMETOOLONG : errno, "cannot make the socket %s", path);
        if (fd >= 0)
            (void) close(fd);
        return NULL;
    }
    self = g_new0(VrHookEvents, 1);
    self->path = g_steal_pointer(&path);
    self->fd = fd;
    self->source = g_unix_fd_add(fd, G_IO_IN, readable, self);
    return self;
}

void
vr_hook_events_free(VrHookEvents *self)
{
    if (self == NULL)
        return;
    (void) g_source_remove(self->source);
    (void) close(self->fd);
    (void) unlink(self->path);
    g_free(self->path);
    g_free(self);
}
