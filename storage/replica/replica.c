/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "policies/attachment.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "storage/util/file_util.h"
#include "storage/replica/replica_private.h"
#include "storage/replica/replica_verify.h"
#include "storage/util/run_program.h"

#define DOMAIN_XML_MAX ((gsize) 256 * 1024)
#define TREE_DEPTH_MAX 8

/* A head whose digests were lost is marked for rebuilding, and no cycle can go on from it. */
static gboolean
check_manifests(VrReplica *self, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    const VrRpRow *head = rows ? vr_replica_last_row(rows) : NULL;
    g_autoptr(GPtrArray) disks = head ? vr_replica_row_disks(head, error) : NULL;

    if (!rows || (head && !disks))
        return FALSE;
    for (guint i = 0; disks && i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        g_autofree char *name = g_strconcat(disk->name, ".sums", NULL);
        g_autofree char *path = g_build_filename(self->manifest_dir, name, NULL);

        if (!g_file_test(path, G_FILE_TEST_EXISTS))
            return vr_replica_mark_rebuild(self, error) &&
                   (!vr_replica_store_is_there(self, rows) ||
                    vr_replica_drop_incoming(self, error));
    }
    return TRUE;
}

/* What finds no room now is repeated by the next cycle; nobody who wants an RP needs it. */
static gboolean
finish_head(VrReplica *self, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_replica_finish_head(self, &local) || g_error_matches(local, VR_ERROR, VR_ERROR_NO_SPACE))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean
make_dirs(VrReplica *self, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);

    return rows && vr_make_dir(self->manifest_dir, 0700, error) &&
           (!vr_replica_store_is_there(self, rows) || vr_replica_make_dirs(self, error));
}

static gboolean
recover(VrReplica *self, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (!vr_replica_check_index(self, error) || !make_dirs(self, error) ||
        !check_manifests(self, error) || !finish_head(self, error) ||
        !vr_replica_unpublish(self, error) || !vr_replica_sweep_incoming(self, error) ||
        !vr_replica_know_lists(self, error))
        return FALSE;
    /* What was away may be there again; whoever found what is damaged may have been killed. */
    if (!vr_replica_look(self, &local) || !vr_replica_note_damage(self, &local))
        g_debug("replica of %s: %s", self->uuid, local->message);
    vr_replica_try_index(self);
    return TRUE;
}

VrReplica *
vr_replica_open(VrState *state, const char *store_path, const char *uuid, const char *manifest_dir,
                GError **error)
{
    g_autoptr(VrReplica) self = NULL;

    if (!vr_uuid_valid(uuid) || !g_path_is_absolute(store_path)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-replica", NULL,
                     "'%s' in store '%s' cannot be a replica", uuid, store_path);
        return NULL;
    }
    self = g_new0(VrReplica, 1);
    self->state = state;
    self->uuid = g_strdup(uuid);
    self->store = g_strdup(store_path);
    self->dir = g_build_filename(store_path, uuid, NULL);
    self->manifest_dir = g_strdup(manifest_dir);
    vr_layer_gate_init(&self->layers);
    g_mutex_init(&self->damage_lock);
    g_mutex_init(&self->lock);
    g_rw_lock_init(&self->io);
    return recover(self, error) ? g_steal_pointer(&self) : NULL;
}

void
vr_replica_close(VrReplica *self)
{
    if (!self)
        return;
    vr_incoming_free(self->open);
    g_rw_lock_clear(&self->io);
    g_mutex_clear(&self->lock);
    vr_layer_gate_clear(&self->layers);
    g_clear_pointer(&self->damage, g_hash_table_unref);
    g_mutex_clear(&self->damage_lock);
    g_free(self->given_back);
    g_clear_error(&self->no_room);
    g_free(self->rested);
    g_free(self->manifest_dir);
    g_free(self->dir);
    g_free(self->store);
    g_free(self->uuid);
    g_free(self);
}

