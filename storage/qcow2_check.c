/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/layer.h"
#include "storage/qcow2_format.h"

#define HEADER_READ 4096
#define HEADER_LEN_MAX 112 /* with the compression type, which must be 0 (zlib, unused) */

static gboolean
refuse(GError **error, const char *path, const char *field)
{
    vr_set_error(error, VR_ERROR_CORRUPT, "layer-damaged",
                 "Restore the file from a backup of the store, or start replication anew.",
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
static gboolean
read_start(const char *path, guint8 ret_block[HEADER_READ], guint64 *ret_file_size, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    gssize n = -1;

    memset(ret_block, 0, HEADER_READ);
    if (fd >= 0 && fstat(fd, &st) == 0)
        n = pread(fd, ret_block, HEADER_READ, 0);
    if (n < 0) {
        vr_set_error_errno(error, errno, "cannot read layer '%s'", path);
        if (fd >= 0)
            close(fd);
        return FALSE;
    }
    close(fd);
    if (!S_ISREG(st.st_mode))
        return refuse(error, path, "file type");
    *ret_file_size = (guint64) st.st_size;
    return TRUE;
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

gboolean
vr_qcow2_check_header(const char *path, guint64 size_bytes, const char *backing, GError **error)
{
    guint8 block[HEADER_READ];
    guint64 file_size;
    Qcow2Header h;
    gboolean format = FALSE;
    const char *bad;

    if (!read_start(path, block, &file_size, error))
        return FALSE;
    memcpy(&h, block, sizeof h);
    header_to_host(&h);
    bad = bad_fixed_field(&h, size_bytes);
    if (!bad && (h.header_len < sizeof h || h.header_len > HEADER_LEN_MAX ||
                 h.header_len % 8 != 0 || (h.header_len == HEADER_LEN_MAX && block[sizeof h] != 0)))
        bad = "header length";
    if (!bad)
        bad = bad_extension(block, h.header_len, &format);
    if (!bad)
        bad = bad_table(&h, file_size);
    if (!bad)
        bad = bad_backing(&h, block, format, backing);
    return bad ? refuse(error, path, bad) : TRUE;
}
