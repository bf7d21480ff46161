/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/error.h"
#include "policies/fault.h"
#include "policies/ids.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"
#include "storage/replica/replica_private.h"
#include "storage/replica/store_room.h"

#define ROOM_STEP ((guint64) 16 * 1024 * 1024)

/* BEGIN, COMMIT and abort: the life of the open cycle. Frames are in replica_write.c. */

static gboolean
same_disks(const VrCycleBegin *a, const VrCycleBegin *b)
{
    if (a->disks->len != b->disks->len)
        return FALSE;
    for (guint i = 0; i < a->disks->len; i++) {
        const VrCycleDisk *x = a->disks->pdata[i], *y = b->disks->pdata[i];
        if (strcmp(x->name, y->name) != 0 || x->size_bytes != y->size_bytes)
            return FALSE;
    }
    return TRUE;
}

static gboolean
check_begin(const VrCycleBegin *begin, GError **error)
{
    g_autoptr(JsonNode) node = vr_cycle_begin_to_json(begin);
    g_autoptr(VrCycleBegin) parsed = vr_cycle_begin_from_json(node, error);

    if (!parsed)
        return FALSE;
    for (guint i = 0; i < begin->disks->len; i++) {
        const VrCycleDisk *disk = begin->disks->pdata[i];

        if (vr_replica_disk_name_ok(disk->name) && disk->size_bytes > 0)
            continue;
        vr_set_error(error, VR_ERROR_INVALID, "bad-disk", NULL,
                     "disk '%s' of cycle %s cannot be stored", disk->name, begin->cycle);
        return FALSE;
    }
    return TRUE;
}

static gboolean
check_base(VrReplica *self, const VrCycleBegin *begin, const VrRpRow *head, GError **error)
{
    guint64 number = head ? head->rp.number : 0;

    if (begin->base_number == number &&
        (number == 0 || g_strcmp0(begin->base_cycle, head->rp.cycle) == 0))
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "base-mismatch",
                 "Ask for the head and run a resync on it.",
                 "replica of %s is at recovery point %" G_GUINT64_FORMAT
                 " (cycle %s), not at %" G_GUINT64_FORMAT " (cycle %s)",
                 self->uuid, number, head ? head->rp.cycle : "none", begin->base_number,
                 begin->base_cycle ? begin->base_cycle : "none");
    return FALSE;
}

void
vr_replica_set_open(VrReplica *self, VrIncoming *open)
{
    g_clear_pointer(&self->open, vr_incoming_free);
    g_clear_pointer(&self->rested, g_free);
    self->open = open;
    g_atomic_int_set(&self->open_disks, open ? (gint) open->disks->len : 0);
}

static void
close_open(VrReplica *self)
{
    vr_replica_set_open(self, NULL);
}

guint
vr_replica_open_disks(VrReplica *self)
{
    return (guint) g_atomic_int_get(&self->open_disks);
}

void
vr_replica_rest(VrReplica *self)
{
    g_autofree char *proven = NULL;

    g_mutex_lock(&self->lock);
    g_rw_lock_writer_lock(&self->io);
    if (self->open && vr_incoming_is_proven(self->open))
        proven = g_strdup(self->open->begin->cycle);
    close_open(self);
    self->rested = g_steal_pointer(&proven);
    g_rw_lock_writer_unlock(&self->io);
    g_mutex_unlock(&self->lock);
}

void
vr_replica_interrupt(VrReplica *self)
{
    g_atomic_int_set(&self->interrupted, TRUE);
}

gboolean
vr_replica_drop_incoming(VrReplica *self, GError **error)
{
    g_autofree char *dir = vr_replica_path(self, "incoming");

    close_open(self);
    if (!vr_remove_tree(dir, error) || !vr_make_dir(dir, 0700, error))
        return FALSE;
    vr_replica_sweep_attachments(self);
    return TRUE;
}

static void
give_back(VrReplica *self, const GError *why)
{
    g_autoptr(GError) local = NULL;
    VrStoreRoom room;

    g_free(self->given_back);
    self->given_back = g_strdup(self->open->begin->cycle);
    g_clear_error(&self->no_room);
    self->no_room = g_error_copy(why);
    if (!vr_replica_drop_incoming(self, &local))
        g_warning("replica of %s: what a cycle wrote that does not fit cannot be removed: %s",
                  self->uuid, local->message);
    if (strcmp(vr_error_slug(why), "quota-exceeded") != 0 && vr_store_room(self->dir, &room, NULL))
        self->room_needed = room.free_bytes + ROOM_STEP;
}

void
vr_replica_give_back(VrReplica *self, const char *cycle, const GError *why)
{
    g_mutex_lock(&self->lock);
    g_rw_lock_writer_lock(&self->io);
    if (self->open && strcmp(self->open->begin->cycle, cycle) == 0)
        give_back(self, why);
    g_rw_lock_writer_unlock(&self->io);
    g_mutex_unlock(&self->lock);
}

