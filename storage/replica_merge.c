/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "policies/error.h"
#include "policies/fault.h"
#include "storage/file_util.h"
#include "storage/json_util.h"
#include "storage/replica_private.h"
#include "storage/run_program.h"

/*
 * Dropping RP k whose next RP is n: the row of k is RETIRING from M1 on, which makes every later
 * step one that can be repeated. M2: `qemu-img commit` writes layer n into layer k; n reads right
 * all the time, because what it had it keeps. M3: k is renamed to n, so that n's child keeps its
 * backing name; from then on k is gone and the disk is done. M4: directory and row of k go.
 */

#define MAX_LAYERS 128

typedef struct {
    VrReplica *replica;
    GPtrArray *rows;      /* borrowed, like the next three */
    guint index;          /* of lower */
    const VrRpRow *lower; /* k */
    const VrRpRow *upper; /* n */
    const VrRpRow *below; /* the one before k, nullable */
    gboolean redo;
    guint64 data_chunks; /* of n after the merge, all disks */
} Merge;

static char *
file_of(const Merge *m, const VrRpRow *row, const char *disk, const char *suffix)
{
    return vr_replica_path(m->replica, "%s/%" G_GUINT64_FORMAT ".%s", disk, row->rp.number, suffix);
}

/* QEMU marks an image that is open by locks on bytes 100 to 299. */
static gboolean
in_use(const char *path)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 200};
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    gboolean used;

    if (fd < 0)
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return FALSE;
    used = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    close(fd);
    return used;
}

static gboolean
any_in_use(const Merge *m, GPtrArray *disks)
{
    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        g_autofree char *lower = file_of(m, m->lower, disk->name, "qcow2");
        g_autofree char *upper = file_of(m, m->upper, disk->name, "qcow2");
        if (in_use(lower) || in_use(upper))
            return TRUE;
    }
    return FALSE;
}

/* Name of the layer that the lower one is backed by, or NULL. */
static char *
below_name(const Merge *m, const char *disk)
{
    if (vr_replica_row_disk_floor(m->rows, m->index, disk) == 0)
        return NULL;
    return g_strdup_printf("%" G_GUINT64_FORMAT ".qcow2", m->below->rp.number);
}

