/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"
#include "storage/replica/replica_private.h"
#include "storage/replica/store_room.h"

#define FREE_MIN ((guint64) 64 * 1024 * 1024)
#define DOUBTS_MAX 4096u /* of a disk; if there are more, all of it is in doubt */

static void
disk_free(gpointer data)
{
    VrIncomingDisk *disk = data;

    vr_layer_close(disk->layer);
    vr_manifest_close(disk->manifest);
    vr_range_gate_clear(&disk->writing);
    g_array_unref(disk->doubts);
    g_mutex_clear(&disk->doubt_lock);
    g_free(disk);
}

void
vr_incoming_free(VrIncoming *self)
{
    if (!self)
        return;
    g_clear_pointer(&self->disks, g_ptr_array_unref);
    vr_cycle_begin_free(self->begin);
    g_free(self);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrIncoming, vr_incoming_free)

VrIncomingDisk *
vr_incoming_find(VrIncoming *self, const char *name)
{
    for (guint i = 0; i < self->disks->len; i++) {
        VrIncomingDisk *disk = self->disks->pdata[i];
        if (strcmp(disk->name, name) == 0)
            return disk;
    }
    return NULL;
}

static VrIncoming *
incoming_new(VrReplica *replica, VrCycleBegin *begin_taken, const VrRpRow *head)
{
    VrIncoming *self = g_new0(VrIncoming, 1);

    self->begin = begin_taken;
    self->number = (head ? head->rp.number : 0) + 1;
    self->disks = g_ptr_array_new_with_free_func(disk_free);
    for (guint i = 0; i < begin_taken->disks->len; i++) {
        const VrCycleDisk *given = begin_taken->disks->pdata[i];
        VrIncomingDisk *disk = g_new0(VrIncomingDisk, 1);

        vr_range_gate_init(&disk->writing);
        g_mutex_init(&disk->doubt_lock);
        disk->doubts = g_array_new(FALSE, FALSE, sizeof(VrChunkRange));
        disk->name = given->name;
        disk->size_bytes = given->size_bytes;
        disk->chunks = vr_chunk_count(given->size_bytes);
        disk->alone = vr_replica_is_lost(replica, head, given->name);
        if (!disk->alone && vr_replica_row_disk_size(head, given->name) > 0)
            disk->below = head->rp.number;
        g_ptr_array_add(self->disks, disk);
    }
    return self;
}

static VrCycleBegin *
copy_begin(const VrCycleBegin *begin)
{
    g_autoptr(JsonNode) node = vr_cycle_begin_to_json(begin);

    return vr_cycle_begin_from_json(node, NULL);
}

/* Not synced: after a power loss a file that cannot be read means a cycle that cannot go on. */
static gboolean
write_begin(VrReplica *replica, const VrCycleBegin *begin, GError **error)
{
    g_autoptr(JsonNode) node = vr_cycle_begin_to_json(begin);
    g_autofree char *text = vr_json_to_text(node);
    g_autofree char *path = vr_replica_path(replica, "incoming/%s/begin.json", begin->cycle);
    g_autoptr(GError) local = NULL;

    if (g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &local))
        return TRUE;
    vr_set_error(error,
                 g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOSPC) ? VR_ERROR_NO_SPACE
                                                                          : VR_ERROR_INTERNAL,
                 "cannot-write", NULL, "cannot write '%s': %s", path, local->message);
    return FALSE;
}

/* Opening a manifest with a smaller size cuts the head: that must be undone if this cycle comes to
 * nothing. */
static gboolean
note_shrinking(VrReplica *replica, const VrIncoming *self, const VrRpRow *head, GError **error)
{
    for (guint i = 0; i < self->disks->len; i++) {
        const VrIncomingDisk *disk = self->disks->pdata[i];
        if (disk->below && disk->size_bytes < vr_replica_row_disk_size(head, disk->name))
            return vr_replica_mark_rebuild(replica, error);
    }
    return TRUE;
}

static gboolean
create_disk(VrReplica *replica, const char *cycle, VrIncomingDisk *disk, GError **error)
{
    g_autofree char *path = vr_replica_path(replica, "incoming/%s/%s.qcow2", cycle, disk->name);

    disk->layer = vr_layer_create(path, disk->size_bytes, error);
    if (!disk->layer)
        return FALSE;
    disk->manifest = vr_manifest_open(replica->manifest_dir, disk->name, disk->size_bytes, error);
    if (!disk->manifest)
        return FALSE;
    return disk->below ? vr_manifest_discard(disk->manifest, error)
                       : vr_manifest_reset(disk->manifest, error);
}

