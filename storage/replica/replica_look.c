/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <sys/stat.h>

#include "policies/error.h"
#include "storage/replica/replica_private.h"
#include "storage/replica/replica_verify.h"

/* The cheap look: files, headers, sizes, places in chains; nothing is read back. It takes back only
 * what it found itself. */

gboolean
vr_replica_check_file(const char *path, guint64 size, gboolean any_size, GError **error)
{
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (any_size || (guint64) st.st_size == size))
        return TRUE;
    vr_set_error(error, VR_ERROR_CORRUPT, "replica-damaged",
                 "Run sync on the source: what is lost is sent again. Or put the file back.",
                 "'%s' of a recovery point is not there or not whole", path);
    return FALSE;
}

gboolean
vr_replica_check_layer(VrReplica *self, GPtrArray *rows, guint index, const char *disk,
                       GError **error)
{
    const VrRpRow *row = rows->pdata[index];
    const VrRpRow *below = vr_replica_row_below(self, rows, &index, disk);
    g_autofree char *path =
        vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".qcow2", disk, row->rp.number);
    g_autofree char *sums =
        vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".sums", disk, row->rp.number);
    g_autofree char *backing =
        below ? g_strdup_printf("%" G_GUINT64_FORMAT ".qcow2", below->rp.number) : NULL;

    return vr_qcow2_check_header(path, vr_replica_row_disk_size(row, disk), backing, error) &&
           vr_replica_check_file(sums, 0, TRUE, error);
}

/* --- one recovery point --- */

static gboolean
check_digests(VrReplica *self, GPtrArray *rows, guint index, const char *disk, GError **error)
{
    do {
        const VrRpRow *row = rows->pdata[index];
        g_autofree char *sums =
            vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".sums", disk, row->rp.number);

        if (row->state == VR_RP_LISTED && !vr_replica_check_file(sums, 0, TRUE, error))
            return FALSE;
    } while (vr_replica_row_below(self, rows, &index, disk));
    return TRUE;
}

static gboolean
check_point(VrReplica *self, GPtrArray *rows, guint index, GError **error)
{
    const VrRpRow *row = rows->pdata[index];
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(row, error);

    if (!disks || !vr_replica_check_attachments(self, row, error))
        return FALSE;
    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];

        if (!vr_replica_check_disk_chain(self, rows, index, disk->name, error) ||
            !check_digests(self, rows, index, disk->name, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
vr_replica_require_sound(VrReplica *self, guint64 number, GError **error)
{
    g_autoptr(GPtrArray) points = vr_replica_list(self, error);

    for (guint i = 0; points && i < points->len; i++) {
        const VrRecoveryPoint *rp = points->pdata[i];
        gboolean is_disk = rp->damaged_disk && vr_replica_disk_name_ok(rp->damaged_disk);

        if (rp->number != number || !rp->damaged_disk)
            continue;
        vr_set_error(
            error, VR_ERROR_REFUSED, "replica-damaged",
            i + 1 == points->len ? "Run sync: what is damaged is sent again. Then try again."
                                 : "Choose another recovery point: see rp-list.",
            "recovery point %" G_GUINT64_FORMAT " is damaged: %" G_GUINT64_FORMAT
            " %s '%s' in the store are not what was proven",
            number, rp->damaged_chunks, is_disk ? "chunks of disk" : "parts of", rp->damaged_disk);
        return FALSE;
    }
    return points != NULL;
}

/* --- all of them --- */

/* It is there again: known to be bad it may still be, and to be good it is not. */
static gboolean
is_back(VrReplica *self, guint64 number, const char *disk, GError **error)
{
    g_autofree char *bad = vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".bad", disk, number);

    if (g_file_test(bad, G_FILE_TEST_EXISTS))
        return vr_replica_put_listed_bad(self, number, disk, error);
    vr_replica_forget_damage(self);
    return vr_state_layer_check_delete(self->state, self->uuid, number, disk, error);
}

static gboolean
look_at(VrReplica *self, GPtrArray *rows, guint index, const char *disk, GPtrArray *checks,
        gboolean *ret_changed, GError **error)
{
    guint64 number = ((const VrRpRow *) rows->pdata[index])->rp.number;
    const VrLayerCheck *check = vr_replica_find_check(checks, number, disk);
    g_autoptr(GError) wrong = NULL;
    gboolean is_there = vr_replica_check_layer(self, rows, index, disk, &wrong);
    gboolean was_away = check && check->state == VR_LAYER_AWAY;

    if (is_there != was_away || (!is_there && vr_replica_is_unreadable(check)))
        return TRUE;
    *ret_changed = TRUE;
    if (is_there)
        return is_back(self, number, disk, error);
    g_debug("replica of %s: %s", self->uuid, wrong->message);
    return vr_replica_put_check(self, number, disk, VR_LAYER_AWAY, error);
}

static gboolean
look_at_row(VrReplica *self, GPtrArray *rows, guint index, GPtrArray *checks, gboolean *ret_changed,
            GError **error)
{
    const VrRpRow *row = rows->pdata[index];
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(row, error);
    guint bad = 0;

    for (guint d = 0; disks && d < disks->len; d++) {
        const VrCycleDisk *disk = disks->pdata[d];

        if (!look_at(self, rows, index, disk->name, checks, ret_changed, error))
            return FALSE;
    }
    return disks &&
           vr_replica_look_at_attachments(self, row, checks, FALSE, &bad, ret_changed, error);
}

static gboolean
look_inside(VrReplica *self, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    g_autoptr(GPtrArray) checks =
        rows ? vr_state_layer_checks(self->state, self->uuid, error) : NULL;
    gboolean changed = FALSE;

    for (guint i = 0; checks && i < rows->len; i++) {
        const VrRpRow *row = rows->pdata[i];

        if (row->state == VR_RP_LISTED && !look_at_row(self, rows, i, checks, &changed, error))
            return FALSE;
    }
    return checks && (!changed || vr_replica_take_note(self, error));
}

/* Whoever asks is about to use it: a merge gives way. What is gone is recorded, so that it is sent
 * again, and what is back is taken for it. */
gboolean
vr_replica_check_chain(VrReplica *self, guint64 number, GError **error)
{
    g_autoptr(GPtrArray) rows = NULL;
    g_autoptr(GError) local = NULL;
    int index;
    gboolean ok;

    vr_layer_gate_enter(&self->layers, TRUE);
    rows = vr_state_rp_list(self->state, self->uuid, error);
    index = rows ? vr_replica_find_listed(self, rows, number, error) : -1;
    if (index >= 0 && !look_inside(self, &local))
        g_debug("replica of %s: %s", self->uuid, local->message);
    ok = index >= 0 && check_point(self, rows, (guint) index, error);
    vr_layer_gate_leave(&self->layers);
    return ok;
}

gboolean
vr_replica_look(VrReplica *self, GError **error)
{
    gboolean ok;

    vr_layer_gate_enter(&self->layers, FALSE);
    ok = look_inside(self, error);
    vr_layer_gate_leave(&self->layers);
    return ok;
}
