/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/replica/layer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/wire/cycle.h"
#include "storage/replica/layer_private.h"
#include "storage/util/qcow2_format.h"

/*
 * File, in clusters: header | L1 | one place for every possible L2, in order | data, appended |
 * refcount table and blocks. As the L2 tables are neighbours, the entry of chunk c is at l2_start +
 * 8 c.
 *
 * Tables are read with pread() and written with pwrite(), never mapped: on a full file system both
 * are errors, where a mapping is a SIGBUS (on tmpfs even reading a hole of one needs room). Only
 * tables with an entry take space; only these are referenced by L1, which is written at seal, and
 * only these are read. Data goes past the page cache where the file system allows it.
 */

#define BATCH 256
#define RESERVE_MIN ((guint64) 16)   /* clusters: 1 MiB */
#define RESERVE_MAX ((guint64) 1024) /* clusters: 64 MiB */

void
vr_layer_set_errno(const VrLayer *self, const char *what, GError **error)
{
    vr_set_error_errno(error, errno, "cannot %s layer '%s'", what, self->path);
}

static gboolean
pread_all(int fd, void *data, gsize len, guint64 offset)
{
    guint8 *p = data;

    while (len > 0) {
        gssize n = pread(fd, p, len, (off_t) offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (n == 0)
                errno = EIO; /* the file has been cut */
            return FALSE;
        }
        p += n;
        len -= (gsize) n;
        offset += (guint64) n;
    }
    return TRUE;
}

static gboolean
is_touched(const VrLayer *self, guint64 l2)
{
    return __atomic_load_n(&self->touched[l2], __ATOMIC_RELAXED);
}

gboolean
vr_layer_entries(const VrLayer *self, guint64 first, guint64 n, guint64 *ret_entries,
                 GError **error)
{
    guint64 last = (first + n - 1) / QCOW2_L2_ENTRIES;
    gboolean any = FALSE;

    for (guint64 l2 = first / QCOW2_L2_ENTRIES; l2 <= last; l2++)
        any |= is_touched(self, l2);
    if (!any) {
        memset(ret_entries, 0, n * sizeof *ret_entries);
        return TRUE;
    }
    if (!pread_all(self->fd, ret_entries, n * sizeof *ret_entries, self->l2_start + first * 8)) {
        vr_layer_set_errno(self, "read a table of", error);
        return FALSE;
    }
    for (guint64 i = 0; i < n; i++)
        ret_entries[i] = GUINT64_FROM_BE(ret_entries[i]);
    return TRUE;
}

gboolean
vr_layer_pwrite(int fd, const void *data, gsize len, guint64 offset)
{
    const guint8 *p = data;

    while (len > 0) {
        gssize n = pwrite(fd, p, len, (off_t) offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (n == 0)
                errno = ENOSPC;
            return FALSE;
        }
        p += n;
        len -= (gsize) n;
        offset += (guint64) n;
    }
    return TRUE;
}

/* @entries: host order, for chunks [first, first + n). */
static gboolean
entries_put(VrLayer *self, guint64 first, guint n, const guint64 *entries, GError **error)
{
    guint64 raw[BATCH];

    g_assert(n > 0 && n <= BATCH);
    for (guint i = 0; i < n; i++)
        raw[i] = GUINT64_TO_BE(entries[i]);
    for (guint64 l2 = first / QCOW2_L2_ENTRIES; l2 <= (first + n - 1) / QCOW2_L2_ENTRIES; l2++)
        __atomic_store_n(&self->touched[l2], 1, __ATOMIC_RELAXED);
    if (!vr_layer_pwrite(self->fd, raw, n * sizeof raw[0], self->l2_start + first * 8)) {
        vr_layer_set_errno(self, "write a table of", error);
        return FALSE;
    }
    return TRUE;
}

static VrLayer *
layer_new(const char *path, guint64 size_bytes)
{
    VrLayer *self = g_new0(VrLayer, 1);

    self->path = g_strdup(path);
    self->fd = -1;
    self->direct_fd = -1;
    self->size_bytes = size_bytes;
    self->chunks = qcow2_clusters(size_bytes);
    self->n_l2 = vr_layer_n_l2(self->chunks);
    self->l2_start = vr_layer_l2_start(self->n_l2);
    self->data_start = self->l2_start + self->n_l2 * VR_CHUNK_SIZE;
    self->touched = g_new0(guint8, self->n_l2);
    self->next = self->reserved = self->data_start / VR_CHUNK_SIZE;
    g_mutex_init(&self->reserve_lock);
    return self;
}

void
vr_layer_close(VrLayer *self)
{
    if (!self)
        return;
    if (self->direct_fd >= 0)
        close(self->direct_fd);
    if (self->fd >= 0)
        close(self->fd);
    g_mutex_clear(&self->reserve_lock);
    g_free(self->touched);
    g_free(self->path);
    g_free(self);
}

