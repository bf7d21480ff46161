/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What both kinds of point share: names, order, freeze, connecting. Names are chosen in
 * vr_point_new() and are random, so a journal written then finds everything later steps can leave
 * behind.
 */
#include <libvirt/libvirt.h>
#include <string.h>

#include "policies/error.h"
#include "policies/ids.h"
#include "qmp/point/checkpoint.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/point/freeze.h"
#include "qmp/point/point_backup.h"
#include "qmp/point/point_impl.h"
#include "qmp/point/point_journal.h"
#include "qmp/point/scratch.h"

#define READERS_WAIT_MS 60000
#define RESERVE_DEFAULT (G_GUINT64_CONSTANT(256) << 20)

static void
disk_free(gpointer data)
{
    VrPointDiskState *disk = data;

    vr_nbd_source_free(disk->source);
    vr_extents_free(disk->candidates);
    g_free(disk->target);
    g_free(disk->path);
    g_free(disk->format);
    g_free(disk->base);
    g_free(disk->bitmap);
    g_free(disk->socket);
    g_free(disk->scratch);
    g_free(disk);
}

VrPointDiskState *
vr_point_disk_state(VrPoint *self, guint i)
{
    return self->disks->pdata[i];
}

static gboolean
refuse_disk(GError **error, const VrPointWanted *wanted, const char *slug, const char *action,
            const char *target, const char *why)
{
    vr_set_error(error, VR_ERROR_REFUSED, slug, action, "domain '%s': disk '%s' %s", wanted->uuid,
                 target, why);
    return FALSE;
}

static gboolean
check_disk(VrConn *conn, const VrPointWanted *wanted, const char *target, const VrDomDisk *disk,
           GError **error)
{
    if (!disk) {
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-disk", NULL,
                     "domain '%s' has no disk '%s'", wanted->uuid, target);
        return FALSE;
    }
    if (!disk->path || disk->path[0] != '/' || strcmp(disk->device, "disk") != 0 ||
        disk->readonly || disk->shareable || disk->transient)
        return refuse_disk(error, wanted, "disk-not-supported", "Exclude the disk from protection.",
                           target, "is no writable disk of its own with a local image");
    if (g_strcmp0(disk->format, "qcow2") != 0)
        return refuse_disk(error, wanted, "disk-raw",
                           "Convert the image to qcow2, or exclude the disk.", target,
                           "is not qcow2 and cannot track changes");
    if (disk->iothread && wanted->kind == VR_POINT_BACKUP && vr_conn_qemu_version(conn) < 9000000)
        return refuse_disk(error, wanted, "disk-iothread",
                           "Remove the iothread from the disk, or use QEMU 9.0 or later.", target,
                           "uses an iothread, and a pull backup of it can end QEMU before 9.0");
    return TRUE;
}

static gboolean
check_state(VrConn *conn, const VrPointWanted *wanted, VrDomInfo **ret_info, GError **error)
{
    g_autoptr(VrDomInfo) info = vr_dom_info(conn, wanted->uuid, error);

    if (!info)
        return FALSE;
    if (wanted->kind == VR_POINT_OFFLINE && info->state != VR_DOM_SHUTOFF) {
        vr_set_error(error, VR_ERROR_TRANSIENT, "domain-running", NULL, "domain '%s' is %s",
                     info->name, vr_dom_state_name(info->state));
        return FALSE;
    }
    if (wanted->kind == VR_POINT_BACKUP && info->state != VR_DOM_RUNNING &&
        info->state != VR_DOM_PAUSED) {
        vr_set_error(error, VR_ERROR_TRANSIENT, "domain-not-running", NULL, "domain '%s' is %s",
                     info->name, vr_dom_state_name(info->state));
        return FALSE;
    }
    *ret_info = g_steal_pointer(&info);
    return TRUE;
}

static void
add_disk(VrPoint *self, const VrPointDiskWanted *wanted, const VrDomDisk *found, const char *dir,
         guint32 random)
{
    VrPointDiskState *disk = g_new0(VrPointDiskState, 1);

    disk->target = g_strdup(wanted->target);
    disk->path = g_strdup(found->path);
    disk->format = g_strdup(found->format);
    disk->base = g_strdup(wanted->base);
    disk->image_size = found->size_bytes;
    if (self->kind == VR_POINT_BACKUP) {
        disk->bitmap = g_strdup_printf("virt-replica-%s", wanted->target);
        disk->socket = g_strdup_printf("%s/virt-replica-%08x.sock", dir, random);
        disk->scratch = vr_scratch_path(self->scratch_dir, found->path, self->uuid, wanted->target);
    } else {
        disk->bitmap = g_strdup(wanted->base);
        disk->socket = g_strdup_printf("%s/point-%08x-%s.sock", dir, random, wanted->target);
    }
    disk->pub.target = disk->target;
    disk->pub.path = disk->path;
    disk->pub.incremental = disk->base != NULL;
    g_ptr_array_add(self->disks, disk);
}

