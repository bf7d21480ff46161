/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/replica/layer_verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/util/qcow2_format.h"
#include "storage/replica/replica_private.h"

/*
 * Tables and digests are walked side by side in the order of chunks. Not what QEMU would make of
 * the image, but what its tables say: an entry without a digest changes what is read just as a
 * wrong chunk does. Data is collected into runs that lie together in the file.
 */

#define RUN_MAX 16 /* chunks: 1 MiB a read */

typedef struct {
    const VrLayerToVerify *layer;
    FILE *bad; /* borrowed */
    VrLayerPace pace;
    gpointer data;
    VrLayerVerdict verdict;
    int fd;      /* tables */
    int data_fd; /* O_DIRECT where possible; may be the same */
    guint8 *buf; /* RUN_MAX chunks, aligned */
    guint64 *l2; /* one table, host order */
    guint64 chunks;
    guint64 l1_offset;
    guint64 run_first; /* chunk */
    guint64 run_offset;
    guint run;
    VrDigest digests[RUN_MAX];
    VrSumsReader sums;
} Verify;

static void
verify_clear(Verify *self)
{
    if (self->data_fd >= 0 && self->data_fd != self->fd)
        close(self->data_fd);
    if (self->fd >= 0)
        close(self->fd);
    free(self->buf);
    g_free(self->l2);
    vr_sums_reader_close(&self->sums);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Verify, verify_clear)

static gboolean
note_bad(Verify *self, guint64 chunk, GError **error)
{
    guint64 raw = GUINT64_TO_LE(chunk);

    self->verdict.bad++;
    if (fwrite(&raw, sizeof raw, 1, self->bad) == 1)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot note bad chunks of layer '%s'", self->layer->path);
    return FALSE;
}

