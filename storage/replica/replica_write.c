/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "policies/fault.h"
#include "storage/util/file_util.h"
#include "storage/replica/replica_private.h"
#include "storage/replica/store_room.h"

#define BATCH 32 /* chunks: 2 MiB written at once */
#define ZERO_RUN 4096
#define ATTACHMENT_MAX_BYTES ((gint64) 512 * 1024 * 1024)
#define ATTACHMENTS_PER_CYCLE 16

/* One a body that is being stored. A thread that only waits for its next body has none: each peer
 * has many connections, and each connection a thread. */
typedef struct {
    VrIncoming *open; /* borrowed: it is stored to */
    guint8 *data;     /* BATCH chunks, aligned for O_DIRECT */
    guint64 chunks[BATCH];
    VrDigest digests[BATCH];
    guint n;
    VrIncomingDisk *disk; /* of the collected chunks */
} Batch;

static void
batch_free(Batch *batch)
{
    free(batch->data);
    g_free(batch);
}

#define BATCHES_KEPT 2u

static GMutex batch_lock; /* guards what follows */
static Batch *batches[BATCHES_KEPT];
static guint n_batches;

static void
batch_give(Batch *batch)
{
    g_mutex_lock(&batch_lock);
    if (n_batches < BATCHES_KEPT)
        batches[n_batches++] = g_steal_pointer(&batch);
    g_mutex_unlock(&batch_lock);
    if (batch)
        batch_free(batch);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Batch, batch_give)

static Batch *
batch_get(GError **error)
{
    Batch *batch;

    g_mutex_lock(&batch_lock);
    batch = n_batches > 0 ? batches[--n_batches] : NULL;
    g_mutex_unlock(&batch_lock);
    if (!batch) {
        void *data = NULL;

        if (posix_memalign(&data, 4096, (gsize) BATCH * VR_CHUNK_SIZE) != 0) {
            vr_set_error(error, VR_ERROR_TRANSIENT, "no-memory", NULL, "no memory to store chunks");
            return NULL;
        }
        batch = g_new0(Batch, 1);
        batch->data = data;
    }
    batch->n = 0;
    return batch;
}

/* Data first: a chunk in the overlay is a chunk that is held. */
static gboolean
write_batch(Batch *batch, guint n, GError **error)
{
    if (!vr_layer_write(batch->disk->layer, batch->chunks, n, batch->data, error))
        return FALSE;
    for (guint i = 0; i < n; i++) {
        if (!vr_manifest_set(batch->disk->manifest, batch->chunks[i], &batch->digests[i], error))
            return FALSE;
    }
    return TRUE;
}

/* Another body may have the same chunks: layer and manifest get both from one of them. */
static gboolean
flush(Batch *batch, GError **error)
{
    guint n = batch->n;
    guint64 first, end;
    gboolean ok;

    batch->n = 0;
    if (n == 0)
        return TRUE;
    first = batch->chunks[0];
    end = batch->chunks[n - 1] + 1;
    vr_range_gate_enter(&batch->disk->writing, first, end);
    ok = write_batch(batch, n, error);
    for (guint i = 0; !ok && i < n; i++)
        vr_incoming_doubt(batch->open, batch->disk, batch->chunks[i], batch->chunks[i] + 1);
    vr_range_gate_leave(&batch->disk->writing, first, end);
    return ok;
}

static gboolean
store_chunk(Batch *batch, VrIncomingDisk *disk, const VrFrameHeader *header, const guint8 *payload,
            GError **error)
{
    gboolean goes_on = batch->n > 0 && batch->n < BATCH && batch->disk == disk &&
                       header->chunk > batch->chunks[batch->n - 1];

    if (!goes_on && !flush(batch, error))
        return FALSE;
    if (!vr_frame_decode(header, payload, batch->data + (gsize) batch->n * VR_CHUNK_SIZE, error))
        return FALSE;
    batch->disk = disk;
    batch->chunks[batch->n] = header->chunk;
    batch->digests[batch->n] = header->digest;
    batch->n++;
    return TRUE;
}

/* What is zero already needs no entry. */
static gboolean
write_zeros(VrIncoming *open, VrIncomingDisk *disk, guint64 first, guint64 count, GError **error)
{
    guint64 end = first + count;

    for (guint64 c = vr_manifest_next_nonzero(disk->manifest, first, end); c < end;
         c = vr_manifest_next_nonzero(disk->manifest, c, end)) {
        guint64 run = 1;

        while (run < ZERO_RUN && c + run < end &&
               vr_manifest_next_nonzero(disk->manifest, c + run, c + run + 1) == c + run)
            run++;
        if (!vr_layer_zero(disk->layer, c, run, error) ||
            !vr_manifest_set_zero(disk->manifest, c, run, error)) {
            vr_incoming_doubt(open, disk, c, c + run);
            return FALSE;
        }
        c += run;
    }
    return TRUE;
}