static gboolean
check_size(const char *path, guint64 size_bytes, GError **error)
{
    if (size_bytes > 0 && size_bytes <= VR_MAX_DISK_BYTES && size_bytes % 512 == 0)
        return TRUE;
    vr_set_error(error, VR_ERROR_INVALID, "bad-disk-size",
                 "Use a disk of 512 bytes to 64 TiB, a multiple of 512.",
                 "layer '%s' cannot hold a disk of %" G_GUINT64_FORMAT " bytes", path, size_bytes);
    return FALSE;
}

/* For data only; without it they go through the page cache. */
static void
open_direct(VrLayer *self)
{
    self->direct_fd = open(self->path, O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW);
    self->buffered = self->direct_fd < 0;
}

VrLayer *
vr_layer_create(const char *path, guint64 size_bytes, GError **error)
{
    g_autoptr(VrLayer) self = NULL;

    if (!check_size(path, size_bytes, error))
        return NULL;
    self = layer_new(path, size_bytes);
    self->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (self->fd < 0 && errno == EEXIST) {
        vr_set_error(error, VR_ERROR_CONFLICT, "layer-exists", NULL, "layer '%s' exists already",
                     path);
        return NULL;
    }
    if (self->fd < 0) {
        vr_layer_set_errno(self, "create", error);
        return NULL;
    }
    if (ftruncate(self->fd, (off_t) self->data_start) < 0) {
        vr_layer_set_errno(self, "size", error);
        unlink(path);
        return NULL;
    }
    open_direct(self);
    return g_steal_pointer(&self);
}

/* An entry this writer can have made: after a power loss a table may hold anything. */
static gboolean
entry_plausible(const VrLayer *self, guint64 entry, guint64 file_size)
{
    guint64 offset = entry & QCOW2_OFFSET_MASK;

    if (entry == QCOW2_ENTRY_ZERO)
        return TRUE;
    return entry == (offset | QCOW2_ENTRY_COPIED) && offset % VR_CHUNK_SIZE == 0 &&
           offset >= self->data_start && offset + VR_CHUNK_SIZE <= file_size;
}

static gboolean
scan_l2(VrLayer *self, guint64 l2, guint64 file_size, GError **error)
{
    g_autofree guint64 *entries = g_new(guint64, QCOW2_L2_ENTRIES);
    guint64 first = l2 * QCOW2_L2_ENTRIES;
    guint64 n = MIN(QCOW2_L2_ENTRIES, self->chunks - first);
    gboolean any = FALSE;

    self->touched[l2] = 1;
    if (!vr_layer_entries(self, first, n, entries, error))
        return FALSE;
    for (guint64 i = 0; i < n; i++) {
        static const guint64 none = 0;
        guint64 entry = entries[i];

        if (entry == 0)
            continue;
        if (!entry_plausible(self, entry, file_size)) {
            if (!entries_put(self, first + i, 1, &none, error))
                return FALSE;
            continue;
        }
        any = TRUE;
        if (entry == QCOW2_ENTRY_ZERO)
            continue;
        self->next = MAX(self->next, (entry & QCOW2_OFFSET_MASK) / VR_CHUNK_SIZE + 1);
    }
    self->touched[l2] = any;
    return TRUE;
}

/* Visits only tables that take space. */
static gboolean
scan_tables(VrLayer *self, guint64 file_size, GError **error)
{
    guint64 pos = self->l2_start;

    while (pos < self->data_start) {
        off_t data = lseek(self->fd, (off_t) pos, SEEK_DATA);
        guint64 l2;

        if (data < 0 && errno == ENXIO)
            break;
        if (data < 0 && errno != EINVAL) {
            vr_layer_set_errno(self, "read", error);
            return FALSE;
        }
        if (data >= 0)
            pos = (guint64) data;
        if (pos >= self->data_start)
            break;
        l2 = (pos - self->l2_start) / VR_CHUNK_SIZE;
        if (!scan_l2(self, l2, file_size, error))
            return FALSE;
        pos = self->l2_start + (l2 + 1) * VR_CHUNK_SIZE;
    }
    return TRUE;
}