VrIncoming *
vr_incoming_create(VrReplica *replica, const VrCycleBegin *begin, const VrRpRow *head,
                   GError **error)
{
    g_autoptr(VrIncoming) self = incoming_new(replica, copy_begin(begin), head);
    g_autofree char *dir = vr_replica_path(replica, "incoming/%s", begin->cycle);

    if (!vr_replica_make_dirs(replica, error) ||
        !vr_store_room_check(replica->dir, replica->store, FREE_MIN, error) ||
        !vr_replica_rebuild_if_marked(replica, error) ||
        !note_shrinking(replica, self, head, error))
        return NULL;
    if (mkdir(dir, 0700) < 0) {
        vr_set_error_errno(error, errno, "cannot create '%s'", dir);
        return NULL;
    }
    for (guint i = 0; i < self->disks->len; i++) {
        if (!create_disk(replica, begin->cycle, self->disks->pdata[i], error))
            return NULL;
    }
    return write_begin(replica, begin, error) ? g_steal_pointer(&self) : NULL;
}

static VrCycleBegin *
read_begin(VrReplica *replica, const char *cycle)
{
    g_autofree char *path = vr_replica_path(replica, "incoming/%s/begin.json", cycle);
    gsize len = 0;
    g_autofree char *text = vr_read_file(path, VR_JSON_MAX_BYTES, &len, NULL);
    g_autoptr(JsonNode) node = text ? vr_json_parse(text, len, VR_JSON_MAX_BYTES, NULL) : NULL;
    VrCycleBegin *begin = node ? vr_cycle_begin_from_json(node, NULL) : NULL;

    if (begin) {
        /* The directory is renamed before the file is rewritten. */
        g_free(begin->cycle);
        begin->cycle = g_strdup(cycle);
    }
    return begin;
}

VrIncoming *
vr_incoming_load(VrReplica *replica, const char *cycle, const VrRpRow *head)
{
    VrCycleBegin *begin = read_begin(replica, cycle);
    g_autoptr(VrIncoming) self = begin ? incoming_new(replica, begin, head) : NULL;

    if (!self || begin->base_number != (head ? head->rp.number : 0) ||
        (head && g_strcmp0(begin->base_cycle, head->rp.cycle) != 0))
        return NULL;
    for (guint i = 0; i < self->disks->len; i++) {
        VrIncomingDisk *disk = self->disks->pdata[i];
        g_autofree char *path = vr_replica_path(replica, "incoming/%s/%s.qcow2", cycle, disk->name);

        if (!vr_replica_disk_name_ok(disk->name))
            return NULL;
        disk->layer = vr_layer_reopen(path, disk->size_bytes, NULL);
        if (disk->layer)
            disk->manifest =
                vr_manifest_open(replica->manifest_dir, disk->name, disk->size_bytes, NULL);
        if (!disk->manifest)
            return NULL;
    }
    self->unproven = g_strcmp0(replica->rested, cycle) != 0;
    return g_steal_pointer(&self);
}

gboolean
vr_incoming_adopt(VrReplica *replica, VrIncoming *self, const VrCycleBegin *begin, GError **error)
{
    g_autofree char *from = vr_replica_path(replica, "incoming/%s", self->begin->cycle);
    g_autofree char *to = vr_replica_path(replica, "incoming/%s", begin->cycle);
    g_autofree char *commit = vr_replica_path(replica, "incoming/%s/commit.json", begin->cycle);

    if (rename(from, to) < 0) {
        vr_set_error_errno(error, errno, "cannot rename '%s'", from);
        return FALSE;
    }
    g_free(self->begin->cycle);
    self->begin->cycle = g_strdup(begin->cycle);
    self->begin->kind = begin->kind;
    g_free(self->begin->generation);
    self->begin->generation = g_strdup(begin->generation);
    (void) unlink(commit);
    return write_begin(replica, self->begin, error);
}

void
vr_incoming_doubt(VrIncoming *self, VrIncomingDisk *disk, guint64 first, guint64 end)
{
    VrChunkRange range = {first, end};

    g_mutex_lock(&disk->doubt_lock);
    if (disk->doubts->len < DOUBTS_MAX)
        g_array_append_val(disk->doubts, range);
    else
        g_atomic_int_set(&self->unproven, TRUE);
    g_mutex_unlock(&disk->doubt_lock);
}

gboolean
vr_incoming_is_proven(VrIncoming *self)
{
    for (guint i = 0; i < self->disks->len; i++) {
        const VrIncomingDisk *disk = self->disks->pdata[i];

        if (disk->doubts->len > 0)
            return FALSE;
    }
    return !g_atomic_int_get(&self->unproven);
}

typedef struct {
    VrReplica *replica;
    VrIncomingDisk *disk;
    int head_fd; /* DISK.sums of the manifest: 16 bytes a chunk */
    guint8 *data;
} Proof;

