/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/replica/replica_private.h"
#include "storage/replica/store_index.h"

/*
 * A disk of the newest RP is lost when a layer that it needs is not there or cannot be read.
 * Nothing above such a layer can be whole, so the next one has no backing file, and all of the disk
 * is sent for it: its manifest is empty. DISK.lost beside the manifests says so, with the number of
 * the RP it was written for; for any other RP it means nothing. The layers may come back before
 * that RP is made, then the manifests are rebuilt from them.
 */

static char *
marker_path(VrReplica *self, const char *disk)
{
    g_autofree char *name = g_strconcat(disk, ".lost", NULL);

    return g_build_filename(self->manifest_dir, name, NULL);
}

static guint64
marked_for(VrReplica *self, const char *disk)
{
    g_autofree char *path = marker_path(self, disk);
    g_autofree char *text = vr_read_file(path, 32, NULL, NULL);

    return text ? g_ascii_strtoull(text, NULL, 10) : 0;
}

gboolean
vr_replica_is_lost(VrReplica *self, const VrRpRow *head, const char *disk)
{
    return head && marked_for(self, disk) == head->rp.number;
}

void
vr_replica_forget_lost(VrReplica *self, const VrRpRow *head)
{
    g_autoptr(GPtrArray) disks = head ? vr_replica_row_disks(head, NULL) : NULL;

    for (guint i = 0; disks && i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        g_autofree char *path = marker_path(self, disk->name);

        if (!vr_replica_is_lost(self, head, disk->name))
            (void) unlink(path);
    }
}

static gboolean
chain_is_readable(GPtrArray *rows, GPtrArray *checks, const char *disk)
{
    guint i = rows->len;

    do {
        const VrRpRow *row = rows->pdata[--i];

        if (vr_replica_is_unreadable(vr_replica_find_check(checks, row->rp.number, disk)))
            return FALSE;
    } while (vr_replica_row_disk_floor(rows, i, disk) > 0);
    return TRUE;
}

/* Right after the first RP's row was written the index may not be there, but its layers are. */
gboolean
vr_replica_store_is_there(VrReplica *self, GPtrArray *rows)
{
    const VrRpRow *head = vr_replica_last_row(rows);
    g_autoptr(GPtrArray) disks = head ? vr_replica_row_disks(head, NULL) : NULL;
    g_autofree char *index = vr_replica_path(self, VR_STORE_INDEX_NAME);
    gboolean found = !head || g_file_test(index, G_FILE_TEST_IS_REGULAR);

    for (guint i = 0; !found && disks && i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        g_autofree char *path =
            vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".qcow2", disk->name, head->rp.number);

        found = g_file_test(path, G_FILE_TEST_IS_REGULAR);
    }
    return found;
}

gboolean
vr_replica_require_store(VrReplica *self, GPtrArray *rows, GError **error)
{
    if (vr_replica_store_is_there(self, rows))
        return TRUE;
    vr_set_error(error, VR_ERROR_CORRUPT, "replica-missing",
                 "Mount the file system of the store; if it is gone, unprotect the domain and "
                 "protect it again.",
                 "'%s', where the newest recovery point is kept, is not there", self->dir);
    return FALSE;
}

gboolean
vr_replica_check_there(VrReplica *self, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);

    return rows && vr_replica_require_store(self, rows, error);
}

static gboolean
set_marker(VrReplica *self, const char *disk, guint64 number, GError **error)
{
    g_autofree char *path = marker_path(self, disk);
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT "\n", number);

    if (number != 0)
        return vr_write_file_atomic(path, text, strlen(text), 0600, error);
    if (unlink(path) == 0 || errno == ENOENT)
        return vr_fsync_dir(self->manifest_dir, error);
    vr_set_error_errno(error, errno, "cannot remove '%s'", path);
    return FALSE;
}

gboolean
vr_replica_note_lost(VrReplica *self, GPtrArray *rows, GPtrArray *checks, GError **error)
{
    const VrRpRow *head = vr_replica_last_row(rows);
    g_autoptr(GPtrArray) disks = head ? vr_replica_row_disks(head, error) : NULL;
    gboolean is_there = vr_replica_store_is_there(self, rows);

    for (guint i = 0; disks && i < disks->len; i++) {
        const char *disk = ((const VrCycleDisk *) disks->pdata[i])->name;
        gboolean lost = !chain_is_readable(rows, checks, disk);

        if (lost == vr_replica_is_lost(self, head, disk) || (lost && !is_there))
            continue;
        /* Whatever else comes to pass, the manifest is not what the layers say any more. */
        if (!vr_replica_mark_rebuild(self, error) || !vr_replica_drop_incoming(self, error) ||
            !set_marker(self, disk, lost ? head->rp.number : 0, error))
            return FALSE;
    }
    return !head || disks != NULL;
}
