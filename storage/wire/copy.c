/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/wire/copy.h"

#include <stdlib.h>
#include <string.h>

#include "policies/error.h"
#include "policies/fault.h"
#include "storage/wire/frame.h"
#include "storage/wire/token_bucket.h"

/* Every worker takes the next piece of any disk, reads and digests it, and collects what differs in
 * a body of its own. Digests of a body wait beside it and enter the manifest when it was
 * acknowledged. The workers share the position in the candidates and the first error, nothing else.
 */

#define MAX_WORKERS 4
#define ZERO_PIECE ((guint64) 1 << 36) /* 64 GiB: a count of chunks that fits a frame */
#define BODY_SEND ((gsize) 6 * 1024 * 1024)
#define BODY_SEND_MIN ((gsize) 256 * 1024)
#define BODIES_PER_SECOND                                                                          \
    8 /* where the rate is limited, so that the wire is not used in bursts                         \
       */
#define BUFFER_ALIGN 4096

G_STATIC_ASSERT(BODY_SEND + VR_FRAME_HEADER_LEN + VR_CHUNK_SIZE <= VR_BODY_MAX);

typedef struct {
    const VrCopyDisk *disks;
    guint n_disks;
    VrSink *sink;
    const VrCopyOptions *options;
    VrCopyProgress *progress;
    gsize body_send;       /* bytes from which on a body is sent */
    VrTokenBucket *bucket; /* owned, NULL: no limit */
    GCancellable *stop;    /* owned; by the caller's cancellable or the first error */
    gint acknowledged;     /* atomic: a body was */

    GMutex lock; /* position and error */
    guint disk;
    guint extent;
    guint64 offset; /* in the extent */
    GError *error;  /* owned, the first */
} Run;

typedef struct {
    guint disk; /* in Run.disks */
    guint64 offset;
    guint64 length;
    gboolean zero;
} Piece;

/* Chunks of the body that is being filled. */
typedef struct {
    guint disk;
    guint64 chunk;
    guint64 count; /* more than 1: zeros */
    VrDigest digest;
} Pending;

typedef struct {
    Run *run;
    guint number;
    GThread *thread;
    guint8 *buffer;         /* owned, VR_SOURCE_READ_MAX, made at the first read */
    GByteArray *body;       /* owned */
    GArray *pending;        /* owned, Pending */
    VrSourceReader *reader; /* owned, of reader_disk; NULL: none */
    guint reader_disk;
} Worker;

static void
count(guint64 *counter, guint64 bytes)
{
    __atomic_fetch_add(counter, bytes, __ATOMIC_RELAXED);
}

/* --- shared by the workers --- */

static gboolean
cancelled(GError **error)
{
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "copying was cancelled");
    return FALSE;
}

/* Stopped without an error yet means that the caller cancelled, whatever came of it here. */
static void
take_error(Run *run, GError *error)
{
    g_mutex_lock(&run->lock);
    if (run->error)
        g_error_free(error);
    else if (g_cancellable_is_cancelled(run->stop)) {
        g_error_free(error);
        (void) cancelled(&run->error);
    } else
        run->error = error;
    g_mutex_unlock(&run->lock);
    g_cancellable_cancel(run->stop);
}

/* The piece at the position, which moves on. */
static gboolean
next_piece_locked(Run *run, Piece *ret_piece)
{
    while (run->disk < run->n_disks) {
        const VrExtents *candidates = run->disks[run->disk].candidates;
        const VrExtent *extent;
        guint64 limit;

        if (run->extent == vr_extents_count(candidates)) {
            run->disk++;
            run->extent = 0;
            continue;
        }
        extent = vr_extents_get(candidates, run->extent);
        limit = extent->flags == VR_EXTENT_ZERO ? ZERO_PIECE : VR_SOURCE_READ_MAX;
        ret_piece->disk = run->disk;
        ret_piece->offset = extent->offset + run->offset;
        ret_piece->length = MIN(limit, extent->length - run->offset);
        ret_piece->zero = extent->flags == VR_EXTENT_ZERO;
        run->offset += ret_piece->length;
        if (run->offset == extent->length) {
            run->extent++;
            run->offset = 0;
        }
        return TRUE;
    }
    return FALSE;
}