static gboolean
reopen_file(VrLayer *self, guint64 *ret_file_size, GError **error)
{
    static const guint8 no_header[4096];
    struct stat st;

    if (chmod(self->path, 0600) < 0) {
        vr_layer_set_errno(self, "reopen", error);
        return FALSE;
    }
    self->fd = open(self->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (self->fd < 0 || fstat(self->fd, &st) < 0) {
        vr_layer_set_errno(self, "reopen", error);
        return FALSE;
    }
    if (!S_ISREG(st.st_mode) || (guint64) st.st_size < self->data_start) {
        vr_set_error(error, VR_ERROR_CORRUPT, "layer-damaged", NULL, "layer '%s' is too short",
                     self->path);
        return FALSE;
    }
    if (!vr_layer_pwrite(self->fd, no_header, sizeof no_header, 0)) {
        vr_layer_set_errno(self, "write", error);
        return FALSE;
    }
    *ret_file_size = (guint64) st.st_size;
    return TRUE;
}

VrLayer *
vr_layer_reopen(const char *path, guint64 size_bytes, GError **error)
{
    g_autoptr(VrLayer) self = NULL;
    guint64 file_size;

    if (!check_size(path, size_bytes, error))
        return NULL;
    self = layer_new(path, size_bytes);
    if (!reopen_file(self, &file_size, error) || !scan_tables(self, file_size, error))
        return NULL;
    open_direct(self);
    /* Synced, because clusters that no entry has now are given to others from here on. */
    if (ftruncate(self->fd, (off_t) (self->next * VR_CHUNK_SIZE)) < 0 || fdatasync(self->fd) < 0) {
        vr_layer_set_errno(self, "size", error);
        return NULL;
    }
    self->reserved = self->next;
    return g_steal_pointer(&self);
}

/* Preallocated in steps, so that parallel writes do not extend the file one after the other. Where
 * the file system cannot, or has not that much room, the writes themselves find out. */
static guint64
allocate(VrLayer *self, guint n)
{
    guint64 first = __atomic_fetch_add(&self->next, n, __ATOMIC_RELAXED);
    guint64 end = first + n;

    g_mutex_lock(&self->reserve_lock);
    if (end > self->reserved) {
        guint64 used = end - self->data_start / VR_CHUNK_SIZE;
        guint64 target = end + CLAMP(used, RESERVE_MIN, RESERVE_MAX);
        int rc = fallocate(self->fd, 0, (off_t) (self->reserved * VR_CHUNK_SIZE),
                           (off_t) ((target - self->reserved) * VR_CHUNK_SIZE));
        self->reserved = rc == 0 ? target : end;
    }
    g_mutex_unlock(&self->reserve_lock);
    return first;
}

static gboolean
write_data(VrLayer *self, const guint8 *data, gsize len, guint64 offset, GError **error)
{
    while (len > 0 && !g_atomic_int_get(&self->buffered)) {
        gssize n = pwrite(self->direct_fd, data, len, (off_t) offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EINVAL) {
            g_atomic_int_set(&self->buffered, TRUE);
            break;
        }
        if (n <= 0) {
            if (n == 0)
                errno = ENOSPC;
            vr_layer_set_errno(self, "write", error);
            return FALSE;
        }
        data += n;
        len -= (gsize) n;
        offset += (guint64) n;
    }
    if (!vr_layer_pwrite(self->fd, data, len, offset)) {
        vr_layer_set_errno(self, "write", error);
        return FALSE;
    }
    return TRUE;
}

/* How many chunks from @i on follow each other. */
static guint
run_of(const guint64 *chunks, guint n, guint i)
{
    guint run = 1;

    while (i + run < n && chunks[i + run] == chunks[i] + run)
        run++;
    return run;
}

/* Entries of up to BATCH chunks: the ones they have, consecutive new clusters for the others. */
static gboolean
place_chunks(VrLayer *self, const guint64 *chunks, guint n, guint64 *ret_entries, guint *ret_fresh,
             GError **error)
{
    guint fresh = 0;
    guint64 cluster;

    for (guint i = 0, run; i < n; i += run) {
        run = run_of(chunks, n, i);
        if (!vr_layer_entries(self, chunks[i], run, ret_entries + i, error))
            return FALSE;
    }
    for (guint i = 0; i < n; i++)
        fresh += (ret_entries[i] & QCOW2_OFFSET_MASK) == 0;
    *ret_fresh = fresh;
    if (fresh == 0)
        return TRUE;
    cluster = allocate(self, fresh);
    for (guint i = 0; i < n; i++) {
        if ((ret_entries[i] & QCOW2_OFFSET_MASK) == 0)
            ret_entries[i] = (cluster++ * VR_CHUNK_SIZE) | QCOW2_ENTRY_COPIED;
    }
    return TRUE;
}

static gboolean
write_batch(VrLayer *self, const guint64 *chunks, guint n, const guint8 *data, GError **error)
{
    guint64 entries[BATCH];
    guint fresh;

    if (!place_chunks(self, chunks, n, entries, &fresh, error))
        return FALSE;
    for (guint i = 0, run; i < n; i += run) {
        guint64 offset = entries[i] & QCOW2_OFFSET_MASK;

        for (run = 1; i + run < n; run++) {
            if ((entries[i + run] & QCOW2_OFFSET_MASK) != offset + (guint64) run * VR_CHUNK_SIZE)
                break;
        }
        if (!write_data(self, data + (gsize) i * VR_CHUNK_SIZE, (gsize) run * VR_CHUNK_SIZE, offset,
                        error))
            return FALSE;
    }
    if (fresh == 0)
        return TRUE;
    for (guint i = 0, run; i < n; i += run) {
        run = run_of(chunks, n, i);
        if (!entries_put(self, chunks[i], run, entries + i, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
vr_layer_write(VrLayer *self, const guint64 *chunks, guint n, const guint8 *data, GError **error)
{
    for (guint i = 0; i < n; i++)
        g_return_val_if_fail(chunks[i] < self->chunks, FALSE);

    for (guint done = 0; done < n; done += BATCH) {
        if (!write_batch(self, chunks + done, MIN(n - done, BATCH),
                         data + (gsize) done * VR_CHUNK_SIZE, error))
            return FALSE;
    }
    return TRUE;
}

static void
release_cluster(VrLayer *self, guint64 entry)
{
    guint64 offset = entry & QCOW2_OFFSET_MASK;

    if (offset == 0)
        return;
    /* Only to save space: nothing refers to the cluster any more. */
    (void) fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t) offset,
                     VR_CHUNK_SIZE);
}

gboolean
vr_layer_zero(VrLayer *self, guint64 first, guint64 count, GError **error)
{
    guint64 entries[BATCH], old[BATCH];

    g_return_val_if_fail(first <= self->chunks && count <= self->chunks - first, FALSE);
    for (guint i = 0; i < BATCH; i++)
        entries[i] = QCOW2_ENTRY_ZERO;
    for (guint64 end = first + count; first < end;) {
        guint n = (guint) MIN(end - first, BATCH);

        if (!vr_layer_entries(self, first, n, old, error) ||
            !entries_put(self, first, n, entries, error))
            return FALSE;
        for (guint i = 0; i < n; i++)
            release_cluster(self, old[i]);
        first += n;
    }
    return TRUE;
}

gboolean
vr_layer_read(VrLayer *self, guint64 chunk, guint8 *ret_data, GError **error)
{
    guint64 entry, offset;

    g_return_val_if_fail(chunk < self->chunks, FALSE);
    if (!vr_layer_entries(self, chunk, 1, &entry, error))
        return FALSE;
    if (entry == 0) {
        vr_set_error(error, VR_ERROR_NOT_FOUND, "chunk-not-in-layer", NULL,
                     "layer '%s' has no chunk %" G_GUINT64_FORMAT, self->path, chunk);
        return FALSE;
    }
    if (entry == QCOW2_ENTRY_ZERO) {
        memset(ret_data, 0, VR_CHUNK_SIZE);
        return TRUE;
    }
    offset = entry & QCOW2_OFFSET_MASK;
    for (gsize done = 0; done < VR_CHUNK_SIZE;) {
        gssize n = pread(self->fd, ret_data + done, VR_CHUNK_SIZE - done, (off_t) (offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            vr_layer_set_errno(self, "read", error);
            return FALSE;
        }
        if (n == 0) {
            vr_set_error(error, VR_ERROR_CORRUPT, "layer-damaged", NULL,
                         "layer '%s' ends inside chunk %" G_GUINT64_FORMAT, self->path, chunk);
            return FALSE;
        }
        done += (gsize) n;
    }
    return TRUE;
}

gboolean
vr_layer_drop(VrLayer *self, guint64 chunk, GError **error)
{
    static const guint64 none = 0;
    guint64 entry;

    g_return_val_if_fail(chunk < self->chunks, FALSE);
    if (!vr_layer_entries(self, chunk, 1, &entry, error))
        return FALSE;
    if (entry == 0)
        return TRUE;
    /* The cluster is left alone: after a power loss it may be another chunk's. */
    return entries_put(self, chunk, 1, &none, error);
}

gboolean
vr_layer_next(const VrLayer *self, guint64 from, guint64 *ret_chunk, GError **error)
{
    guint64 entries[BATCH];

    while (from < self->chunks) {
        guint64 l2 = from / QCOW2_L2_ENTRIES;
        guint64 end = MIN((l2 + 1) * QCOW2_L2_ENTRIES, self->chunks);
        guint64 n = MIN(end - from, BATCH);

        if (!is_touched(self, l2)) {
            from = end;
            continue;
        }
        if (!vr_layer_entries(self, from, n, entries, error))
            return FALSE;
        for (guint64 i = 0; i < n; i++) {
            if (entries[i] == 0)
                continue;
            *ret_chunk = from + i;
            return TRUE;
        }
        from += n;
    }
    *ret_chunk = self->chunks;
    return TRUE;
}