static gboolean
store_zeros(VrIncoming *open, VrIncomingDisk *disk, guint64 first, guint64 count, GError **error)
{
    gboolean ok;

    vr_range_gate_enter(&disk->writing, first, first + count);
    ok = write_zeros(open, disk, first, count, error);
    vr_range_gate_leave(&disk->writing, first, first + count);
    return ok;
}

static VrIncomingDisk *
frame_disk(VrIncoming *open, const VrFrameHeader *header, GError **error)
{
    VrIncomingDisk *disk =
        header->disk < open->disks->len ? open->disks->pdata[header->disk] : NULL;

    if (disk && header->chunk < disk->chunks && header->count > 0 &&
        header->count <= disk->chunks - header->chunk)
        return disk;
    vr_set_error(error, VR_ERROR_INVALID, "bad-frame", NULL,
                 "frame for disk %u, chunk %" G_GUINT64_FORMAT ", lies outside of cycle %s",
                 header->disk, header->chunk, open->begin->cycle);
    return NULL;
}

/* A body names each chunk once, as vr_copy_run() makes it: otherwise a few bytes a time would have
 * all of a large disk gone through. */
static gboolean
take_chunks(const VrIncoming *open, guint64 *left, guint64 count, GError **error)
{
    if (count <= *left) {
        *left -= count;
        return TRUE;
    }
    vr_set_error(error, VR_ERROR_INVALID, "bad-frame", NULL,
                 "a body has more chunks than the disks of cycle %s", open->begin->cycle);
    return FALSE;
}

static guint64
count_chunks(const VrIncoming *open)
{
    guint64 chunks = 0;

    for (guint i = 0; i < open->disks->len; i++)
        chunks += ((const VrIncomingDisk *) open->disks->pdata[i])->chunks;
    return chunks;
}

static gboolean
store_body(VrIncoming *open, Batch *batch, const guint8 *body, gsize len, GError **error)
{
    guint64 left = count_chunks(open);

    batch->open = open;
    while (len > 0) {
        VrFrameHeader header;
        const guint8 *payload;
        VrIncomingDisk *disk;
        gboolean ok = FALSE;

        if (!vr_frame_next(&body, &len, &header, &payload, error) ||
            !(disk = frame_disk(open, &header, error)) ||
            !take_chunks(open, &left, header.count, error))
            return FALSE;
        switch (header.kind) {
        case VR_FRAME_RAW:
        case VR_FRAME_ZSTD:
            ok = store_chunk(batch, disk, &header, payload, error);
            break;
        case VR_FRAME_ZERO:
            ok = flush(batch, error) && store_zeros(open, disk, header.chunk, header.count, error);
            break;
        }
        if (!ok)
            return FALSE;
    }
    return flush(batch, error);
}

static gboolean
check_open(VrReplica *self, const char *cycle, GError **error)
{
    if (self->open && g_strcmp0(self->open->begin->cycle, cycle) == 0)
        return TRUE;
    vr_replica_set_not_open(self, cycle, error);
    return FALSE;
}

gboolean
vr_replica_has_room(VrReplica *self, guint64 bytes, GError **error)
{
    return vr_store_room_check(self->dir, self->store, bytes, error);
}

gboolean
vr_replica_write(VrReplica *self, const char *cycle, const guint8 *body, gsize len, GError **error)
{
    g_autoptr(Batch) batch = NULL;
    gboolean ok;

    if (len > VR_BODY_MAX) {
        vr_set_error(error, VR_ERROR_INVALID, "body-too-large", NULL,
                     "body of %" G_GSIZE_FORMAT " bytes", len);
        return FALSE;
    }
    batch = batch_get(error);
    if (!batch)
        return FALSE;
    g_rw_lock_reader_lock(&self->io);
    ok = check_open(self, cycle, error) && vr_replica_has_room(self, len, error) &&
         store_body(self->open, batch, body, len, error) && vr_fault_point(VR_STEP_T2, error);
    g_rw_lock_reader_unlock(&self->io);
    return ok;
}

static void
append_held(GByteArray *records, VrIncomingDisk *disk, guint64 first, guint max)
{
    g_autoptr(VrExtents) extents = vr_manifest_overlay_extents(disk->manifest);

    for (guint i = 0; i < vr_extents_count(extents) && max > 0; i++) {
        const VrExtent *e = vr_extents_get(extents, i);
        guint64 start = e->offset / VR_CHUNK_SIZE;
        guint64 n = vr_chunk_count(e->length);
        guint64 skip = MIN(first, n);

        first -= skip;
        for (guint64 c = start + skip; c < start + n && max > 0; c++, max--) {
            VrDigest digest;
            vr_manifest_get(disk->manifest, c, &digest);
            vr_sums_append(records, c, &digest);
        }
    }
}