static gboolean
is_wanted(const VrPointWanted *wanted, const char *target)
{
    for (guint i = 0; i < wanted->n_disks; i++) {
        if (strcmp(wanted->disks[i].target, target) == 0)
            return TRUE;
    }
    return FALSE;
}

static void
note_others(VrPoint *self, const VrPointWanted *wanted, const GPtrArray *found)
{
    g_autoptr(GPtrArray) others = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < found->len; i++) {
        const VrDomDisk *disk = found->pdata[i];

        if (!is_wanted(wanted, disk->target))
            g_ptr_array_add(others, g_strdup(disk->target));
    }
    g_ptr_array_add(others, NULL);
    self->others = (char **) g_ptr_array_free(g_steal_pointer(&others), FALSE);
}

static gboolean
add_disks(VrPoint *self, const VrPointWanted *wanted, const char *dir, GError **error)
{
    g_autoptr(GPtrArray) found = vr_dom_disks(self->conn, wanted->uuid, error);
    guint32 random = g_random_int();

    if (!found)
        return FALSE;
    for (guint i = 0; i < wanted->n_disks; i++) {
        const VrDomDisk *disk = vr_dom_disk_find(found, wanted->disks[i].target);

        if (!check_disk(self->conn, wanted, wanted->disks[i].target, disk, error))
            return FALSE;
        add_disk(self, &wanted->disks[i], disk, dir, random);
    }
    note_others(self, wanted, found);
    return TRUE;
}

VrPoint *
vr_point_new(VrConn *conn, const VrPointWanted *wanted, GCancellable *cycle, GError **error)
{
    g_autoptr(VrDomInfo) info = NULL;
    g_autoptr(VrPoint) self = NULL;
    g_autofree char *dir = NULL;

    g_return_val_if_fail(wanted->n_disks > 0 && vr_uuid_valid(wanted->uuid), NULL);
    g_return_val_if_fail(wanted->checkpoint || wanted->kind == VR_POINT_OFFLINE, NULL);
    if (!check_state(conn, wanted, &info, error))
        return NULL;
    dir = wanted->kind == VR_POINT_BACKUP ? vr_point_backup_find_dir(info->id, error)
                                          : g_strdup(wanted->runtime_dir);
    if (!dir)
        return NULL;
    self = g_new0(VrPoint, 1);
    self->ops = wanted->kind == VR_POINT_BACKUP ? &vr_point_backup_ops : &vr_point_offline_ops;
    self->conn = conn;
    self->kind = wanted->kind;
    self->uuid = g_strdup(wanted->uuid);
    self->checkpoint = g_strdup(wanted->checkpoint);
    self->scratch_dir = g_strdup(wanted->scratch_dir);
    self->scratch_limit = wanted->scratch_limit;
    self->scratch_reserve = wanted->scratch_reserve > 0 ? wanted->scratch_reserve : RESERVE_DEFAULT;
    self->disks = g_ptr_array_new_with_free_func(disk_free);
    self->cycle = cycle ? g_object_ref(cycle) : NULL;
    self->gate = vr_nbd_gate_new();
    self->consistency = VR_CONSISTENCY_CRASH;
    g_mutex_init(&self->lock);
    self->impl = self->ops->impl_new(self);
    if (!add_disks(self, wanted, dir, error))
        return NULL;
    self->journal = vr_point_journal_write(self);
    return g_steal_pointer(&self);
}

void
vr_point_free(VrPoint *self)
{
    if (!self)
        return;
    if (self->begun && !self->ended) {
        g_autoptr(GError) local = NULL;

        vr_point_thaw(self);
        vr_nbd_gate_close(self->gate);
        if (!vr_point_end(self, &local))
            g_debug("point of '%s': %s", self->uuid, local->message);
    }
    vr_point_thaw(self);
    if (!self->begun || self->ended)
        vr_point_cleanup(self);
    self->ops->impl_free(self->impl);
    g_ptr_array_unref(self->disks);
    vr_nbd_gate_unref(self->gate);
    g_clear_object(&self->cycle);
    g_clear_error(&self->failure);
    g_mutex_clear(&self->lock);
    g_free(self->uuid);
    g_free(self->checkpoint);
    g_free(self->scratch_dir);
    g_strfreev(self->others);
    g_free(self->journal);
    g_free(self);
}

const char *
vr_point_journal(const VrPoint *self)
{
    return self->journal;
}

/* What libvirt refuses because the domain has stopped meanwhile is no refusal for good. Always
 * FALSE.
 */
static gboolean
fail(VrPoint *self, GError *failure, GError **error)
{
    VrDomState state = VR_DOM_RUNNING;

    if (self->kind == VR_POINT_BACKUP && g_error_matches(failure, VR_ERROR, VR_ERROR_REFUSED) &&
        vr_dom_state(self->conn, self->uuid, &state, NULL) && state != VR_DOM_RUNNING &&
        state != VR_DOM_PAUSED) {
        vr_set_error(error, VR_ERROR_TRANSIENT, "domain-changing", NULL,
                     "domain '%s' is %s by now: %s", self->uuid, vr_dom_state_name(state),
                     failure->message);
        g_error_free(failure);
    } else {
        g_propagate_error(error, failure);
    }
    return FALSE;
}

