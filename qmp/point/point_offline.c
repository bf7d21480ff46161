/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One qemu-nbd an image, read-only. It keeps the domain from starting (image lock), so it is a
 * child that dies with our thread, and vr_point_give_way() kills it from any thread.
 */
#include <errno.h>
#include <libvirt/libvirt.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policies/error.h"
#include "qmp/point/checkpoint.h"
#include "qmp/point/image_bitmap.h"
#include "qmp/point/point_impl.h"
#include "storage/util/run_program.h"

#define START_US (10 * G_USEC_PER_SEC)
#define POLL_US (G_USEC_PER_SEC / 100)
#define READERS_MAX "8"

typedef struct {
    GPid pid; /* 0: none */
    int err;  /* its stderr */
} Server;

typedef struct {
    GMutex lock;     /* guards servers and gave_way: pids must not be reused while we kill */
    GArray *servers; /* owned, Server */
    gboolean gave_way;
} Offline;

static gpointer
offline_new(VrPoint *self G_GNUC_UNUSED)
{
    Offline *offline = g_new0(Offline, 1);

    g_mutex_init(&offline->lock);
    offline->servers = g_array_new(FALSE, FALSE, sizeof(Server));
    return offline;
}

/* Read-only: nothing is lost by killing. */
static void
kill_all(Offline *offline)
{
    for (guint i = 0; i < offline->servers->len; i++) {
        const Server *server = &g_array_index(offline->servers, Server, i);

        if (server->pid > 0)
            kill(server->pid, SIGKILL);
    }
}

