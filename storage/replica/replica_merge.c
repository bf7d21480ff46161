/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "policies/fault.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"
#include "storage/replica/replica_merge.h"
#include "storage/util/run_program.h"

/*
 * Dropping RP k whose next RP is n: the row of k is RETIRING from M1 on, which makes every later
 * step one that can be repeated. M2: `qemu-img commit` writes layer n into layer k; n reads right
 * all the time, because what it had it keeps. M3: k is renamed to n, so that n's child keeps its
 * backing name; from then on k is gone and the disk is done. M4: directory and row of k go.
 */

static gboolean
sync_path(const char *path, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    gboolean ok = fd >= 0 && fsync(fd) == 0;

    if (!ok)
        vr_set_error_errno(error, errno, "cannot sync '%s'", path);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* The disk ends at @size now, within a cluster of @lower: what was behind must not come back when
 * it grows again. Before the header says @size, so that a redone merge knows that it was done. */
static gboolean
shrink(const VrMerge *m, const char *disk, const char *lower, guint64 size, GCancellable *cancel,
       GError **error)
{
    guint64 cluster_end = vr_chunk_count(size) * VR_CHUNK_SIZE;
    guint64 tail = MIN(cluster_end, vr_replica_row_disk_size(m->lower, disk)) - size;
    g_autofree char *below = vr_merge_below(m, disk);
    g_autofree char *size_text = g_strdup_printf("%" G_GUINT64_FORMAT, size);
    g_autofree char *command =
        g_strdup_printf("write -q -z %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, size, tail);
    const char *wipe[] = {"qemu-io", "-f", "qcow2", "-c", command, lower, NULL};
    const char *resize[] = {"qemu-img", "resize", "-q",      "-f", "qcow2",
                            "--shrink", lower,    size_text, NULL};

    if (m->redo && vr_qcow2_check_header(lower, size, below, NULL))
        return TRUE;
    return (tail == 0 || vr_run_program(wipe, cancel, NULL, error)) &&
           vr_run_program(resize, cancel, NULL, error);
}

static gboolean
commit_down(const VrMerge *m, const char *disk, const char *lower, const char *upper,
            GCancellable *cancel, GError **error)
{
    guint64 size = vr_replica_row_disk_size(m->upper, disk);
    const char *check[] = {"qemu-img", "check", "-q", "-f", "qcow2", "-r", "leaks", lower, NULL};
    const char *commit[] = {"qemu-img", "commit", "-q", "-f", "qcow2", "-d", upper, NULL};

    if (chmod(lower, 0600) < 0 || chmod(upper, 0600) < 0) {
        vr_set_error_errno(error, errno, "cannot open up '%s'", lower);
        return FALSE;
    }
    if ((m->redo && !vr_run_program(check, cancel, NULL, error)) ||
        !vr_run_program(commit, cancel, NULL, error))
        return FALSE;
    if (vr_replica_row_disk_size(m->lower, disk) > size &&
        !shrink(m, disk, lower, size, cancel, error))
        return FALSE;
    return sync_path(lower, error);
}

/* Bad chunks of the merged layer: the upper one's, and the lower one's that it does not have. No
 * file if there are none. */
static gboolean
merge_bad(const VrMerge *m, const char *disk, guint64 end, GError **error)
{
    g_autofree char *lower = vr_merge_file(m, m->lower, disk, "bad");
    g_autofree char *upper = vr_merge_file(m, m->upper, disk, "bad");
    g_autofree char *sums = vr_merge_file(m, m->upper, disk, "sums");
    g_autofree char *merged = vr_merge_file(m, m->upper, disk, "bad.tmp");

    if (unlink(merged) < 0 && errno != ENOENT) {
        vr_set_error_errno(error, errno, "cannot remove '%s'", merged);
        return FALSE;
    }
    return vr_bad_merge(lower, upper, sums, end, merged, error);
}

/* M2 for one disk of both RPs. */
static gboolean
move_data(VrMerge *m, const char *disk, GCancellable *cancel, GError **error)
{
    g_autofree char *lower = vr_merge_file(m, m->lower, disk, "qcow2");
    g_autofree char *upper = vr_merge_file(m, m->upper, disk, "qcow2");
    g_autofree char *lower_sums = vr_merge_file(m, m->lower, disk, "sums");
    g_autofree char *upper_sums = vr_merge_file(m, m->upper, disk, "sums");
    g_autofree char *merged_sums = vr_merge_file(m, m->upper, disk, "sums.tmp");
    guint64 chunks = vr_chunk_count(vr_replica_row_disk_floor(m->rows, m->index + 1, disk));
    VrSumsRecord edge;

    if (!vr_merge_check_headers(m, disk, lower, upper, error))
        return FALSE;
    if (!commit_down(m, disk, lower, upper, cancel, error)) {
        (void) chmod(lower, 0400);
        (void) chmod(upper, 0400);
        return FALSE;
    }
    return vr_merge_edge(m->replica, m->rows, m->index, disk, lower, &edge, error) &&
           vr_sums_merge(lower_sums, upper_sums, merged_sums, chunks, &edge, error) &&
           merge_bad(m, disk, chunks, error);
}

static gboolean
take_bad(VrMerge *m, const char *disk)
{
    g_autofree char *upper = vr_merge_file(m, m->upper, disk, "bad");
    g_autofree char *merged = vr_merge_file(m, m->upper, disk, "bad.tmp");

    return rename(merged, upper) == 0 ||
           (errno == ENOENT && (unlink(upper) == 0 || errno == ENOENT));
}

/* M3 for one disk: first what is known to be bad, then digests, so that the layer's rename is what
 * ends the disk's merge and a repetition comes to the same. */
static gboolean
repoint(VrMerge *m, const char *disk, GError **error)
{
    g_autofree char *dir = vr_replica_path(m->replica, "%s", disk);
    g_autofree char *lower = vr_merge_file(m, m->lower, disk, "qcow2");
    g_autofree char *upper = vr_merge_file(m, m->upper, disk, "qcow2");
    g_autofree char *upper_sums = vr_merge_file(m, m->upper, disk, "sums");
    g_autofree char *merged_sums = vr_merge_file(m, m->upper, disk, "sums.tmp");

    if (!take_bad(m, disk) || rename(merged_sums, upper_sums) < 0 || chmod(lower, 0400) < 0 ||
        rename(lower, upper) < 0) {
        vr_set_error_errno(error, errno, "cannot replace '%s'", upper);
        return FALSE;
    }
    return vr_fsync_dir(dir, error);
}

static gboolean
unlink_missing_ok(const char *path, GError **error)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot remove '%s'", path);
    return FALSE;
}

/* Files of k that are left: digests, and layers that n is not backed by. */
static gboolean
remove_lower(VrMerge *m, GPtrArray *disks, GError **error)
{
    g_autofree char *point =
        vr_replica_path(m->replica, "rp/%" G_GUINT64_FORMAT, m->lower->rp.number);

    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        g_autofree char *layer = vr_merge_file(m, m->lower, disk->name, "qcow2");
        g_autofree char *sums = vr_merge_file(m, m->lower, disk->name, "sums");
        g_autofree char *bad = vr_merge_file(m, m->lower, disk->name, "bad");
        g_autofree char *dir = vr_replica_path(m->replica, "%s", disk->name);

        if (!unlink_missing_ok(layer, error) || !unlink_missing_ok(sums, error) ||
            !unlink_missing_ok(bad, error))
            return FALSE;
        if (vr_replica_row_disk_size(m->upper, disk->name) == 0)
            (void) rmdir(dir); /* succeeds if no other RP has the disk */
    }
    return vr_remove_tree(point, error);
}

