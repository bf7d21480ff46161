/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/error.h"
#include "storage/util/image_chain.h"
#include "storage/replica/replica_merge.h"

/* Whether two RPs can be merged: asked before anything is changed. */

char *
vr_merge_file(const VrMerge *m, const VrRpRow *row, const char *disk, const char *suffix)
{
    return vr_replica_path(m->replica, "%s/%" G_GUINT64_FORMAT ".%s", disk, row->rp.number, suffix);
}

char *
vr_merge_below(const VrMerge *m, const char *disk)
{
    if (vr_replica_row_disk_floor(m->rows, m->index, disk) == 0)
        return NULL;
    return g_strdup_printf("%" G_GUINT64_FORMAT ".qcow2", m->below->rp.number);
}

/* A first attempt may have given the lower layer its new size already. */
gboolean
vr_merge_check_headers(const VrMerge *m, const char *disk, const char *lower, const char *upper,
                       GError **error)
{
    guint64 size_lower = vr_replica_row_disk_size(m->lower, disk);
    guint64 size_upper = vr_replica_row_disk_size(m->upper, disk);
    g_autofree char *below = vr_merge_below(m, disk);
    g_autofree char *name = g_path_get_basename(lower);

    if (!vr_qcow2_check_header(upper, size_upper, name, error))
        return FALSE;
    if (m->redo && vr_qcow2_check_header(lower, size_upper, below, NULL))
        return TRUE;
    return vr_qcow2_check_header(lower, size_lower, below, error);
}

static gboolean
any_in_use(const VrMerge *m, GPtrArray *disks)
{
    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        g_autofree char *lower = vr_merge_file(m, m->lower, disk->name, "qcow2");
        g_autofree char *upper = vr_merge_file(m, m->upper, disk->name, "qcow2");
        if (vr_image_in_use(lower) || vr_image_in_use(upper))
            return TRUE;
    }
    return FALSE;
}

gboolean
vr_merge_is_given_up(const VrMerge *m, const char *disk)
{
    return m->given_up && g_hash_table_contains(m->given_up, disk);
}

gboolean
vr_merge_is_done(const VrMerge *m, const char *disk)
{
    g_autofree char *lower = vr_merge_file(m, m->lower, disk, "qcow2");

    return vr_replica_row_disk_floor(m->rows, m->index + 1, disk) == 0 ||
           vr_merge_is_given_up(m, disk) || !g_file_test(lower, G_FILE_TEST_EXISTS);
}

/* The two of a merge that began. A layer of k that is not there was merged by it if n is backed by
 * the one below k. */
static gboolean
pair_is_readable(const VrMerge *m, const char *disk)
{
    g_autofree char *lower = vr_merge_file(m, m->lower, disk, "qcow2");
    g_autofree char *upper = vr_merge_file(m, m->upper, disk, "qcow2");
    g_autofree char *lower_sums = vr_merge_file(m, m->lower, disk, "sums");
    g_autofree char *upper_sums = vr_merge_file(m, m->upper, disk, "sums");
    g_autofree char *below = vr_merge_below(m, disk);
    guint64 size = vr_replica_row_disk_size(m->upper, disk), data;

    if (!vr_sums_count(upper_sums, &data, NULL))
        return FALSE;
    if (vr_merge_is_done(m, disk))
        return vr_qcow2_check_header(upper, size, below, NULL);
    return vr_merge_check_headers(m, disk, lower, upper, NULL) &&
           vr_sums_count(lower_sums, &data, NULL);
}

/* Then its layer may have the size of the one above already. */
static gboolean
is_retiring(const VrMerge *m, guint index)
{
    return ((const VrRpRow *) m->rows->pdata[index])->state == VR_RP_RETIRING;
}