gboolean
vr_point_prepare(VrPoint *self, GError **error)
{
    g_autoptr(GError) local = NULL;

    return self->ops->prepare(self, &local) || fail(self, g_steal_pointer(&local), error);
}

gboolean
vr_point_freeze(VrPoint *self, guint deadline_ms, GError **error)
{
    if (self->kind == VR_POINT_OFFLINE || self->freeze)
        return TRUE;
    self->freeze =
        vr_freeze_begin(vr_conn_uri(self->conn), self->uuid, deadline_ms, self->cycle, error);
    return self->freeze != NULL;
}

gboolean
vr_point_begin(VrPoint *self, GError **error)
{
    g_autoptr(GError) local = NULL;

    self->begun = TRUE;
    if (self->ops->begin(self, &local))
        return TRUE;
    vr_point_thaw(self);
    if (!vr_point_abort(self, NULL))
        g_debug("point of '%s': something is left of a begin that failed", self->uuid);
    return fail(self, g_steal_pointer(&local), error);
}

void
vr_point_thaw(VrPoint *self)
{
    g_autoptr(VrFreeze) freeze = g_steal_pointer(&self->freeze);
    g_autoptr(GError) local = NULL;

    if (!freeze)
        return;
    if (vr_freeze_end(freeze, &local))
        self->consistency = VR_CONSISTENCY_APP;
    else
        g_debug("point of '%s': %s", self->uuid, local->message);
}

VrConsistency
vr_point_consistency(const VrPoint *self)
{
    return self->consistency;
}

gboolean
vr_point_connect(VrPoint *self, GError **error)
{
    for (guint i = 0; i < self->disks->len; i++) {
        VrPointDiskState *disk = vr_point_disk_state(self, i);
        VrExtents *candidates;

        candidates =
            vr_nbd_source_probe(disk->source, disk->base ? disk->bitmap : NULL, self->cycle, error);
        if (!candidates) {
            g_prefix_error(error, "disk '%s': ", disk->target);
            return FALSE;
        }
        vr_extents_free(disk->candidates);
        disk->candidates = candidates;
        disk->pub.candidates = candidates;
        disk->pub.source = vr_nbd_source_get(disk->source);
        disk->pub.size_bytes = disk->pub.source->size_bytes;
    }
    return TRUE;
}

guint
vr_point_n_disks(const VrPoint *self)
{
    return self->disks->len;
}

const VrPointDisk *
vr_point_disk(const VrPoint *self, guint i)
{
    const VrPointDiskState *disk = self->disks->pdata[i];

    return &disk->pub;
}

static gboolean
wait_readers(VrPoint *self, GError **error)
{
    if (vr_nbd_gate_wait_idle(self->gate, READERS_WAIT_MS))
        return TRUE;
    vr_set_error(error, VR_ERROR_INTERNAL, "readers-open", NULL,
                 "point of '%s': readers are still open", self->uuid);
    return FALSE;
}

gboolean
vr_point_release(VrPoint *self, GError **error)
{
    vr_nbd_gate_close(self->gate);
    if (!wait_readers(self, error) || vr_point_failure(self, error))
        return FALSE;
    return !self->begun || self->ops->release(self, error);
}

gboolean
vr_point_end(VrPoint *self, GError **error)
{
    if (!self->begun || self->ended)
        return TRUE;
    vr_nbd_gate_close(self->gate);
    return wait_readers(self, error) && self->ops->end(self, error);
}

void
vr_point_cleanup(VrPoint *self)
{
    self->ops->cleanup(self);
}

gboolean
vr_point_abort(VrPoint *self, GError **error)
{
    g_autoptr(GError) local = NULL;

    vr_point_thaw(self);
    if (!vr_point_end(self, &local) && !self->ended) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (self->begun && self->checkpoint &&
        !vr_checkpoint_delete(self->conn, self->uuid, self->checkpoint, error))
        return FALSE;
    vr_point_cleanup(self);
    return TRUE;
}

void
vr_point_fail(VrPoint *self, GError *failure)
{
    g_mutex_lock(&self->lock);
    if (self->failure)
        g_error_free(failure);
    else
        self->failure = failure;
    g_mutex_unlock(&self->lock);
    if (self->cycle)
        g_cancellable_cancel(self->cycle);
}

gboolean
vr_point_failure(VrPoint *self, GError **error)
{
    gboolean failed;

    g_mutex_lock(&self->lock);
    failed = self->failure != NULL;
    if (failed && error)
        *error = g_error_copy(self->failure);
    g_mutex_unlock(&self->lock);
    return failed;
}

void
vr_point_give_way(VrPoint *self)
{
    self->ops->give_way(self);
}