/* What did not fit once is not sent again before there is more room than it had. */
static gboolean
check_room(VrReplica *self, GError **error)
{
    if (!vr_replica_has_room(self, self->room_needed, error))
        return FALSE;
    self->room_needed = 0;
    return TRUE;
}

/* The cycle that a restart left, if it can go on. */
static void
load_left(VrReplica *self, const VrRpRow *head)
{
    g_autofree char *path = vr_replica_path(self, "incoming");
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (!self->open && dir && (name = g_dir_read_name(dir))) {
        if (vr_cycle_id_valid(name))
            vr_replica_set_open(self, vr_incoming_load(self, name, head));
    }
}

static gboolean
begin_locked(VrReplica *self, const VrCycleBegin *begin, guint64 *ret_held, GError **error)
{
    g_autoptr(VrRpRow) committed = NULL;
    g_autoptr(GPtrArray) rows = NULL;
    g_autoptr(GError) local = NULL;
    const VrRpRow *head;

    if (!vr_replica_finish_head(self, error))
        return FALSE;
    committed = vr_state_rp_by_cycle(self->state, self->uuid, begin->cycle, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (committed) {
        vr_set_error(error, VR_ERROR_REFUSED, "cycle-committed", "Ask for its state.",
                     "cycle %s is recovery point %" G_GUINT64_FORMAT " already", begin->cycle,
                     committed->rp.number);
        return FALSE;
    }
    rows = vr_state_rp_list(self->state, self->uuid, error);
    if (!rows)
        return FALSE;
    head = vr_replica_last_row(rows);
    if (!check_base(self, begin, head, error) || !vr_replica_check_layers(self, rows, error))
        return FALSE;
    if (!self->open) {
        if (!vr_replica_unpublish(self, error))
            return FALSE;
        load_left(self, head);
    }
    if (self->open && same_disks(self->open->begin, begin)) {
        if (!vr_incoming_prove(self, self->open, error) ||
            (strcmp(self->open->begin->cycle, begin->cycle) != 0 &&
             !vr_incoming_adopt(self, self->open, begin, error))) {
            close_open(self);
            return FALSE;
        }
        *ret_held = vr_incoming_held(self->open);
        return TRUE;
    }
    if (!vr_replica_drop_incoming(self, error) || !check_room(self, error))
        return FALSE;
    vr_replica_set_open(self, vr_incoming_create(self, begin, head, error));
    *ret_held = 0;
    return self->open != NULL;
}

gboolean
vr_replica_begin(VrReplica *self, const VrCycleBegin *begin, guint64 *ret_held, GError **error)
{
    guint64 held = 0;
    gboolean ok;

    if (!check_begin(begin, error))
        return FALSE;
    g_mutex_lock(&self->lock);
    g_rw_lock_writer_lock(&self->io);
    ok = begin_locked(self, begin, &held, error) && vr_fault_point(VR_STEP_T1, error);
    g_rw_lock_writer_unlock(&self->io);
    g_mutex_unlock(&self->lock);
    if (ok)
        *ret_held = held;
    return ok;
}

/* After an error of COMMIT: what was published comes back, the next request opens it again and
 * proves it. */
static void
retreat(VrReplica *self)
{
    g_autoptr(GError) local = NULL;

    close_open(self);
    if (!vr_replica_unpublish(self, &local))
        g_debug("replica of %s: %s", self->uuid, local->message);
}

void
vr_replica_set_not_open(VrReplica *self, const char *cycle, GError **error)
{
    if (g_strcmp0(self->given_back, cycle) == 0)
        g_propagate_error(error, g_error_copy(self->no_room));
    else
        vr_set_error(error, VR_ERROR_TRANSIENT, "cycle-unknown", "Begin the cycle again.",
                     "replica of %s has no open cycle %s", self->uuid, cycle);
}

static gboolean
open_for_commit(VrReplica *self, const char *cycle, GError **error)
{
    g_autoptr(GPtrArray) rows = NULL;

    if (self->open && strcmp(self->open->begin->cycle, cycle) == 0)
        return TRUE;
    if (!self->open && vr_cycle_id_valid(cycle)) {
        rows = vr_state_rp_list(self->state, self->uuid, error);
        if (!rows || !vr_replica_unpublish(self, error))
            return FALSE;
        vr_replica_set_open(self, vr_incoming_load(self, cycle, vr_replica_last_row(rows)));
        if (self->open)
            return TRUE;
    }
    vr_replica_set_not_open(self, cycle, error);
    return FALSE;
}

/* TRUE with @ret_rp if the cycle is committed; TRUE with NULL if it is not. */
static gboolean
committed_rp(VrReplica *self, const char *cycle, VrRecoveryPoint **ret_rp, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrRpRow) row = vr_state_rp_by_cycle(self->state, self->uuid, cycle, &local);

    *ret_rp = row ? vr_replica_copy_rp(&row->rp) : NULL;
    if (!local)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static VrRecoveryPoint *
commit_locked(VrReplica *self, const VrCycleCommit *commit, GError **error)
{
    VrRecoveryPoint *rp;
    gboolean wrong;

    if (!vr_replica_finish_head(self, error) || !committed_rp(self, commit->cycle, &rp, error))
        return NULL;
    if (rp)
        return rp;
    if (!open_for_commit(self, commit->cycle, error))
        return NULL;
    if (!vr_replica_check_commit(self, commit, &wrong, error)) {
        if (wrong)
            (void) vr_replica_drop_incoming(self, NULL);
        return NULL;
    }
    if (!vr_replica_run_commit(self, commit, error)) {
        retreat(self);
        return NULL;
    }
    close_open(self);
    if (!vr_replica_finish_head(self, error) || !vr_fault_point(VR_STEP_T7, error) ||
        !committed_rp(self, commit->cycle, &rp, error))
        return NULL;
    return rp;
}

VrRecoveryPoint *
vr_replica_commit(VrReplica *self, const VrCycleCommit *commit, GError **error)
{
    g_autoptr(JsonNode) node = vr_cycle_commit_to_json(commit);
    g_autoptr(VrCycleCommit) checked = vr_cycle_commit_from_json(node, error);
    VrRecoveryPoint *rp;

    if (!checked)
        return NULL;
    g_mutex_lock(&self->lock);
    g_rw_lock_writer_lock(&self->io);
    rp = commit_locked(self, checked, error);
    g_rw_lock_writer_unlock(&self->io);
    g_mutex_unlock(&self->lock);
    return rp;
}

guint64
vr_replica_incoming_bytes(VrReplica *self)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    guint64 bytes = 0;

    for (guint i = 0; self->open != NULL && i < self->open->disks->len; i++) {
        const VrIncomingDisk *disk = self->open->disks->pdata[i];
        g_autofree char *path =
            vr_replica_path(self, "incoming/%s/%s.qcow2", self->open->begin->cycle, disk->name);

        bytes += vr_replica_allocated_file(path);
    }
    return bytes;
}