GPtrArray *
vr_replica_list(VrReplica *self, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    GPtrArray *points;

    if (!rows || !vr_replica_judge_rows(self, rows, error))
        return NULL;
    points = g_ptr_array_new_with_free_func((GDestroyNotify) vr_recovery_point_free);
    for (guint i = 0; i < rows->len; i++) {
        const VrRpRow *row = rows->pdata[i];
        if (row->state == VR_RP_LISTED)
            g_ptr_array_add(points, vr_replica_copy_rp(&row->rp));
    }
    return points;
}

VrRecoveryPoint *
vr_replica_head(VrReplica *self, GError **error)
{
    g_autoptr(GPtrArray) points = vr_replica_list(self, error);

    return points && points->len > 0 ? vr_replica_copy_rp(points->pdata[points->len - 1]) : NULL;
}

/* DISK.sums of the head manifest holds 16 bytes a chunk; holes are zero chunks. */
static gboolean
read_head_sums(int fd, guint64 from, guint max, GByteArray *records)
{
    VrDigest digests[256];
    guint found = 0;

    for (;;) {
        off_t data = lseek(fd, (off_t) (from * VR_DIGEST_LEN), SEEK_DATA);
        gssize n;

        if (data < 0)
            return errno == ENXIO;
        from = MAX(from, (guint64) data / VR_DIGEST_LEN);
        n = pread(fd, digests, sizeof digests, (off_t) (from * VR_DIGEST_LEN));
        if (n < (gssize) VR_DIGEST_LEN)
            return n >= 0;
        for (gssize i = 0; i < n / VR_DIGEST_LEN; i++, from++) {
            if (vr_digest_is_zero(&digests[i]))
                continue;
            if (found++ == max)
                return TRUE;
            vr_sums_append(records, from, &digests[i]);
        }
    }
}

static gboolean
head_sums_locked(VrReplica *self, const char *disk, guint64 from, guint max, GByteArray *records,
                 GError **error)
{
    g_autoptr(GPtrArray) rows = NULL;
    g_autofree char *name = g_strconcat(disk, ".sums", NULL);
    g_autofree char *path = g_build_filename(self->manifest_dir, name, NULL);
    gboolean ok;
    int fd;

    if (!vr_replica_finish_head(self, error))
        return FALSE;
    if (vr_replica_is_marked(self) &&
        (!vr_replica_drop_incoming(self, error) || !vr_replica_rebuild_if_marked(self, error)))
        return FALSE;
    rows = vr_state_rp_list(self->state, self->uuid, error);
    if (!rows)
        return FALSE;
    if (vr_replica_row_disk_size(vr_replica_last_row(rows), disk) == 0) {
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-disk", NULL,
                     "newest recovery point of %s has no disk '%s'", self->uuid, disk);
        return FALSE;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ok = fd >= 0 && read_head_sums(fd, from, max, records);
    if (!ok)
        vr_set_error_errno(error, errno, "cannot read '%s'", path);
    if (fd >= 0)
        close(fd);
    return ok;
}

GBytes *
vr_replica_head_sums(VrReplica *self, const char *disk, guint64 from, guint max, GError **error)
{
    g_autoptr(GByteArray) records = g_byte_array_new();
    gboolean ok = TRUE;

    g_mutex_lock(&self->lock);
    g_rw_lock_writer_lock(&self->io);
    if (from < VR_MAX_DISK_BYTES / VR_CHUNK_SIZE)
        ok = head_sums_locked(self, disk, from, max, records, error);
    g_rw_lock_writer_unlock(&self->io);
    g_mutex_unlock(&self->lock);
    return ok ? g_byte_array_free_to_bytes(g_steal_pointer(&records)) : NULL;
}

int
vr_replica_find_listed(VrReplica *self, GPtrArray *rows, guint64 number, GError **error)
{
    for (guint i = 0; i < rows->len; i++) {
        const VrRpRow *row = rows->pdata[i];
        if (row->rp.number == number && row->state == VR_RP_LISTED)
            return (int) i;
    }
    vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-rp", "List the recovery points.",
                 "there is no recovery point %" G_GUINT64_FORMAT " of %s", number, self->uuid);
    return -1;
}