GBytes *
vr_replica_held(VrReplica *self, const char *cycle, const char *disk_name, guint64 first, guint max,
                GError **error)
{
    g_autoptr(GByteArray) records = g_byte_array_new();
    VrIncomingDisk *disk = NULL;

    g_rw_lock_reader_lock(&self->io);
    if (check_open(self, cycle, error)) {
        disk = vr_incoming_find(self->open, disk_name);
        if (disk)
            append_held(records, disk, first, max);
        else
            vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-disk", NULL,
                         "cycle %s has no disk '%s'", cycle, disk_name);
    }
    g_rw_lock_reader_unlock(&self->io);
    return disk ? g_byte_array_free_to_bytes(g_steal_pointer(&records)) : NULL;
}

gboolean
vr_replica_has_attachment(VrReplica *self, const char *sha256)
{
    g_autofree char *path = vr_replica_path(self, "attachments/%s", sha256);

    return strlen(sha256) == 64 && strspn(sha256, "0123456789abcdef") == 64 &&
           g_file_test(path, G_FILE_TEST_IS_REGULAR);
}

/* @fd from its start into @path, durable. */
static gboolean
spool(int fd, const char *path, GError **error)
{
    int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    g_autofree char *buf = g_malloc(VR_CHUNK_SIZE);
    off_t at = 0;
    gssize n = 0;
    gboolean ok = out >= 0;

    while (ok && (n = pread(fd, buf, VR_CHUNK_SIZE, at)) > 0) {
        ok = write(out, buf, (gsize) n) == n;
        at += n;
    }
    ok = ok && n == 0 && fsync(out) == 0;
    if (!ok)
        vr_set_error_errno(error, errno ? errno : ENOSPC, "cannot store attachment '%s'", path);
    if (out >= 0)
        close(out);
    return ok;
}

static gboolean
check_attachment(int fd, const char *sha256, GError **error)
{
    g_autofree char *found = NULL;
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > ATTACHMENT_MAX_BYTES) {
        vr_set_error(error, VR_ERROR_INVALID, "attachment-too-large", NULL,
                     "an attachment is at most %" G_GINT64_FORMAT " bytes", ATTACHMENT_MAX_BYTES);
        return FALSE;
    }
    found = vr_sha256_fd(fd, error);
    if (!found || strcmp(found, sha256) == 0)
        return found != NULL;
    vr_set_error(error, VR_ERROR_CORRUPT, "attachment-differs", "Send it again.",
                 "attachment has digest %s, not %s", found, sha256);
    return FALSE;
}

static gboolean
put_attachment(VrReplica *self, const char *cycle, const char *sha256, int fd, GError **error)
{
    g_autofree char *path = vr_replica_path(self, "attachments/%s", sha256);
    g_autofree char *dir = vr_replica_path(self, "attachments");
    g_autofree char *id = vr_random_id();
    g_autofree char *temporary = vr_replica_path(self, "attachments/new-%s", id);

    if (!check_open(self, cycle, error) || !check_attachment(fd, sha256, error))
        return FALSE;
    if (vr_replica_has_attachment(self, sha256))
        return TRUE;
    if (g_atomic_int_add(&self->open->attachments, 1) >= ATTACHMENTS_PER_CYCLE) {
        vr_set_error(error, VR_ERROR_INVALID, "too-many-attachments", NULL,
                     "cycle %s has sent %d attachments already", cycle, ATTACHMENTS_PER_CYCLE);
        return FALSE;
    }
    if (!spool(fd, temporary, error)) {
        (void) unlink(temporary);
        return FALSE;
    }
    if (rename(temporary, path) < 0) {
        vr_set_error_errno(error, errno, "cannot store attachment '%s'", path);
        (void) unlink(temporary);
        return FALSE;
    }
    if (!vr_fsync_dir(dir, error))
        return FALSE;
    vr_replica_mend_attachment(self, sha256);
    return TRUE;
}

gboolean
vr_replica_put_attachment(VrReplica *self, const char *cycle, const char *sha256, int fd,
                          GError **error)
{
    gboolean ok;

    if (strlen(sha256) != 64 || strspn(sha256, "0123456789abcdef") != 64) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-digest", NULL,
                     "an attachment is named by 64 hex digits");
        return FALSE;
    }
    g_rw_lock_reader_lock(&self->io);
    ok = put_attachment(self, cycle, sha256, fd, error);
    g_rw_lock_reader_unlock(&self->io);
    return ok;
}

char *
vr_replica_cycle_dir(VrReplica *self, const char *cycle, GError **error)
{
    char *dir = NULL;

    g_rw_lock_reader_lock(&self->io);
    if (check_open(self, cycle, error))
        dir = vr_replica_path(self, "incoming/%s", cycle);
    g_rw_lock_reader_unlock(&self->io);
    return dir;
}