static void
stop_servers(Offline *offline)
{
    g_mutex_lock(&offline->lock);
    kill_all(offline);
    for (guint i = 0; i < offline->servers->len; i++) {
        const Server *server = &g_array_index(offline->servers, Server, i);

        while (server->pid > 0 && waitpid(server->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        close(server->err);
    }
    g_array_set_size(offline->servers, 0);
    g_mutex_unlock(&offline->lock);
}

static void
offline_free(gpointer data)
{
    Offline *offline = data;

    stop_servers(offline);
    g_array_unref(offline->servers);
    g_mutex_clear(&offline->lock);
    g_free(offline);
}

static gboolean
offline_prepare(VrPoint *self, GError **error)
{
    for (guint i = 0; i < self->disks->len; i++) {
        const VrPointDiskState *disk = vr_point_disk_state(self, i);

        if (disk->base && !vr_image_bitmap_check(disk->path, disk->base, error))
            return FALSE;
    }
    return TRUE;
}

/* A guest that powered itself off has written all it had. */
static gboolean
check_off(VrPoint *self, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(self->conn, self->uuid, error);
    int state = 0, reason = 0;

    if (!dom)
        return FALSE;
    if (virDomainGetState(dom->dom, &state, &reason, 0) < 0 || state != VIR_DOMAIN_SHUTOFF) {
        vr_set_error(error, VR_ERROR_TRANSIENT, "domain-running", NULL,
                     "domain '%s' is not shut off", dom->name);
        return FALSE;
    }
    if (reason == VIR_DOMAIN_SHUTOFF_SHUTDOWN)
        self->consistency = VR_CONSISTENCY_APP;
    return TRUE;
}

static gboolean
make_checkpoint(VrPoint *self, GError **error)
{
    g_autoptr(GPtrArray) tracked = g_ptr_array_new();

    for (guint i = 0; i < self->disks->len; i++)
        g_ptr_array_add(tracked, vr_point_disk_state(self, i)->target);
    g_ptr_array_add(tracked, NULL);
    return vr_checkpoint_create_offline(self->conn, self->uuid, self->checkpoint,
                                        (const char *const *) tracked->pdata, error);
}

static gboolean
start_server(Offline *offline, const VrPointDiskState *disk, GError **error)
{
    const char *plain[] = {
        "qemu-nbd", "-r",         "-t", "-f",         "qcow2", "--shared=" READERS_MAX,
        "-x",       disk->target, "-k", disk->socket, "--",    disk->path,
        NULL};
    const char *with_bitmap[] = {
        "qemu-nbd", "-r",         "-t", "-f",         "qcow2", "--shared=" READERS_MAX,
        "-x",       disk->target, "-k", disk->socket, "-B",    disk->bitmap,
        "--",       disk->path,   NULL};
    Server server = {0, -1};
    gboolean ok = FALSE;

    g_mutex_lock(&offline->lock);
    if (!offline->gave_way)
        ok = vr_start_program(disk->base ? with_bitmap : plain, &server.pid, &server.err, error);
    else
        vr_set_error(error, VR_ERROR_CONFLICT, "domain-starting", NULL,
                     "the domain is being started");
    if (ok)
        g_array_append_val(offline->servers, server);
    g_mutex_unlock(&offline->lock);
    return ok;
}

static gboolean
set_server_died(Offline *offline, guint i, GError **error)
{
    char words[1024] = "";
    Server *server;
    ssize_t got;

    g_mutex_lock(&offline->lock);
    server = &g_array_index(offline->servers, Server, i);
    server->pid = 0;
    got = read(server->err, words, sizeof(words) - 1);
    g_mutex_unlock(&offline->lock);
    words[MAX(got, 0)] = '\0';
    vr_set_program_error(error, "qemu-nbd", "ended before it served the image", words);
    return FALSE;
}

/* Its socket has a name some time before it is listened at. The server sees a client that comes and
 * goes. */
static gboolean
listens(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    gboolean ok;

    ok = fd >= 0 &&
         g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) < sizeof(address.sun_path) &&
         connect(fd, (const struct sockaddr *) &address, sizeof(address)) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static gboolean
wait_server(Offline *offline, guint i, const VrPointDiskState *disk, GError **error)
{
    gint64 until = g_get_monotonic_time() + START_US;
    GPid pid = g_array_index(offline->servers, Server, i).pid;

    while (g_get_monotonic_time() < until) {
        if (listens(disk->socket))
            return TRUE;
        if (waitpid(pid, NULL, WNOHANG) == pid)
            return set_server_died(offline, i, error);
        g_usleep(POLL_US);
    }
    vr_set_error(error, VR_ERROR_TRANSIENT, "source-stalled", NULL,
                 "disk '%s': qemu-nbd does not start", disk->target);
    return FALSE;
}

static gboolean
offline_begin(VrPoint *self, GError **error)
{
    Offline *offline = self->impl;

    if (!check_off(self, error) || (self->checkpoint && !make_checkpoint(self, error)))
        return FALSE;
    for (guint i = 0; i < self->disks->len; i++) {
        VrPointDiskState *disk = vr_point_disk_state(self, i);

        if (!start_server(offline, disk, error))
            return FALSE;
    }
    for (guint i = 0; i < self->disks->len; i++) {
        VrPointDiskState *disk = vr_point_disk_state(self, i);

        if (!wait_server(offline, i, disk, error))
            return FALSE;
        disk->source = vr_nbd_source_new(disk->socket, disk->target, self->gate);
    }
    self->serving = TRUE;
    return TRUE;
}

static gboolean
offline_release(VrPoint *self G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return TRUE;
}

static gboolean
offline_end(VrPoint *self, GError **error G_GNUC_UNUSED)
{
    stop_servers(self->impl);
    self->ended = TRUE;
    return TRUE;
}

static void
offline_cleanup(VrPoint *self)
{
    for (guint i = 0; i < self->disks->len; i++) {
        const char *socket = vr_point_disk_state(self, i)->socket;

        if (unlink(socket) < 0 && errno != ENOENT)
            g_warning("socket '%s': %s, ignoring", socket, g_strerror(errno));
    }
}

static void
offline_give_way(VrPoint *self)
{
    Offline *offline = self->impl;
    GError *failure = NULL;

    g_mutex_lock(&offline->lock);
    offline->gave_way = TRUE;
    kill_all(offline);
    g_mutex_unlock(&offline->lock);
    vr_set_error(&failure, VR_ERROR_CONFLICT, "domain-starting", NULL,
                 "domain '%s' is being started", self->uuid);
    vr_point_fail(self, failure);
}

const VrPointOps vr_point_offline_ops = {
    .prepare = offline_prepare,
    .begin = offline_begin,
    .release = offline_release,
    .end = offline_end,
    .cleanup = offline_cleanup,
    .give_way = offline_give_way,
    .impl_new = offline_new,
    .impl_free = offline_free,
};