static gboolean
redo_is_readable(const VrMerge *m, const char *disk, GPtrArray *checks)
{
    guint index = m->index;
    gboolean ok =
        !vr_replica_is_unreadable(vr_replica_find_check(checks, m->upper->rp.number, disk)) &&
        pair_is_readable(m, disk);

    while (ok && vr_replica_row_below(m->replica, m->rows, &index, disk))
        ok =
            is_retiring(m, index) || vr_replica_check_layer(m->replica, m->rows, index, disk, NULL);
    return ok;
}

/* The newest RP has the disk in layers of its own, or not at all. */
static gboolean
head_does_without(const VrMerge *m, const char *disk)
{
    for (guint i = m->index + 2; i < m->rows->len; i++) {
        if (vr_replica_row_disk_floor(m->rows, i, disk) == 0)
            return TRUE;
    }
    return FALSE;
}

/* Until then the files stay as they are: what is lost may be put back. */
static gboolean
check_redo(VrMerge *m, const char *disk, GPtrArray *checks, gboolean *ret_may, GError **error)
{
    VrReplica *self = m->replica;
    guint64 number = m->upper->rp.number;

    if (redo_is_readable(m, disk, checks))
        return TRUE;
    *ret_may = head_does_without(m, disk);
    if (*ret_may) {
        if (!m->given_up)
            m->given_up = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        return g_hash_table_add(m->given_up, g_strdup(disk));
    }
    return vr_replica_is_unreadable(vr_replica_find_check(checks, number, disk)) ||
           (vr_replica_put_check(self, number, disk, VR_LAYER_UNREADABLE, error) &&
            vr_replica_take_note(self, error));
}

/* @with_digests: to their end, since they are merged when the data has been already. What cannot be
 * read is recorded, and @ret_may FALSE. */
static gboolean
check_layer(const VrMerge *m, guint index, const char *disk, GPtrArray *checks,
            gboolean with_digests, gboolean *ret_may, GError **error)
{
    VrReplica *self = m->replica;
    const VrRpRow *row = m->rows->pdata[index];
    g_autofree char *sums = vr_merge_file(m, row, disk, "sums");
    gboolean is_there = FALSE;
    guint64 data;

    *ret_may = FALSE;
    if (vr_replica_is_unreadable(vr_replica_find_check(checks, row->rp.number, disk)))
        return TRUE;
    is_there = vr_replica_check_layer(self, m->rows, index, disk, NULL);
    *ret_may = is_there && (!with_digests || vr_sums_count(sums, &data, NULL));
    return *ret_may ||
           (vr_replica_put_check(self, row->rp.number, disk,
                                 is_there ? VR_LAYER_UNREADABLE : VR_LAYER_AWAY, error) &&
            vr_replica_take_note(self, error));
}

/* The two, and what the lower one needs: QEMU opens the whole chain. */
static gboolean
check_disk(const VrMerge *m, const char *disk, GPtrArray *checks, gboolean *ret_may, GError **error)
{
    guint index = m->index;
    gboolean ok = check_layer(m, index + 1, disk, checks, TRUE, ret_may, error) &&
                  (!*ret_may || check_layer(m, index, disk, checks, TRUE, ret_may, error));

    while (ok && *ret_may && vr_replica_row_below(m->replica, m->rows, &index, disk))
        ok = is_retiring(m, index) || check_layer(m, index, disk, checks, FALSE, ret_may, error);
    return ok;
}

gboolean
vr_merge_may(VrMerge *m, GPtrArray *disks, gboolean *ret_may, GError **error)
{
    g_autoptr(GPtrArray) checks = vr_state_layer_checks(m->replica->state, m->replica->uuid, error);
    gboolean ok = checks != NULL;

    *ret_may = ok && !any_in_use(m, disks);
    for (guint i = 0; ok && *ret_may && i < disks->len; i++) {
        const char *disk = ((const VrCycleDisk *) disks->pdata[i])->name;

        if (vr_replica_row_disk_floor(m->rows, m->index + 1, disk) == 0)
            continue;
        ok = m->redo ? check_redo(m, disk, checks, ret_may, error)
                     : check_disk(m, disk, checks, ret_may, error);
    }
    return ok;
}