VrCycleStatus
vr_replica_cycle_status(VrReplica *self, const char *cycle, VrRecoveryPoint **ret_rp)
{
    VrCycleStatus status = VR_CYCLE_UNKNOWN;
    VrRecoveryPoint *rp = NULL;

    if (ret_rp)
        *ret_rp = NULL;
    if (!vr_cycle_id_valid(cycle))
        return VR_CYCLE_UNKNOWN;
    g_mutex_lock(&self->lock);
    if (committed_rp(self, cycle, &rp, NULL) && rp) {
        status = VR_CYCLE_COMMITTED;
    } else {
        g_autofree char *begin = vr_replica_path(self, "incoming/%s/begin.json", cycle);
        if (g_file_test(begin, G_FILE_TEST_IS_REGULAR))
            status = VR_CYCLE_OPEN;
    }
    g_mutex_unlock(&self->lock);
    if (ret_rp)
        *ret_rp = rp;
    else
        vr_recovery_point_free(rp);
    return status;
}

/* As BEGIN said. NULL if it is not open. Caller holds lock. */
static VrCycleBegin *
open_begin(VrReplica *self, const char *cycle)
{
    g_autofree char *path = vr_replica_path(self, "incoming/%s/begin.json", cycle);
    gsize len = 0;
    g_autofree char *text = vr_read_file(path, VR_JSON_MAX_BYTES, &len, NULL);
    g_autoptr(JsonNode) node = text ? vr_json_parse(text, len, VR_JSON_MAX_BYTES, NULL) : NULL;

    return node ? vr_cycle_begin_from_json(node, NULL) : NULL;
}

gboolean
vr_replica_cycle_disks(VrReplica *self, const char *cycle, char ***ret_disks, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(VrRecoveryPoint) rp = NULL;
    g_autoptr(VrCycleBegin) begin = NULL;
    gboolean ok;

    g_mutex_lock(&self->lock);
    ok = committed_rp(self, cycle, &rp, error);
    if (ok && !rp && vr_cycle_id_valid(cycle))
        begin = open_begin(self, cycle);
    if (ok && !rp && !begin)
        vr_replica_set_not_open(self, cycle, error);
    g_mutex_unlock(&self->lock);
    if (!rp && !begin)
        return FALSE;
    for (guint i = 0; begin && i < begin->disks->len; i++) {
        const VrCycleDisk *disk = begin->disks->pdata[i];

        g_ptr_array_add(names, g_strdup(disk->name));
    }
    g_ptr_array_add(names, NULL);
    *ret_disks = begin ? (char **) g_ptr_array_free(g_steal_pointer(&names), FALSE) : NULL;
    return TRUE;
}