gboolean
vr_replica_hold(VrReplica *self, guint64 number, const char *reason, GError **error)
{
    g_autoptr(GPtrArray) rows = NULL;
    gboolean ok;

    vr_layer_gate_enter(&self->layers, TRUE);
    g_mutex_lock(&self->lock);
    rows = vr_state_rp_list(self->state, self->uuid, error);
    ok = rows && vr_replica_find_listed(self, rows, number, error) >= 0 &&
         vr_state_hold_add(self->state, self->uuid, number, reason, error);
    if (ok)
        vr_replica_try_index(self);
    g_mutex_unlock(&self->lock);
    vr_layer_gate_leave(&self->layers);
    return ok;
}

gboolean
vr_replica_release(VrReplica *self, guint64 number, const char *reason, GError **error)
{
    gboolean ok;

    g_mutex_lock(&self->lock);
    ok = vr_state_hold_remove(self->state, self->uuid, number, reason, error);
    if (ok)
        vr_replica_try_index(self);
    g_mutex_unlock(&self->lock);
    return ok;
}

static void
replica_disk_free(VrReplicaDisk *self)
{
    g_free(self->name);
    g_free(self->path);
    g_free(self);
}

static char *
layer_path(VrReplica *self, const VrRpRow *row, const char *disk)
{
    return vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".qcow2", disk, row->rp.number);
}

/* After an interrupted merge a retiring RP may be without its layer: then the one above has taken
 * its place. */
const VrRpRow *
vr_replica_row_below(VrReplica *self, GPtrArray *rows, guint *i, const char *disk)
{
    while (vr_replica_row_disk_floor(rows, *i, disk) > 0) {
        const VrRpRow *below = rows->pdata[--*i];
        g_autofree char *path = layer_path(self, below, disk);

        if (below->state == VR_RP_LISTED || g_file_test(path, G_FILE_TEST_EXISTS))
            return below;
    }
    return NULL;
}

gboolean
vr_replica_check_disk_chain(VrReplica *self, GPtrArray *rows, guint index, const char *disk,
                            GError **error)
{
    const VrRpRow *row = rows->pdata[index];

    while (row) {
        const VrRpRow *below = vr_replica_row_below(self, rows, &index, disk);
        g_autofree char *path = layer_path(self, row, disk);
        g_autofree char *backing =
            below ? g_strdup_printf("%" G_GUINT64_FORMAT ".qcow2", below->rp.number) : NULL;

        /* The layer of a retiring RP may have the size of the one above already. */
        if (row->state == VR_RP_LISTED &&
            !vr_qcow2_check_header(path, vr_replica_row_disk_size(row, disk), backing, error))
            return FALSE;
        row = below;
    }
    return TRUE;
}

static GPtrArray *
disks_locked(VrReplica *self, guint64 number, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    int index = rows ? vr_replica_find_listed(self, rows, number, error) : -1;
    g_autoptr(GPtrArray) given =
        index >= 0 ? vr_replica_row_disks(rows->pdata[index], error) : NULL;
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func((GDestroyNotify) replica_disk_free);

    if (!given)
        return NULL;
    for (guint i = 0; i < given->len; i++) {
        const VrCycleDisk *from = given->pdata[i];
        VrReplicaDisk *disk;

        if (!vr_replica_check_disk_chain(self, rows, (guint) index, from->name, error))
            return NULL;
        disk = g_new0(VrReplicaDisk, 1);
        disk->name = g_strdup(from->name);
        disk->size_bytes = from->size_bytes;
        disk->path = vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".qcow2", from->name, number);
        g_ptr_array_add(disks, disk);
    }
    return g_steal_pointer(&disks);
}

GPtrArray *
vr_replica_disks(VrReplica *self, guint64 number, GError **error)
{
    GPtrArray *disks;

    vr_layer_gate_enter(&self->layers, TRUE);
    disks = disks_locked(self, number, error);
    vr_layer_gate_leave(&self->layers);
    return disks;
}

