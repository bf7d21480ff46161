/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/replica/layer.h"
#include "storage/util/qcow2_format.h"

#define HEADER_READ 4096
#define HEADER_LEN_MAX 112 /* with the compression type, which must be 0 (zlib, unused) */

#define ACTION "Run sync on the source: what is lost is sent again. Or put the file back."

static gboolean
refuse(GError **error, const char *path, const char *field)
{
    vr_set_error(error, VR_ERROR_CORRUPT, "layer-damaged", ACTION,
                 "layer '%s': %s is not what was written", path, field);
    return FALSE;
}

static void
header_to_host(Qcow2Header *h)
{
    h->magic = GUINT32_FROM_BE(h->magic);
    h->version = GUINT32_FROM_BE(h->version);
    h->backing_offset = GUINT64_FROM_BE(h->backing_offset);
    h->backing_len = GUINT32_FROM_BE(h->backing_len);
    h->cluster_bits = GUINT32_FROM_BE(h->cluster_bits);
    h->size_bytes = GUINT64_FROM_BE(h->size_bytes);
    h->l1_size = GUINT32_FROM_BE(h->l1_size);
    h->l1_offset = GUINT64_FROM_BE(h->l1_offset);
    h->reftable_offset = GUINT64_FROM_BE(h->reftable_offset);
    h->reftable_clusters = GUINT32_FROM_BE(h->reftable_clusters);
    h->refcount_order = GUINT32_FROM_BE(h->refcount_order);
    h->header_len = GUINT32_FROM_BE(h->header_len);
}