/* The chunk falls through to the layer below, as if this cycle had never touched it. */
static gboolean
revert_chunk(Proof *proof, guint64 chunk, const VrDigest *head, GError **error)
{
    return vr_layer_drop(proof->disk->layer, chunk, error) &&
           vr_manifest_set(proof->disk->manifest, chunk, head, error);
}

static gboolean
may_go_on(VrReplica *replica, GError **error)
{
    if (!g_atomic_int_get(&replica->interrupted))
        return TRUE;
    vr_set_error(error, VR_ERROR_CONFLICT, "replica-closing", "Try again in a moment.",
                 "the replica of %s is being closed", replica->uuid);
    return FALSE;
}

static gboolean
prove_chunk(Proof *proof, guint64 chunk, GError **error)
{
    VrDigest held, head = {{0}}, found;
    g_autoptr(GError) local = NULL;

    if (!may_go_on(proof->replica, error))
        return FALSE;
    vr_manifest_get(proof->disk->manifest, chunk, &held);
    if (pread(proof->head_fd, head.b, VR_DIGEST_LEN, (off_t) (chunk * VR_DIGEST_LEN)) !=
        VR_DIGEST_LEN)
        memset(&head, 0, sizeof head);
    if (vr_layer_read(proof->disk->layer, chunk, proof->data, &local)) {
        vr_chunk_digest(proof->data, &found);
        if (vr_digest_equal(&found, &held))
            return TRUE;
    } else if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND) &&
               vr_digest_equal(&held, &head)) {
        return TRUE;
    }
    return revert_chunk(proof, chunk, &head, error);
}

static gboolean
prove_disk(Proof *proof, GError **error)
{
    VrIncomingDisk *disk = proof->disk;
    g_autoptr(VrExtents) extents = vr_manifest_overlay_extents(disk->manifest);

    for (guint i = 0; i < vr_extents_count(extents); i++) {
        const VrExtent *e = vr_extents_get(extents, i);
        guint64 end = vr_chunk_count(e->offset + e->length);

        for (guint64 c = e->offset / VR_CHUNK_SIZE; c < end; c++) {
            if (!prove_chunk(proof, c, error))
                return FALSE;
        }
    }
    for (guint64 c = 0;; c++) {
        if (!vr_layer_next(disk->layer, c, &c, error))
            return FALSE;
        if (c == disk->chunks)
            return TRUE;
        if (!vr_manifest_in_overlay(disk->manifest, c) && !vr_layer_drop(disk->layer, c, error))
            return FALSE;
    }
}

/* What a body that failed may have written. */
static gboolean
prove_doubts(Proof *proof, GError **error)
{
    VrIncomingDisk *disk = proof->disk;

    for (guint i = 0; i < disk->doubts->len; i++) {
        const VrChunkRange *range = &g_array_index(disk->doubts, VrChunkRange, i);

        for (guint64 c = range->first; c < range->end; c++) {
            if (!(vr_manifest_in_overlay(disk->manifest, c) ? prove_chunk(proof, c, error)
                                                            : vr_layer_drop(disk->layer, c, error)))
                return FALSE;
        }
    }
    return TRUE;
}

gboolean
vr_incoming_prove(VrReplica *replica, VrIncoming *self, GError **error)
{
    g_autofree guint8 *data = g_malloc(VR_CHUNK_SIZE);
    gboolean all = g_atomic_int_get(&self->unproven);

    for (guint i = 0; i < self->disks->len; i++) {
        Proof proof = {.replica = replica, .disk = self->disks->pdata[i], .data = data};
        g_autofree char *name = g_strconcat(proof.disk->name, ".sums", NULL);
        g_autofree char *path = g_build_filename(replica->manifest_dir, name, NULL);
        gboolean ok;

        if (!all && proof.disk->doubts->len == 0)
            continue;
        proof.head_fd = open(path, O_RDONLY | O_CLOEXEC);
        if (proof.head_fd < 0) {
            vr_set_error_errno(error, errno, "cannot open '%s'", path);
            return FALSE;
        }
        ok = all ? prove_disk(&proof, error) : prove_doubts(&proof, error);
        close(proof.head_fd);
        if (!ok)
            return FALSE;
    }
    for (guint i = 0; i < self->disks->len; i++)
        g_array_set_size(((VrIncomingDisk *) self->disks->pdata[i])->doubts, 0);
    g_atomic_int_set(&self->unproven, FALSE);
    return TRUE;
}

guint64
vr_incoming_held(VrIncoming *self)
{
    guint64 held = 0;

    for (guint i = 0; i < self->disks->len; i++) {
        VrIncomingDisk *disk = self->disks->pdata[i];
        g_autoptr(VrExtents) extents = vr_manifest_overlay_extents(disk->manifest);

        for (guint e = 0; e < vr_extents_count(extents); e++)
            held += vr_chunk_count(vr_extents_get(extents, e)->length);
    }
    return held;
}