static gboolean
next_piece(Run *run, Piece *ret_piece)
{
    gboolean more;

    if (g_cancellable_is_cancelled(run->stop))
        return FALSE;
    g_mutex_lock(&run->lock);
    more = next_piece_locked(run, ret_piece);
    g_mutex_unlock(&run->lock);
    return more;
}

/* --- sending --- */

static gboolean
record(Worker *self, GError **error)
{
    for (guint i = 0; i < self->pending->len; i++) {
        const Pending *p = &g_array_index(self->pending, Pending, i);
        VrManifest *manifest = self->run->disks[p->disk].manifest;
        gboolean ok = vr_digest_is_zero(&p->digest)
                          ? vr_manifest_set_zero(manifest, p->chunk, p->count, error)
                          : vr_manifest_set(manifest, p->chunk, &p->digest, error);

        if (!ok)
            return FALSE;
    }
    g_array_set_size(self->pending, 0);
    return TRUE;
}

static gboolean
send_body(Worker *self, GError **error)
{
    Run *run = self->run;
    GByteArray *body = self->body;

    if (body->len == 0)
        return TRUE;
    if (run->bucket && !vr_token_bucket_take(run->bucket, body->len, run->stop))
        return cancelled(error);
    if (!run->sink->send(run->sink, self->number, body->data, body->len, run->stop, error))
        return FALSE;
    if (!record(self, error))
        return FALSE;
    count(&run->progress->sent, body->len);
    g_byte_array_set_size(body, 0);
    if (g_atomic_int_compare_and_exchange(&run->acknowledged, FALSE, TRUE))
        return vr_fault_point(VR_STEP_S7, error);
    return TRUE;
}

static gboolean
add_pending(Worker *self, guint disk, guint64 chunk, guint64 n, const VrDigest *digest,
            GError **error)
{
    Pending pending = {.disk = disk, .chunk = chunk, .count = n, .digest = *digest};

    g_array_append_val(self->pending, pending);
    count(&self->run->progress->changed, n * VR_CHUNK_SIZE);
    return self->body->len < self->run->body_send || send_body(self, error);
}

static gboolean
add_zeros(Worker *self, guint disk, guint64 first, guint64 n, GError **error)
{
    static const VrDigest zero;

    if (n == 0)
        return TRUE;
    vr_frame_append_zero(self->body, self->run->disks[disk].index, first, (guint32) n);
    return add_pending(self, disk, first, n, &zero, error);
}

static gboolean
add_chunk(Worker *self, guint disk, guint64 chunk, const guint8 *data, const VrDigest *digest,
          GError **error)
{
    Run *run = self->run;

    vr_frame_append_chunk(self->body, run->disks[disk].index, chunk, data, digest,
                          run->options->compress);
    return add_pending(self, disk, chunk, 1, digest, error);
}

/* --- reading --- */

static void
close_reader(Worker *self)
{
    if (self->reader)
        self->run->disks[self->reader_disk].source->ops->close(self->reader);
    self->reader = NULL;
}

static gboolean
need_reader(Worker *self, guint disk, GError **error)
{
    VrSource *source = self->run->disks[disk].source;

    if (self->reader && self->reader_disk == disk)
        return TRUE;
    close_reader(self);
    self->reader = source->ops->open(source, error);
    self->reader_disk = disk;
    return self->reader != NULL;
}

static gboolean
need_buffer(Worker *self, GError **error)
{
    void *buffer = NULL;

    if (self->buffer)
        return TRUE;
    if (posix_memalign(&buffer, BUFFER_ALIGN, VR_SOURCE_READ_MAX) != 0) {
        vr_set_error(error, VR_ERROR_TRANSIENT, "no-memory", "Free memory on this host.",
                     "no memory for a read buffer");
        return FALSE;
    }
    self->buffer = buffer;
    return TRUE;
}