static gboolean
count_bytes(VrMerge *m, GError **error)
{
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(m->upper, error);

    for (guint i = 0; disks && i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];

        m->bytes += vr_replica_allocated(m->replica, m->upper->rp.number, disk->name);
    }
    return disks != NULL;
}

/* Disks of n, now that the row before it is the one before k. (transfer full) */
static char *
merged_disks(const VrMerge *m, GError **error)
{
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(m->upper, error);
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_ARRAY);
    JsonArray *array = json_array_new();

    json_node_take_array(node, array);
    for (guint i = 0; disks && i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        guint64 floor = MIN(vr_replica_row_disk_floor(m->rows, m->index, disk->name),
                            vr_replica_row_disk_floor(m->rows, m->index + 1, disk->name));
        guint64 before = m->below ? vr_replica_row_disk_size(m->below, disk->name) : 0;
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "name", disk->name);
        json_object_set_int_member(object, "size", (gint64) disk->size_bytes);
        if (floor < MIN(before, disk->size_bytes))
            json_object_set_int_member(object, "floor", (gint64) floor);
        json_array_add_object_element(array, object);
    }
    return disks ? vr_json_to_text(node) : NULL;
}

/* Since when the layer of @row is proven by nothing but its commit or reading. */
static gint64
proven_us(GPtrArray *checks, const VrRpRow *row, const char *disk)
{
    const VrLayerCheck *check = vr_replica_find_check(checks, row->rp.number, disk);

    return check ? check->checked_us : row->rp.stored_us;
}

