/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "policies/error.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/point/freeze.h"
#include "qmp/point/point_backup.h"
#include "qmp/point/point_impl.h"
#include "tests/fakes/fake-fault.h"
#include "tests/fakes/fake-guest-private.h"

/* The vtables of both kinds of point, the backup job and the freeze. Scratch files and sockets are
 * real. */

static gpointer
impl_new(VrPoint *self)
{
    return NULL;
}

static void
impl_free(gpointer impl)
{
}

static gboolean
done(GError **error)
{
    return !fake_fault_after(error);
}

/* Every base that is asked for must be tracking still. */
static gboolean
check_bases(VrPoint *self, GError **error)
{
    for (guint i = 0; i < self->disks->len; i++) {
        const char *base = vr_point_disk_state(self, i)->base;
        const FakeCheckpoint *found = base ? fake_checkpoint_find(base) : NULL;

        if (base == NULL || (found != NULL && !found->broken))
            continue;
        vr_set_error(error, VR_ERROR_RESYNC_NEEDED, "tracking-lost", NULL, "no bitmap of '%s'",
                     base);
        return FALSE;
    }
    return TRUE;
}

static void
freeze_view(VrPoint *self)
{
    if (fake_guest_begins != NULL)
        fake_guest_begins();
    memcpy(fake_guest->view, fake_guest->data, sizeof fake_guest->view);
    for (guint i = 0; i < self->disks->len; i++) {
        const VrPointDiskState *disk = vr_point_disk_state(self, i);
        guint index = fake_disk_index(disk->target);

        if (disk->base != NULL)
            memcpy(fake_guest->changed[index], fake_checkpoint_find(disk->base)->dirty[index],
                   sizeof fake_guest->changed[index]);
    }
    fake_guest->begun++;
    fake_guest->frozen_points += fake_guest->frozen ? 1 : 0;
    fake_checkpoint_make(self->checkpoint);
}

static void
make_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    g_assert_cmpuint(g_strlcpy(address.sun_path, path, sizeof address.sun_path), <,
                     sizeof address.sun_path);
    g_assert_cmpint(bind(fd, (struct sockaddr *) &address, sizeof address), ==, 0);
    close(fd);
}

static void
open_sources(VrPoint *self)
{
    for (guint i = 0; i < self->disks->len; i++) {
        VrPointDiskState *disk = vr_point_disk_state(self, i);

        disk->source = vr_nbd_source_new(disk->socket, disk->target, self->gate);
    }
    self->serving = TRUE;
}

static void
remove_all(VrPoint *self)
{
    for (guint i = 0; i < self->disks->len; i++) {
        const VrPointDiskState *disk = vr_point_disk_state(self, i);

        (void) unlink(disk->socket);
        if (disk->scratch != NULL)
            (void) unlink(disk->scratch);
    }
}

/* Backup. */

static gboolean
backup_prepare(VrPoint *self, GError **error)
{
    if (fake_fault_before(FAKE_GUEST, error))
        return FALSE;
    if (fake_guest->job[0] != '\0') {
        vr_set_error(error, VR_ERROR_CONFLICT, "backup-job-running", NULL, "a job is running");
        return FALSE;
    }
    if (!check_bases(self, error))
        return FALSE;
    for (guint i = 0; i < self->disks->len; i++) {
        int fd = open(vr_point_disk_state(self, i)->scratch, O_WRONLY | O_CREAT | O_EXCL, 0600);

        g_assert_cmpint(fd, >=, 0);
        close(fd);
    }
    return done(error);
}

static gboolean
backup_begin(VrPoint *self, GError **error)
{
    if (fake_fault_before(FAKE_GUEST, error))
        return FALSE;
    if (fake_guest->loses)
        fake_guest_qemu_died();
    if (!check_bases(self, error))
        return FALSE;
    g_assert_cmpstr(fake_guest->job, ==, "");
    g_strlcpy(fake_guest->job, vr_point_disk_state(self, 0)->socket, sizeof fake_guest->job);
    make_socket(fake_guest->job);
    freeze_view(self);
    if (!done(error))
        return FALSE;
    open_sources(self);
    return TRUE;
}

static gboolean
release(VrPoint *self, GError **error)
{
    return !fake_fault_before(FAKE_GUEST, error) && done(error);
}

static gboolean
backup_end(VrPoint *self, GError **error)
{
    gboolean ended = FALSE;

    self->ended = vr_point_backup_end_job(self->conn, self->uuid,
                                          vr_point_disk_state(self, 0)->socket, &ended, error);
    if (!self->ended || ended || !self->serving)
        return self->ended;
    vr_set_error(error, VR_ERROR_CONFLICT, "backup-job-lost", NULL, "somebody ended the job");
    return FALSE;
}

static void
give_way(VrPoint *self)
{
}

const VrPointOps vr_point_backup_ops = {
    .prepare = backup_prepare,
    .begin = backup_begin,
    .release = release,
    .end = backup_end,
    .cleanup = remove_all,
    .give_way = give_way,
    .impl_new = impl_new,
    .impl_free = impl_free,
};