/* Into the buffer, a short last chunk filled up with zeros. */
static gboolean
read_piece(Worker *self, const Piece *piece, GError **error)
{
    const VrCopyDisk *disk = &self->run->disks[piece->disk];
    gsize padded = vr_chunk_count(piece->length) * VR_CHUNK_SIZE;

    if (!need_buffer(self, error) || !need_reader(self, piece->disk, error))
        return FALSE;
    if (!disk->source->ops->read(self->reader, piece->offset, piece->length, self->buffer, error))
        return FALSE;
    memset(self->buffer + piece->length, 0, padded - piece->length);
    count(&self->run->progress->read, piece->length);
    return TRUE;
}

/* --- pieces --- */

static gboolean
copy_data(Worker *self, const Piece *piece, GError **error)
{
    const VrManifest *manifest = self->run->disks[piece->disk].manifest;
    guint64 first = piece->offset / VR_CHUNK_SIZE;
    guint64 n = vr_chunk_count(piece->length);
    guint64 zeros = 0; /* changed chunks of zeros right before chunk i */

    if (!read_piece(self, piece, error))
        return FALSE;
    for (guint64 i = 0; i < n; i++) {
        const guint8 *data = self->buffer + i * VR_CHUNK_SIZE;
        VrDigest held;
        VrDigest digest;
        gboolean changed;

        vr_chunk_digest(data, &digest);
        vr_manifest_get(manifest, first + i, &held);
        changed = !vr_digest_equal(&digest, &held);
        if (changed && vr_digest_is_zero(&digest)) {
            zeros++;
            continue;
        }
        if (!add_zeros(self, piece->disk, first + i - zeros, zeros, error))
            return FALSE;
        zeros = 0;
        if (changed && !add_chunk(self, piece->disk, first + i, data, &digest, error))
            return FALSE;
    }
    if (!add_zeros(self, piece->disk, first + n - zeros, zeros, error))
        return FALSE;
    count(&self->run->progress->done, piece->length);
    return TRUE;
}

/* The end of the run of non-zero chunks that begins at @chunk. */
static guint64
end_of_nonzero(const VrManifest *manifest, guint64 chunk, guint64 end)
{
    while (chunk < end && vr_manifest_next_nonzero(manifest, chunk, chunk + 1) == chunk)
        chunk++;
    return chunk;
}