/* FALSE with errno. Behind the end of the file QEMU reads zeros, and so do we. */
static gboolean
read_data(Verify *self, guint64 offset, guint8 *ret_data, gsize len)
{
    gsize done = 0;

    while (done < len) {
        gssize n = pread(self->data_fd, ret_data + done, len - done, (off_t) (offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EINVAL && self->data_fd != self->fd) {
            close(self->data_fd);
            self->data_fd = self->fd;
            continue;
        }
        if (n < 0)
            return FALSE;
        if (n == 0)
            break;
        done += (gsize) n;
    }
    memset(ret_data + done, 0, len - done);
    return TRUE;
}

/* What is behind the end of the disk is nobody's data. */
static gboolean
is_as_proven(const Verify *self, guint64 chunk, guint8 *data, const VrDigest *wanted)
{
    guint64 room = self->layer->size_bytes - chunk * VR_CHUNK_SIZE;
    VrDigest found;

    if (room < VR_CHUNK_SIZE)
        memset(data + room, 0, VR_CHUNK_SIZE - room);
    if (vr_chunk_is_zero(data, VR_CHUNK_SIZE))
        return vr_digest_is_zero(wanted);
    vr_chunk_digest(data, &found);
    return vr_digest_equal(&found, wanted);
}

/* One by one, where the whole run could not be read. */
static gboolean
compare_singly(Verify *self, GError **error)
{
    for (guint i = 0; i < self->run; i++) {
        guint64 chunk = self->run_first + i;
        gboolean readable =
            read_data(self, self->run_offset + i * VR_CHUNK_SIZE, self->buf, VR_CHUNK_SIZE);

        if (!readable) {
            self->verdict.unreadable++;
            self->verdict.last_errno = errno;
        }
        if ((!readable || !is_as_proven(self, chunk, self->buf, &self->digests[i])) &&
            !note_bad(self, chunk, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
flush_run(Verify *self, GError **error)
{
    gsize len = (gsize) self->run * VR_CHUNK_SIZE;
    gboolean ok = TRUE;

    if (self->run == 0)
        return TRUE;
    if (read_data(self, self->run_offset, self->buf, len)) {
        for (guint i = 0; ok && i < self->run; i++) {
            if (!is_as_proven(self, self->run_first + i, self->buf + (gsize) i * VR_CHUNK_SIZE,
                              &self->digests[i]))
                ok = note_bad(self, self->run_first + i, error);
        }
    } else {
        ok = compare_singly(self, error);
    }
    self->run = 0;
    self->verdict.bytes += len;
    return ok && self->pace(len, self->data, error);
}

static gboolean
add_to_run(Verify *self, guint64 chunk, guint64 offset, const VrDigest *digest, GError **error)
{
    gboolean goes_on = self->run > 0 && self->run < RUN_MAX &&
                       chunk == self->run_first + self->run &&
                       offset == self->run_offset + (guint64) self->run * VR_CHUNK_SIZE;

    if (!goes_on) {
        if (!flush_run(self, error))
            return FALSE;
        self->run_first = chunk;
        self->run_offset = offset;
    }
    self->digests[self->run++] = *digest;
    return TRUE;
}

/* Zeros may be an entry that says so, or nothing where nothing shows through. */
static gboolean
reads_as_zeros(const Verify *self, guint64 chunk, guint64 entry)
{
    return (entry & QCOW2_ENTRY_ZERO) != 0 || (entry == 0 && chunk >= self->layer->backing_chunks);
}

static gboolean
compare_chunk(Verify *self, guint64 chunk, guint64 entry, const VrDigest *wanted, GError **error)
{
    guint64 offset = entry & QCOW2_OFFSET_MASK;

    if (reads_as_zeros(self, chunk, entry))
        return vr_digest_is_zero(wanted) ||
               (flush_run(self, error) && note_bad(self, chunk, error));
    if (offset != 0 && offset % VR_CHUNK_SIZE == 0 &&
        (entry & ~(QCOW2_OFFSET_MASK | QCOW2_ENTRY_COPIED)) == 0)
        return add_to_run(self, chunk, offset, wanted, error);
    return flush_run(self, error) && note_bad(self, chunk, error);
}

static gboolean
compare_table(Verify *self, guint64 first, guint64 n, GError **error)
{
    for (guint64 i = 0; i < n; i++) {
        static const VrDigest zeros = {{0}};
        guint64 chunk = first + i;

        if (self->sums.chunk == chunk) {
            if (!compare_chunk(self, chunk, self->l2[i], &self->sums.digest, error) ||
                !vr_sums_reader_next(&self->sums, error))
                return FALSE;
        } else if (chunk >= self->layer->shown_chunks) {
            if (!compare_chunk(self, chunk, self->l2[i], &zeros, error))
                return FALSE;
        } else if (self->l2[i] != 0) {
            if (!flush_run(self, error) || !note_bad(self, chunk, error))
                return FALSE;
        }
    }
    return TRUE;
}

/* A table that is not where one can be has no entries: its chunks turn out bad. FALSE with errno.
 */
static gboolean
load_table(int fd, guint64 l1_offset, guint64 index, guint64 *ret_l2, gboolean *ret_empty)
{
    guint64 raw = 0, offset;
    gssize n = pread(fd, &raw, sizeof raw, (off_t) (l1_offset + index * 8));

    memset(ret_l2, 0, VR_CHUNK_SIZE);
    offset = GUINT64_FROM_BE(raw) & QCOW2_OFFSET_MASK;
    *ret_empty = n == sizeof raw && offset == 0;
    if (n != sizeof raw || offset == 0 || offset % VR_CHUNK_SIZE != 0)
        return n == sizeof raw;
    n = pread(fd, ret_l2, VR_CHUNK_SIZE, (off_t) offset);
    for (guint64 i = 0; i < QCOW2_L2_ENTRIES; i++)
        ret_l2[i] = GUINT64_FROM_BE(ret_l2[i]);
    return n >= 0;
}

/* A table without entries is as proven if no digest is in it and nothing shows that must not. */
static gboolean
says_nothing(const Verify *self, guint64 first, guint64 n)
{
    const VrLayerToVerify *layer = self->layer;

    return self->sums.chunk >= first + n &&
           MAX(first, layer->shown_chunks) >= MIN(first + n, layer->backing_chunks);
}

static gboolean
compare_all(Verify *self, GError **error)
{
    for (guint64 first = 0; first < self->chunks; first += QCOW2_L2_ENTRIES) {
        guint64 n = MIN(QCOW2_L2_ENTRIES, self->chunks - first);
        gboolean empty = FALSE;

        if (!load_table(self->fd, self->l1_offset, first / QCOW2_L2_ENTRIES, self->l2, &empty)) {
            vr_set_error_errno(error, errno, "cannot read a table of layer '%s'",
                               self->layer->path);
            return FALSE;
        }
        if (!(empty && says_nothing(self, first, n)) && !compare_table(self, first, n, error))
            return FALSE;
    }
    return flush_run(self, error);
}

static gboolean
open_files(Verify *self, GError **error)
{
    const VrLayerToVerify *layer = self->layer;
    Qcow2Header header;
    void *buf = NULL;

    if (!vr_qcow2_check_header(layer->path, layer->size_bytes, layer->backing, error) ||
        !vr_sums_reader_open(&self->sums, layer->sums, error))
        return FALSE;
    self->fd = open(layer->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (self->fd < 0 || pread(self->fd, &header, sizeof header, 0) != sizeof header) {
        vr_set_error_errno(error, errno, "cannot read layer '%s'", layer->path);
        return FALSE;
    }
    self->data_fd = open(layer->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_DIRECT);
    if (self->data_fd < 0)
        self->data_fd = self->fd;
    if (posix_memalign(&buf, 4096, (gsize) RUN_MAX * VR_CHUNK_SIZE) != 0) {
        vr_set_error(error, VR_ERROR_TRANSIENT, "no-memory", NULL, "no memory to verify a layer");
        return FALSE;
    }
    self->buf = buf;
    self->l2 = g_malloc(VR_CHUNK_SIZE);
    self->l1_offset = GUINT64_FROM_BE(header.l1_offset);
    self->chunks = vr_chunk_count(layer->size_bytes);
    return TRUE;
}

gboolean
vr_layer_verify(const VrLayerToVerify *layer, FILE *bad, VrLayerPace pace, gpointer data,
                VrLayerVerdict *ret_verdict, GError **error)
{
    g_auto(Verify)
        self = {.layer = layer, .bad = bad, .pace = pace, .data = data, .fd = -1, .data_fd = -1};

    if (!open_files(&self, error) || !compare_all(&self, error))
        return FALSE;
    *ret_verdict = self.verdict;
    return TRUE;
}

gboolean
vr_layer_has(const char *path, guint64 chunk, gboolean *ret_has, GError **error)
{
    g_autofree guint64 *l2 = g_malloc(VR_CHUNK_SIZE);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    Qcow2Header header;
    gboolean empty;
    gboolean ok =
        fd >= 0 && pread(fd, &header, sizeof header, 0) == sizeof header &&
        load_table(fd, GUINT64_FROM_BE(header.l1_offset), chunk / QCOW2_L2_ENTRIES, l2, &empty);

    if (ok)
        *ret_has = l2[chunk % QCOW2_L2_ENTRIES] != 0;
    else
        vr_set_error_errno(error, errno, "cannot read a table of layer '%s'", path);
    if (fd >= 0)
        close(fd);
    return ok;
}