char *
vr_point_backup_find_dir(int id, GError **error)
{
    return g_strdup(fake_guest->dir);
}

gboolean
vr_point_backup_socket_is_ours(const char *socket)
{
    return g_str_has_prefix(socket, fake_guest->dir);
}

gboolean
vr_point_backup_job_socket(VrConn *conn, const char *uuid, char **ret_socket, GError **error)
{
    if (fake_fault_before(FAKE_GUEST, error))
        return FALSE;
    *ret_socket = fake_guest->job[0] != '\0' ? g_strdup(fake_guest->job) : NULL;
    if (done(error))
        return TRUE;
    g_clear_pointer(ret_socket, g_free);
    return FALSE;
}

gboolean
vr_point_backup_end_job(VrConn *conn, const char *uuid, const char *socket, gboolean *ret_ended,
                        GError **error)
{
    gboolean running = strcmp(fake_guest->job, socket) == 0;

    if (fake_fault_before(FAKE_GUEST, error))
        return FALSE;
    g_assert_cmpint(g_atomic_int_get(&fake_guest->readers), ==, 0);
    if (running)
        fake_guest->job[0] = '\0';
    if (ret_ended != NULL)
        *ret_ended = running;
    return done(error);
}

/* Offline. */

static gboolean
offline_prepare(VrPoint *self, GError **error)
{
    return !fake_fault_before(FAKE_GUEST, error) && check_bases(self, error) && done(error);
}

static gboolean
offline_begin(VrPoint *self, GError **error)
{
    if (fake_fault_before(FAKE_GUEST, error))
        return FALSE;
    freeze_view(self);
    if (!done(error))
        return FALSE;
    for (guint i = 0; i < self->disks->len; i++)
        make_socket(vr_point_disk_state(self, i)->socket);
    fake_guest->servers = self->disks->len;
    open_sources(self);
    self->consistency = VR_CONSISTENCY_APP;
    return TRUE;
}

static gboolean
offline_end(VrPoint *self, GError **error)
{
    fake_guest->servers = 0;
    self->ended = TRUE;
    return TRUE;
}

const VrPointOps vr_point_offline_ops = {
    .prepare = offline_prepare,
    .begin = offline_begin,
    .release = release,
    .end = offline_end,
    .cleanup = remove_all,
    .give_way = give_way,
    .impl_new = impl_new,
    .impl_free = impl_free,
};

/* Freeze. */

struct _VrFreeze {
    gboolean held;
};

VrFreeze *
vr_freeze_begin(const char *uri, const char *uuid, guint deadline_ms, GCancellable *cancel,
                GError **error)
{
    if (fake_fault_before(FAKE_GUEST, error))
        return NULL;
    g_assert_false(fake_guest->frozen);
    fake_guest->frozen = TRUE;
    if (!done(error)) {
        fake_guest->frozen = FALSE;
        return NULL;
    }
    return g_new0(VrFreeze, 1);
}

gboolean
vr_freeze_end(VrFreeze *self, GError **error)
{
    fake_guest->frozen = FALSE;
    return !fake_fault_before(FAKE_GUEST, error) && done(error);
}

void
vr_freeze_free(VrFreeze *self)
{
    fake_guest->frozen = FALSE;
    g_free(self);
}

gboolean
vr_freeze_thaw_now(VrConn *conn, const char *uuid, GError **error)
{
    fake_guest->frozen = FALSE;
    return TRUE;
}

/* What libvirt says of disks and of itself. */

static void
dom_disk_free(gpointer data)
{
    VrDomDisk *disk = data;

    g_free(disk->target);
    g_free(disk->path);
    g_free(disk->format);
    g_free(disk->device);
    g_free(disk);
}

GPtrArray *
vr_dom_disks(VrConn *conn, const char *domain, GError **error)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func(dom_disk_free);

    if (fake_fault_before(FAKE_GUEST, error) || fake_fault_after(error))
        return NULL;
    for (guint i = 0; i < FAKE_DISKS; i++) {
        VrDomDisk *disk = g_new0(VrDomDisk, 1);

        disk->target = g_strdup(fake_disk_names[i]);
        disk->path = g_strdup_printf("%s/%s.qcow2", fake_guest->dir, fake_disk_names[i]);
        disk->format = g_strdup("qcow2");
        disk->device = g_strdup("disk");
        disk->size_bytes = fake_guest->size[i];
        disk->device_id = 1;
        disk->inode = i + 1;
        g_ptr_array_add(disks, disk);
    }
    return g_steal_pointer(&disks);
}

const VrDomDisk *
vr_dom_disk_find(const GPtrArray *disks, const char *target)
{
    for (guint i = 0; i < disks->len; i++) {
        if (strcmp(((VrDomDisk *) disks->pdata[i])->target, target) == 0)
            return disks->pdata[i];
    }
    return NULL;
}

const char *
vr_conn_uri(const VrConn *conn)
{
    return "fake:///";
}

gulong
vr_conn_qemu_version(VrConn *conn)
{
    return 7002000;
}