char *
vr_replica_domain_xml(VrReplica *self, guint64 number, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    g_autofree char *path = vr_replica_path(self, "rp/%" G_GUINT64_FORMAT "/domain.xml", number);
    gsize len = 0;

    if (!rows || vr_replica_find_listed(self, rows, number, error) < 0)
        return NULL;
    return vr_read_file(path, DOMAIN_XML_MAX, &len, error);
}

char *
vr_replica_attachment(VrReplica *self, guint64 number, const char *name)
{
    g_autofree char *path = vr_replica_path(self, "rp/%" G_GUINT64_FORMAT "/%s", number, name);

    if (!vr_attachment_name_known(name) || !g_file_test(path, G_FILE_TEST_IS_REGULAR))
        return NULL;
    return g_steal_pointer(&path);
}

static gboolean
create_overlay(const VrReplicaDisk *disk, const char *path, GError **error)
{
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, disk->size_bytes);
    const char *argv[] = {"qemu-img", "create", "-q",       "-f", "qcow2", "-F",
                          "qcow2",    "-b",     disk->path, path, size,    NULL};

    if (!g_path_is_absolute(path)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-path", NULL,
                     "overlay '%s' needs an absolute path", path);
        return FALSE;
    }
    if (g_file_test(path, G_FILE_TEST_EXISTS) || g_file_test(path, G_FILE_TEST_IS_SYMLINK)) {
        vr_set_error(error, VR_ERROR_CONFLICT, "file-exists", "Remove it or choose another name.",
                     "'%s' exists already", path);
        return FALSE;
    }
    return vr_run_program(argv, NULL, NULL, error);
}

static gboolean
overlay_locked(VrReplica *self, guint64 number, const char *disk, const char *path, GError **error)
{
    g_autoptr(GPtrArray) disks = disks_locked(self, number, error);

    for (guint i = 0; disks && i < disks->len; i++) {
        const VrReplicaDisk *found = disks->pdata[i];
        if (strcmp(found->name, disk) == 0)
            return create_overlay(found, path, error);
    }
    if (disks)
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-disk", NULL,
                     "recovery point %" G_GUINT64_FORMAT " of %s has no disk '%s'", number,
                     self->uuid, disk);
    return FALSE;
}

/* qemu-img opens the whole chain, so no merge may begin before it has ended. */
gboolean
vr_replica_make_overlay(VrReplica *self, guint64 number, const char *disk, const char *path,
                        GError **error)
{
    gboolean ok;

    vr_layer_gate_enter(&self->layers, TRUE);
    ok = overlay_locked(self, number, disk, path, error);
    vr_layer_gate_leave(&self->layers);
    return ok;
}

/* The index goes first: without it, files without rows are only leftovers. */
static gboolean
destroy_locked(VrReplica *self, GError **error)
{
    g_autofree char *index = vr_replica_path(self, "manifest.json");

    vr_replica_forget_damage(self);
    vr_replica_set_open(self, NULL);
    if (unlink(index) < 0 && errno != ENOENT) {
        vr_set_error_errno(error, errno, "cannot remove '%s'", index);
        return FALSE;
    }
    if (g_file_test(self->dir, G_FILE_TEST_IS_DIR) && !vr_fsync_dir(self->dir, error))
        return FALSE;
    return vr_state_rp_delete_all(self->state, self->uuid, error) &&
           vr_remove_tree(self->dir, error) && vr_remove_tree(self->manifest_dir, error);
}

gboolean
vr_replica_destroy(VrReplica *self, GError **error)
{
    gboolean ok;

    vr_layer_gate_enter(&self->layers, TRUE);
    g_mutex_lock(&self->lock);
    g_rw_lock_writer_lock(&self->io);
    ok = destroy_locked(self, error);
    g_rw_lock_writer_unlock(&self->io);
    g_mutex_unlock(&self->lock);
    vr_layer_gate_leave(&self->layers);
    return ok;
}