/* A first attempt may have given the lower layer its new size already. */
static gboolean
check_headers(const Merge *m, const char *disk, const char *lower, const char *upper,
              GError **error)
{
    guint64 size_lower = vr_replica_row_disk_size(m->lower, disk);
    guint64 size_upper = vr_replica_row_disk_size(m->upper, disk);
    g_autofree char *below = below_name(m, disk);
    g_autofree char *name = g_path_get_basename(lower);

    if (!vr_qcow2_check_header(upper, size_upper, name, error))
        return FALSE;
    if (m->redo && vr_qcow2_check_header(lower, size_upper, below, NULL))
        return TRUE;
    return vr_qcow2_check_header(lower, size_lower, below, error);
}

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
shrink(const Merge *m, const char *disk, const char *lower, guint64 size, GCancellable *cancel,
       GError **error)
{
    guint64 cluster_end = vr_chunk_count(size) * VR_CHUNK_SIZE;
    guint64 tail = MIN(cluster_end, vr_replica_row_disk_size(m->lower, disk)) - size;
    g_autofree char *below = below_name(m, disk);
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
commit_down(const Merge *m, const char *disk, const char *lower, const char *upper,
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
merge_bad(const Merge *m, const char *disk, guint64 end, GError **error)
{
    g_autofree char *lower = file_of(m, m->lower, disk, "bad");
    g_autofree char *upper = file_of(m, m->upper, disk, "bad");
    g_autofree char *sums = file_of(m, m->upper, disk, "sums");
    g_autofree char *merged = file_of(m, m->upper, disk, "bad.tmp");

    if (unlink(merged) < 0 && errno != ENOENT) {
        vr_set_error_errno(error, errno, "cannot remove '%s'", merged);
        return FALSE;
    }
    return vr_bad_merge(lower, upper, sums, end, merged, error);
}

/* M2 for one disk of both RPs. */
static gboolean
move_data(Merge *m, const char *disk, GCancellable *cancel, GError **error)
{
    g_autofree char *lower = file_of(m, m->lower, disk, "qcow2");
    g_autofree char *upper = file_of(m, m->upper, disk, "qcow2");
    g_autofree char *lower_sums = file_of(m, m->lower, disk, "sums");
    g_autofree char *upper_sums = file_of(m, m->upper, disk, "sums");
    g_autofree char *merged_sums = file_of(m, m->upper, disk, "sums.tmp");
    guint64 chunks = vr_chunk_count(vr_replica_row_disk_floor(m->rows, m->index + 1, disk));
    VrSumsRecord edge;

    if (!check_headers(m, disk, lower, upper, error))
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
take_bad(Merge *m, const char *disk)
{
    g_autofree char *upper = file_of(m, m->upper, disk, "bad");
    g_autofree char *merged = file_of(m, m->upper, disk, "bad.tmp");

    return rename(merged, upper) == 0 ||
           (errno == ENOENT && (unlink(upper) == 0 || errno == ENOENT));
}

/* M3 for one disk: first what is known to be bad, then digests, so that the layer's rename is what
 * ends the disk's merge and a repetition comes to the same. */
static gboolean
repoint(Merge *m, const char *disk, GError **error)
{
    g_autofree char *dir = vr_replica_path(m->replica, "%s", disk);
    g_autofree char *lower = file_of(m, m->lower, disk, "qcow2");
    g_autofree char *upper = file_of(m, m->upper, disk, "qcow2");
    g_autofree char *upper_sums = file_of(m, m->upper, disk, "sums");
    g_autofree char *merged_sums = file_of(m, m->upper, disk, "sums.tmp");

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

/* Also where n has nothing of k's: no such disk, or one that was away in between. */
static gboolean
is_done(const Merge *m, const char *disk)
{
    g_autofree char *lower = file_of(m, m->lower, disk, "qcow2");

    return vr_replica_row_disk_floor(m->rows, m->index + 1, disk) == 0 ||
           !g_file_test(lower, G_FILE_TEST_EXISTS);
}

/* A layer that is not there is merged only if this merge did it: n is backed by the one below k.
 * Else it is lost, for now perhaps, and everything above would be with it. */
static gboolean
check_present(const Merge *m, GPtrArray *disks, GError **error)
{
    for (guint i = 0; i < disks->len; i++) {
        const char *disk = ((const VrCycleDisk *) disks->pdata[i])->name;
        g_autofree char *lower = file_of(m, m->lower, disk, "qcow2");
        g_autofree char *upper = file_of(m, m->upper, disk, "qcow2");
        g_autofree char *below = below_name(m, disk);
        guint64 size = vr_replica_row_disk_size(m->upper, disk);

        if (is_done(m, disk) && vr_replica_row_disk_floor(m->rows, m->index + 1, disk) > 0 &&
            !(m->redo && vr_qcow2_check_header(upper, size, below, NULL))) {
            vr_set_error(error, VR_ERROR_CORRUPT, "replica-damaged",
                         "Put the file back, or start replication anew.",
                         "layer '%s' of a recovery point is not there", lower);
            return FALSE;
        }
    }
    return TRUE;
}

/* Files of k that are left: digests, and layers that n is not backed by. */
static gboolean
remove_lower(Merge *m, GPtrArray *disks, GError **error)
{
    g_autofree char *point =
        vr_replica_path(m->replica, "rp/%" G_GUINT64_FORMAT, m->lower->rp.number);

    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        g_autofree char *layer = file_of(m, m->lower, disk->name, "qcow2");
        g_autofree char *sums = file_of(m, m->lower, disk->name, "sums");
        g_autofree char *bad = file_of(m, m->lower, disk->name, "bad");
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
count_data(Merge *m, GError **error)
{
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(m->upper, error);

    for (guint i = 0; disks && i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        g_autofree char *sums = file_of(m, m->upper, disk->name, "sums");
        guint64 data;

        if (!vr_sums_count(sums, &data, error))
            return FALSE;
        m->data_chunks += data;
    }
    return disks != NULL;
}

/* Disks of n, now that the row before it is the one before k. (transfer full) */
static char *
merged_disks(const Merge *m, GError **error)
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
record_checks(const Merge *m, GError **error)
{
    VrReplica *self = m->replica;
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(m->upper, error);
    g_autoptr(GPtrArray) checks =
        disks ? vr_state_layer_checks(self->state, self->uuid, error) : NULL;

    for (guint i = 0; checks && i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        g_autofree char *bad = file_of(m, m->upper, disk->name, "bad");
        VrLayerCheck check = {
            .number = m->upper->rp.number,
            .disk = disk->name,
            .state = g_file_test(bad, G_FILE_TEST_EXISTS) ? VR_LAYER_BAD : VR_LAYER_MERGED,
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
record(const Merge *m, GError **error)
{
    VrReplica *self = m->replica;
    g_autofree char *disks = merged_disks(m, error);

    if (!disks || !vr_state_begin(self->state, error))
        return FALSE;
    if (!vr_state_rp_set_stored(self->state, self->uuid, m->upper->rp.number,
                                m->data_chunks * VR_CHUNK_SIZE, disks, error) ||
        !record_checks(m, error) ||
        !vr_state_rp_delete(self->state, self->uuid, m->lower->rp.number, error)) {
        vr_state_rollback(self->state);
        return FALSE;
    }
    return vr_state_commit(self->state, error);
}

static gboolean
finish(Merge *m, GPtrArray *disks, GError **error)
{
    VrReplica *self = m->replica;
    gboolean ok;

    g_mutex_lock(&self->lock);
    ok = remove_lower(m, disks, error) && count_data(m, error) && record(m, error) &&
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
run_merge(Merge *m, GPtrArray *disks, GCancellable *cancel, GError **error)
{
    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        if (!is_done(m, disk->name) && !move_data(m, disk->name, cancel, error))
            return FALSE;
    }
    if (!vr_fault_point(VR_STEP_M2, error))
        return FALSE;
    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        if (!is_done(m, disk->name) && !repoint(m, disk->name, error))
            return FALSE;
    }
    return vr_fault_point(VR_STEP_M3, error) && finish(m, disks, error) &&
           vr_fault_point(VR_STEP_M4, error);
}

/* M1. @ret_skip: the two are part of a chain that is held. Repeated when a merge is redone: it may
 * be held since, or the index may not have been written. */
static gboolean
retire(Merge *m, gboolean *ret_skip, GError **error)
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

/* The merge of the row at @index, which is LISTED or, when a merge is redone, RETIRING. Inside
 * layers. */
static gboolean
merge_row(VrReplica *self, GPtrArray *rows, guint index, GCancellable *cancel, GError **error)
{
    Merge m = {
        .replica = self,
        .rows = rows,
        .index = index,
        .lower = rows->pdata[index],
        .upper = rows->pdata[index + 1],
        .below = index > 0 ? rows->pdata[index - 1] : NULL,
    };
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(m.lower, error);
    gboolean skip = FALSE, ok;

    m.redo = m.lower->state == VR_RP_RETIRING;
    if (!disks)
        return FALSE;
    if (vr_layer_gate_is_read(&self->layers, m.lower->rp.number) ||
        vr_layer_gate_is_read(&self->layers, m.upper->rp.number)) {
        g_atomic_int_set(&self->left_out, 1);
        return TRUE;
    }
    if (any_in_use(&m, disks))
        return TRUE;
    if (!check_present(&m, disks, error))
        return FALSE;
    g_mutex_lock(&self->lock);
    ok = retire(&m, &skip, error);
    g_mutex_unlock(&self->lock);
    if (!ok || skip)
        return ok;
    return (m.redo || vr_fault_point(VR_STEP_M1, error)) && run_merge(&m, disks, cancel, error);
}

gboolean
vr_replica_redo_merges(VrReplica *self, GCancellable *cancel, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);

    /* Never two at once: each is finished before the next is begun. */
    for (guint i = 0; rows && i + 1 < rows->len; i++) {
        const VrRpRow *row = rows->pdata[i];
        if (row->state == VR_RP_RETIRING)
            return merge_row(self, rows, i, cancel, error);
    }
    return rows != NULL;
}

/* One RP, if it is still listed and no other merge waits for its layers to be free. */
static gboolean
drop_point(VrReplica *self, guint64 number, GCancellable *cancel, GError **error)
{
    g_autoptr(GPtrArray) rows = NULL;
    int found = -1;

    if (g_cancellable_is_cancelled(cancel))
        return TRUE;
    if (!vr_replica_redo_merges(self, cancel, error))
        return FALSE;
    rows = vr_state_rp_list(self->state, self->uuid, error);
    if (!rows)
        return FALSE;
    for (guint i = 0; i + 1 < rows->len; i++) {
        const VrRpRow *row = rows->pdata[i];
        if (row->state == VR_RP_RETIRING)
            return TRUE;
        if (row->rp.number == number)
            found = (int) i;
    }
    return found < 0 || merge_row(self, rows, (guint) found, cancel, error);
}

static gint64
boot_clock_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (gint64) ts.tv_sec * G_USEC_PER_SEC + ts.tv_nsec / 1000;
}

static gboolean
select_points(VrReplica *self, const VrPolicy *policy, gint64 now_us, VrRetentionResult *ret_result,
              GError **error)
{
    g_autoptr(GPtrArray) points = vr_replica_list(self, error);
    g_autofree VrRetentionPoint *given = points ? g_new0(VrRetentionPoint, points->len + 1) : NULL;
    VrRetentionClock clock = {
        .have_last = self->clock_known,
        .last_wall_us = self->pass_wall_us,
        .last_boot_us = self->pass_boot_us,
        .now_wall_us = now_us,
        .now_boot_us = boot_clock_us(),
    };

    if (!points)
        return FALSE;
    for (guint i = 0; i < points->len; i++) {
        const VrRecoveryPoint *rp = points->pdata[i];
        given[i] = (VrRetentionPoint){
            .number = rp->number, .time_us = rp->stored_us, .pinned = rp->pinned};
    }
    vr_retention_select(given, points->len, &policy->keep, &clock, MAX_LAYERS, ret_result);
    self->clock_known = TRUE;
    self->pass_wall_us = clock.now_wall_us;
    self->pass_boot_us = clock.now_boot_us;
    return TRUE;
}

/* A merge that may have to give way to a user of the layers. */
typedef struct {
    GCancellable *cancel; /* owned */
    GCancellable *outer;  /* borrowed, nullable */
    gulong along;
} Turn;

static void
cancel_along(GCancellable *outer G_GNUC_UNUSED, gpointer inner)
{
    g_cancellable_cancel(inner);
}

static void
turn_begin(VrReplica *self, Turn *turn, GCancellable *outer)
{
    turn->outer = outer;
    turn->cancel = g_cancellable_new();
    turn->along =
        outer ? g_cancellable_connect(outer, G_CALLBACK(cancel_along), turn->cancel, NULL) : 0;
    vr_layer_gate_enter_merge(&self->layers, turn->cancel);
}

/* That it gave way is no error: it is done again at the next occasion. */
static gboolean
turn_end(VrReplica *self, Turn *turn, gboolean ok, GError *local, GError **error)
{
    gboolean gave_way =
        g_cancellable_is_cancelled(turn->cancel) && !g_cancellable_is_cancelled(turn->outer);

    vr_layer_gate_leave(&self->layers);
    if (turn->along)
        g_cancellable_disconnect(turn->outer, turn->along);
    g_object_unref(turn->cancel);
    if (ok)
        return TRUE;
    if (gave_way && g_error_matches(local, VR_ERROR, VR_ERROR_CANCELLED)) {
        g_atomic_int_set(&self->left_out, 1);
        g_error_free(local);
        return TRUE;
    }
    g_propagate_error(error, local);
    return FALSE;
}

gboolean
vr_replica_merges_left_out(VrReplica *self)
{
    return g_atomic_int_compare_and_exchange(&self->left_out, 1, 0);
}

gboolean
vr_replica_finish_merges(VrReplica *self, GCancellable *cancel, GError **error)
{
    GError *local = NULL;
    Turn turn;
    gboolean ok;

    turn_begin(self, &turn, cancel);
    ok = vr_replica_redo_merges(self, turn.cancel, &local);
    return turn_end(self, &turn, ok, local, error);
}

static gboolean
retain_select(VrReplica *self, const VrPolicy *policy, gint64 now_us, GCancellable *cancel,
              VrRetentionResult *result, GError **error)
{
    GError *local = NULL;
    Turn turn;
    gboolean ok;

    turn_begin(self, &turn, cancel);
    ok = vr_replica_redo_merges(self, turn.cancel, &local) &&
         select_points(self, policy, now_us, result, &local);
    return turn_end(self, &turn, ok, local, error);
}

static gboolean
retain_drop(VrReplica *self, guint64 number, GCancellable *cancel, GError **error)
{
    GError *local = NULL;
    Turn turn;
    gboolean ok;

    turn_begin(self, &turn, cancel);
    ok = drop_point(self, number, turn.cancel, &local);
    return turn_end(self, &turn, ok, local, error);
}

gboolean
vr_replica_retain(VrReplica *self, const VrPolicy *policy, gint64 now_us, GCancellable *cancel,
                  GError **error)
{
    g_auto(VrRetentionResult) result = {0};
    gboolean ok = retain_select(self, policy, now_us, cancel, &result, error);

    for (guint i = 0; ok && result.drop && i < result.drop->len; i++) {
        if (g_cancellable_is_cancelled(cancel)) {
            vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "retention of %s was ended",
                         self->uuid);
            return FALSE;
        }
        ok = retain_drop(self, g_array_index(result.drop, guint64, i), cancel, error);
    }
    return ok && vr_fault_point(VR_STEP_T8, error);
}