/* Zeros are not read; only where the replica holds something else they are sent. */
static gboolean
copy_zeros(Worker *self, const Piece *piece, GError **error)
{
    const VrManifest *manifest = self->run->disks[piece->disk].manifest;
    guint64 first = piece->offset / VR_CHUNK_SIZE;
    guint64 end = first + vr_chunk_count(piece->length);
    guint64 stop;

    for (guint64 chunk = vr_manifest_next_nonzero(manifest, first, end); chunk < end;
         chunk = vr_manifest_next_nonzero(manifest, stop, end)) {
        stop = end_of_nonzero(manifest, chunk, end);
        if (!add_zeros(self, piece->disk, chunk, stop - chunk, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
work(Worker *self, GError **error)
{
    Piece piece;

    while (next_piece(self->run, &piece)) {
        if (!(piece.zero ? copy_zeros : copy_data)(self, &piece, error))
            return FALSE;
    }
    if (g_cancellable_is_cancelled(self->run->stop))
        return cancelled(error);
    return send_body(self, error);
}

static gpointer
worker_main(gpointer data)
{
    Worker *self = data;
    GError *error = NULL;

    self->body = g_byte_array_sized_new(VR_BODY_MAX);
    self->pending = g_array_new(FALSE, FALSE, sizeof(Pending));
    if (!work(self, &error))
        take_error(self->run, error);
    close_reader(self);
    g_byte_array_unref(self->body);
    g_array_unref(self->pending);
    free(self->buffer);
    return NULL;
}

/* --- the run --- */

static gboolean
check_disk(const VrCopyDisk *disk, GError **error)
{
    guint64 size = vr_manifest_size(disk->manifest);

    if (disk->source->size_bytes != size) {
        vr_set_error(error, VR_ERROR_INTERNAL, "size-differs", NULL,
                     "disk '%s' has %" G_GUINT64_FORMAT " bytes, its manifest %" G_GUINT64_FORMAT,
                     disk->name, disk->source->size_bytes, size);
        return FALSE;
    }
    for (guint i = 0; i < vr_extents_count(disk->candidates); i++) {
        const VrExtent *e = vr_extents_get(disk->candidates, i);
        guint64 end = e->offset + e->length;

        if (e->offset % VR_CHUNK_SIZE == 0 && (end % VR_CHUNK_SIZE == 0 || end == size) &&
            end <= size)
            continue;
        vr_set_error(error, VR_ERROR_INTERNAL, "bad-candidates", NULL,
                     "disk '%s': range %" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT
                     " is not made of chunks of the disk",
                     disk->name, e->offset, e->length);
        return FALSE;
    }
    return TRUE;
}

/* No more than there is work for, as far as a cheap look tells. */
static guint
count_workers(const Run *run)
{
    guint wanted = CLAMP(run->options->workers, 1, MAX_WORKERS);
    guint64 pieces = 0;

    for (guint d = 0; d < run->n_disks && pieces < wanted; d++) {
        const VrExtents *candidates = run->disks[d].candidates;

        for (guint i = 0; i < vr_extents_count(candidates) && pieces < wanted; i++)
            pieces += 1 + (vr_extents_get(candidates, i)->length - 1) / VR_SOURCE_READ_MAX;
    }
    return (guint) CLAMP(pieces, 1, wanted);
}

/* Pieces are shared, so a thread that cannot be had costs speed only. */
static void
run_workers(Run *run)
{
    Worker workers[MAX_WORKERS] = {{0}};
    guint n = count_workers(run);

    for (guint i = 0; i < n; i++) {
        workers[i].run = run;
        workers[i].number = i;
    }
    for (guint i = 1; i < n; i++)
        workers[i].thread = g_thread_try_new("vr-copy", worker_main, &workers[i], NULL);
    worker_main(&workers[0]);
    for (guint i = 1; i < n; i++) {
        if (workers[i].thread)
            g_thread_join(workers[i].thread);
    }
}

void
vr_copy_progress_reset(VrCopyProgress *self)
{
    __atomic_store_n(&self->total, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&self->done, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&self->read, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&self->changed, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&self->sent, 0, __ATOMIC_RELAXED);
}

static void
start_progress(const Run *run)
{
    guint64 total = 0;

    for (guint d = 0; d < run->n_disks; d++)
        total += vr_extents_bytes(run->disks[d].candidates, VR_EXTENT_DATA);
    vr_copy_progress_reset(run->progress);
    __atomic_store_n(&run->progress->total, total, __ATOMIC_RELAXED);
}

static gsize
body_send_size(guint64 rate_bytes)
{
    if (rate_bytes == 0)
        return BODY_SEND;
    return (gsize) CLAMP(rate_bytes / BODIES_PER_SECOND, BODY_SEND_MIN, BODY_SEND);
}

static void
on_cancel(GCancellable *cancel G_GNUC_UNUSED, gpointer stop)
{
    g_cancellable_cancel(stop);
}

gboolean
vr_copy_run(const VrCopyDisk *disks, guint n_disks, VrSink *sink, const VrCopyOptions *options,
            VrCopyProgress *progress, GCancellable *cancel, GError **error)
{
    g_autoptr(VrTokenBucket) bucket = NULL;
    g_autoptr(GCancellable) stop = g_cancellable_new();
    Run run = {.disks = disks,
               .n_disks = n_disks,
               .sink = sink,
               .options = options,
               .progress = progress,
               .stop = stop};
    gulong handler = 0;

    for (guint d = 0; d < n_disks; d++) {
        if (!check_disk(&disks[d], error))
            return FALSE;
    }
    if (options->rate_bytes > 0)
        bucket = vr_token_bucket_new(options->rate_bytes);
    run.bucket = bucket;
    run.body_send = body_send_size(options->rate_bytes);
    g_mutex_init(&run.lock);
    start_progress(&run);
    if (cancel)
        handler = g_cancellable_connect(cancel, G_CALLBACK(on_cancel), stop, NULL);
    run_workers(&run);
    g_cancellable_disconnect(cancel, handler);
    g_mutex_clear(&run.lock);
    if (run.error) {
        g_propagate_error(error, run.error);
        return FALSE;
    }
    return vr_fault_point(VR_STEP_S7, error);
}