/* What was rewritten is not known to be good any more, and what was bad stays bad. */
static gboolean
record_checks(const VrMerge *m, GError **error)
{
    VrReplica *self = m->replica;
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(m->upper, error);
    g_autoptr(GPtrArray) checks =
        disks ? vr_state_layer_checks(self->state, self->uuid, error) : NULL;

    for (guint i = 0; checks && i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        g_autofree char *bad = vr_merge_file(m, m->upper, disk->name, "bad");
        VrLayerCheck check = {
            .number = m->upper->rp.number,
            .disk = disk->name,
            .state = vr_merge_is_given_up(m, disk->name)    ? VR_LAYER_UNREADABLE
                     : g_file_test(bad, G_FILE_TEST_EXISTS) ? VR_LAYER_BAD
                                                            : VR_LAYER_MERGED,
            .checked_us = MIN(proven_us(checks, m->lower, disk->name),
                              proven_us(checks, m->upper, disk->name)),
        };

        if (vr_replica_row_disk_floor(m->rows, m->index + 1, disk->name) > 0 &&
            !vr_state_layer_check_put(self->state, self->uuid, &check, error))
            return FALSE;
    }
    return checks != NULL;
}

static gboolean
record(const VrMerge *m, GError **error)
{
    VrReplica *self = m->replica;
    g_autofree char *disks = merged_disks(m, error);

    if (!disks || !vr_state_begin(self->state, error))
        return FALSE;
    if (!vr_state_rp_set_stored(self->state, self->uuid, m->upper->rp.number, m->bytes, disks,
                                error) ||
        !record_checks(m, error) ||
        !vr_state_rp_delete(self->state, self->uuid, m->lower->rp.number, error)) {
        vr_state_rollback(self->state);
        return FALSE;
    }
    return vr_state_commit(self->state, error);
}

static gboolean
finish(VrMerge *m, GPtrArray *disks, GError **error)
{
    VrReplica *self = m->replica;
    gboolean ok;

    g_mutex_lock(&self->lock);
    ok = remove_lower(m, disks, error) && count_bytes(m, error) && record(m, error) &&
         vr_replica_write_index(self, error);
    vr_replica_forget_damage(self);
    g_rw_lock_writer_lock(&self->io);
    if (ok && !self->open)
        vr_replica_sweep_attachments(self);
    g_rw_lock_writer_unlock(&self->io);
    g_mutex_unlock(&self->lock);
    return ok;
}

/* M2 to M4. The row of m->lower is RETIRING. */
static gboolean
run_merge(VrMerge *m, GPtrArray *disks, GCancellable *cancel, GError **error)
{
    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        if (!vr_merge_is_done(m, disk->name) && !move_data(m, disk->name, cancel, error))
            return FALSE;
    }
    if (!vr_fault_point(VR_STEP_M2, error))
        return FALSE;
    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        if (!vr_merge_is_done(m, disk->name) && !repoint(m, disk->name, error))
            return FALSE;
    }
    return vr_fault_point(VR_STEP_M3, error) && finish(m, disks, error) &&
           vr_fault_point(VR_STEP_M4, error);
}

/* M1. @ret_skip: the two are part of a chain that is held. Repeated when a merge is redone: it may
 * be held since, or the index may not have been written. */
static gboolean
retire(VrMerge *m, gboolean *ret_skip, GError **error)
{
    VrReplica *self = m->replica;

    if (!vr_state_hold_above(self->state, self->uuid, m->lower->rp.number, ret_skip, error))
        return FALSE;
    if (*ret_skip)
        return TRUE;
    return (m->redo || vr_state_rp_set_state(self->state, self->uuid, m->lower->rp.number,
                                             VR_RP_RETIRING, error)) &&
           vr_replica_write_index(self, error);
}

static gboolean
merge(VrMerge *m, GPtrArray *disks, GCancellable *cancel, GError **error)
{
    VrReplica *self = m->replica;
    gboolean may = FALSE, skip = FALSE, ok;

    if (vr_layer_gate_is_read(&self->layers, m->lower->rp.number) ||
        vr_layer_gate_is_read(&self->layers, m->upper->rp.number)) {
        g_atomic_int_set(&self->left_out, 1);
        return TRUE;
    }
    if (!vr_merge_may(m, disks, &may, error))
        return FALSE;
    if (!may)
        return TRUE;
    g_mutex_lock(&self->lock);
    ok = retire(m, &skip, error);
    g_mutex_unlock(&self->lock);
    if (!ok || skip)
        return ok;
    return (m->redo || vr_fault_point(VR_STEP_M1, error)) && run_merge(m, disks, cancel, error);
}

gboolean
vr_merge_row(VrReplica *self, GPtrArray *rows, guint index, GCancellable *cancel, GError **error)
{
    VrMerge m = {
        .replica = self,
        .rows = rows,
        .index = index,
        .lower = rows->pdata[index],
        .upper = rows->pdata[index + 1],
        .below = index > 0 ? rows->pdata[index - 1] : NULL,
    };
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(m.lower, error);
    gboolean ok;

    m.redo = m.lower->state == VR_RP_RETIRING;
    ok = disks && merge(&m, disks, cancel, error);
    g_clear_pointer(&m.given_up, g_hash_table_unref);
    return ok;
}