/* Reads the first bytes; a short file leaves zeros. */
static int
open_layer(const char *path, guint64 *ret_file_size, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;

    if (fd < 0 && (errno == ENOENT || errno == ELOOP)) {
        vr_set_error(error, VR_ERROR_CORRUPT, "layer-damaged", ACTION, "layer '%s' is not there",
                     path);
        return -1;
    }
    if (fd < 0 || fstat(fd, &st) < 0) {
        vr_set_error_errno(error, errno, "cannot read layer '%s'", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        refuse(error, path, "file type");
        return -1;
    }
    *ret_file_size = (guint64) st.st_size;
    return fd;
}

/* What a short file does not have reads as zeros. */
static gboolean
read_at(int fd, const char *path, guint64 offset, void *ret_data, gsize len, GError **error)
{
    gssize n = pread(fd, ret_data, len, (off_t) offset);

    if (n < 0) {
        vr_set_error_errno(error, errno, "cannot read layer '%s'", path);
        return FALSE;
    }
    memset((guint8 *) ret_data + n, 0, len - (gsize) n);
    return TRUE;
}

/* Index of the last entry of @width bytes that is not 0; -1: none. */
static gint64
last_used(const guint8 *table, gsize len, gsize width)
{
    for (gsize i = len; i > 0; i--) {
        if (table[i - 1] != 0)
            return (gint64) ((i - 1) / width);
    }
    return -1;
}

/* The refcounts tell which cluster is the last in use: a file that ends before it was cut. */
static gboolean
check_end(int fd, const char *path, const Qcow2Header *h, guint64 file_size, GError **error)
{
    g_autofree guint8 *cluster = g_malloc(VR_CHUNK_SIZE);

    for (guint32 t = h->reftable_clusters; t > 0; t--) {
        guint64 table = h->reftable_offset + (guint64) (t - 1) * VR_CHUNK_SIZE;
        gint64 block, used;
        guint64 raw;

        if (!read_at(fd, path, table, cluster, VR_CHUNK_SIZE, error))
            return FALSE;
        while ((block = last_used(cluster, VR_CHUNK_SIZE, 8)) >= 0) {
            g_autofree guint8 *refs = g_malloc(VR_CHUNK_SIZE);
            guint64 first =
                ((guint64) (t - 1) * QCOW2_L2_ENTRIES + (guint64) block) * QCOW2_REFBLOCK_ENTRIES;

            memcpy(&raw, cluster + block * 8, 8);
            raw = GUINT64_FROM_BE(raw);
            if (raw % VR_CHUNK_SIZE != 0 || raw >= file_size)
                return refuse(error, path, "place of the refcounts");
            if (!read_at(fd, path, raw, refs, VR_CHUNK_SIZE, error))
                return FALSE;
            used = last_used(refs, VR_CHUNK_SIZE, 2);
            if (used >= 0)
                return (first + (guint64) used) * VR_CHUNK_SIZE < file_size
                           ? TRUE
                           : refuse(error, path, "length");
            memset(cluster + block * 8, 0, 8);
        }
    }
    return refuse(error, path, "set of refcounts");
}

/* @ret_format: "qcow2" seen as backing format. Only extensions without influence on content may
 * occur. */
static const char *
bad_extension(const guint8 *block, guint32 start, gboolean *ret_format)
{
    gsize pos = start;

    *ret_format = FALSE;
    for (;;) {
        guint32 raw[2], type, len;

        if (pos + sizeof raw > HEADER_READ)
            return "list of extensions";
        memcpy(raw, block + pos, sizeof raw);
        type = GUINT32_FROM_BE(raw[0]);
        len = GUINT32_FROM_BE(raw[1]);
        pos += sizeof raw;
        if (type == QCOW2_EXT_END)
            return NULL;
        if (len > HEADER_READ - pos)
            return "length of an extension";
        if (type == QCOW2_EXT_BACKING_FORMAT) {
            if (len != 5 || memcmp(block + pos, "qcow2", 5) != 0)
                return "backing format";
            *ret_format = TRUE;
        } else if (type != QCOW2_EXT_FEATURE_NAMES) {
            return "type of an extension";
        }
        pos += (len + 7) & ~(gsize) 7;
    }
}

static const char *
bad_fixed_field(const Qcow2Header *h, guint64 size_bytes)
{
    if (h->magic != QCOW2_MAGIC)
        return "magic";
    if (h->version != QCOW2_VERSION)
        return "version";
    if (h->cluster_bits != QCOW2_CLUSTER_BITS)
        return "cluster size";
    if (h->crypt_method != 0)
        return "encryption";
    if (h->incompatible != 0)
        return "set of incompatible features";
    if (h->autoclear != 0)
        return "set of autoclear features";
    if (h->n_snapshots != 0)
        return "number of internal snapshots";
    if (h->refcount_order != QCOW2_REFCOUNT_ORDER)
        return "refcount width";
    if (h->size_bytes != size_bytes)
        return "virtual size";
    return NULL;
}

static gboolean
inside(guint64 offset, guint64 len, guint64 file_size)
{
    return offset >= VR_CHUNK_SIZE && offset % VR_CHUNK_SIZE == 0 && offset <= file_size &&
           len <= file_size - offset;
}

static const char *
bad_table(const Qcow2Header *h, guint64 file_size)
{
    guint64 l2_bytes = QCOW2_L2_ENTRIES * VR_CHUNK_SIZE;

    if (h->l1_size < (h->size_bytes + l2_bytes - 1) / l2_bytes)
        return "size of the L1 table";
    if (!inside(h->l1_offset, (guint64) h->l1_size * 8, file_size))
        return "place of the L1 table";
    if (h->reftable_clusters == 0 ||
        !inside(h->reftable_offset, (guint64) h->reftable_clusters * VR_CHUNK_SIZE, file_size))
        return "place of the refcount table";
    return NULL;
}

static const char *
bad_backing(const Qcow2Header *h, const guint8 *block, gboolean format, const char *backing)
{
    gsize len = backing ? strlen(backing) : 0;

    if (h->backing_len != len || (h->backing_offset != 0) != (len != 0))
        return "backing file";
    if (!backing)
        return NULL;
    if (!format)
        return "backing format";
    if (h->backing_offset > HEADER_READ || len > HEADER_READ - h->backing_offset ||
        memcmp(block + h->backing_offset, backing, len) != 0)
        return "backing file";
    return NULL;
}

/* All that the header itself tells. */
static const char *
bad_header(const guint8 *block, guint64 file_size, guint64 size_bytes, const char *backing,
           Qcow2Header *h)
{
    gboolean format = FALSE;
    const char *bad;

    memcpy(h, block, sizeof *h);
    header_to_host(h);
    bad = bad_fixed_field(h, size_bytes);
    if (!bad && (h->header_len < sizeof *h || h->header_len > HEADER_LEN_MAX ||
                 h->header_len % 8 != 0 || (h->header_len == HEADER_LEN_MAX && block[sizeof *h])))
        bad = "header length";
    if (!bad)
        bad = bad_extension(block, h->header_len, &format);
    if (!bad)
        bad = bad_table(h, file_size);
    return bad ? bad : bad_backing(h, block, format, backing);
}

gboolean
vr_qcow2_check_header(const char *path, guint64 size_bytes, const char *backing, GError **error)
{
    guint8 block[HEADER_READ];
    guint64 file_size = 0;
    int fd = open_layer(path, &file_size, error);
    const char *bad = NULL;
    Qcow2Header h;
    gboolean ok;

    if (fd < 0)
        return FALSE;
    ok = read_at(fd, path, 0, block, sizeof block, error);
    if (ok)
        bad = bad_header(block, file_size, size_bytes, backing, &h);
    ok = ok && (bad ? refuse(error, path, bad) : check_end(fd, path, &h, file_size, error));
    close(fd);
    return ok;
}
