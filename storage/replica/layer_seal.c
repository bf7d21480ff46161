/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/replica/layer_private.h"

/* Refcounts are computed from the tables: a cluster that was allocated and given up again is free.
 */

typedef struct {
    guint64 table;    /* cluster of the refcount table; the blocks follow it */
    guint64 n_table;  /* clusters */
    guint64 n_blocks; /* clusters */
    guint8 *map;      /* table and blocks */
    gsize map_len;
} Refcounts;

/* @used: clusters before them. */
static void
refcounts_plan(guint64 used, Refcounts *refs)
{
    guint64 total = 0;

    refs->table = used;
    refs->n_table = refs->n_blocks = 1;
    while (total != refs->table + refs->n_table + refs->n_blocks) {
        total = refs->table + refs->n_table + refs->n_blocks;
        refs->n_blocks = (total + QCOW2_REFBLOCK_ENTRIES - 1) / QCOW2_REFBLOCK_ENTRIES;
        refs->n_table = qcow2_clusters(refs->n_blocks * 8);
    }
    refs->map_len = (refs->n_table + refs->n_blocks) * VR_CHUNK_SIZE;
}

static void
refcount_set(Refcounts *refs, guint64 cluster)
{
    guint16 one = GUINT16_TO_BE(1);

    memcpy(refs->map + refs->n_table * VR_CHUNK_SIZE + cluster * 2, &one, sizeof one);
}

/* One L2 table and the clusters it refers to. */
static gboolean
refcounts_of_l2(VrLayer *self, Refcounts *refs, guint64 l2, guint64 *entries, GError **error)
{
    guint64 first = l2 * QCOW2_L2_ENTRIES;
    guint64 n = MIN(QCOW2_L2_ENTRIES, self->chunks - first);

    if (!vr_layer_entries(self, first, n, entries, error))
        return FALSE;
    refcount_set(refs, self->l2_start / VR_CHUNK_SIZE + l2);
    for (guint64 i = 0; i < n; i++) {
        guint64 offset = entries[i] & QCOW2_OFFSET_MASK;

        if (offset != 0)
            refcount_set(refs, offset / VR_CHUNK_SIZE);
    }
    return TRUE;
}

static gboolean
refcounts_fill(VrLayer *self, Refcounts *refs, GError **error)
{
    g_autofree guint64 *entries = g_new(guint64, QCOW2_L2_ENTRIES);

    for (guint64 i = 0; i < refs->n_blocks; i++) {
        guint64 raw = GUINT64_TO_BE((refs->table + refs->n_table + i) * VR_CHUNK_SIZE);
        memcpy(refs->map + i * 8, &raw, sizeof raw);
    }
    for (guint64 i = 0; i < self->l2_start / VR_CHUNK_SIZE; i++)
        refcount_set(refs, i);
    for (guint64 i = 0; i < refs->n_table + refs->n_blocks; i++)
        refcount_set(refs, refs->table + i);
    for (guint64 l2 = 0; l2 < self->n_l2; l2++) {
        if (self->touched[l2] && !refcounts_of_l2(self, refs, l2, entries, error))
            return FALSE;
    }
    return TRUE;
}

/* The file ends behind the refcount blocks; their room is allocated before the mapping is written.
 */
static gboolean
write_refcounts(VrLayer *self, Refcounts *refs, GError **error)
{
    off_t start = (off_t) (refs->table * VR_CHUNK_SIZE);
    gboolean ok;
    void *map;

    if (ftruncate(self->fd, start) < 0) {
        vr_layer_set_errno(self, "size", error);
        return FALSE;
    }
    errno = posix_fallocate(self->fd, start, (off_t) refs->map_len);
    if (errno != 0) {
        vr_layer_set_errno(self, "write refcounts of", error);
        return FALSE;
    }
    map = mmap(NULL, refs->map_len, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, start);
    if (map == MAP_FAILED) {
        vr_layer_set_errno(self, "map refcounts of", error);
        return FALSE;
    }
    refs->map = map;
    ok = refcounts_fill(self, refs, error);
    munmap(map, refs->map_len);
    return ok;
}

/* Returns FALSE in @ret_any if no table has an entry. */
static gboolean
write_l1(VrLayer *self, gboolean *ret_any, GError **error)
{
    g_autofree guint64 *l1 = g_new0(guint64, self->n_l2);

    *ret_any = FALSE;
    for (guint64 i = 0; i < self->n_l2; i++) {
        if (!self->touched[i])
            continue;
        l1[i] = GUINT64_TO_BE((self->l2_start + i * VR_CHUNK_SIZE) | QCOW2_ENTRY_COPIED);
        *ret_any = TRUE;
    }
    if (!vr_layer_pwrite(self->fd, l1, self->n_l2 * 8, VR_CHUNK_SIZE)) {
        vr_layer_set_errno(self, "write", error);
        return FALSE;
    }
    return TRUE;
}

static gsize
put_be32_pair(guint8 *p, guint32 a, guint32 b)
{
    guint32 raw[2] = {GUINT32_TO_BE(a), GUINT32_TO_BE(b)};

    memcpy(p, raw, sizeof raw);
    return sizeof raw;
}

static gboolean
write_header(VrLayer *self, const Refcounts *refs, const char *backing, GError **error)
{
    guint8 block[4096] = {0};
    gsize used = sizeof(Qcow2Header);
    Qcow2Header header = {
        .magic = GUINT32_TO_BE(QCOW2_MAGIC),
        .version = GUINT32_TO_BE(QCOW2_VERSION),
        .cluster_bits = GUINT32_TO_BE(QCOW2_CLUSTER_BITS),
        .size_bytes = GUINT64_TO_BE(self->size_bytes),
        .l1_size = GUINT32_TO_BE((guint32) self->n_l2),
        .l1_offset = GUINT64_TO_BE((guint64) VR_CHUNK_SIZE),
        .reftable_offset = GUINT64_TO_BE(refs->table * VR_CHUNK_SIZE),
        .reftable_clusters = GUINT32_TO_BE((guint32) refs->n_table),
        .refcount_order = GUINT32_TO_BE(QCOW2_REFCOUNT_ORDER),
        .header_len = GUINT32_TO_BE((guint32) sizeof(Qcow2Header)),
    };

    if (backing) {
        used += put_be32_pair(block + used, QCOW2_EXT_BACKING_FORMAT, 5);
        memcpy(block + used, "qcow2", 5);
        used += 8;
    }
    used += put_be32_pair(block + used, QCOW2_EXT_END, 0);
    if (backing) {
        gsize len = strlen(backing);

        g_return_val_if_fail(len > 0 && len <= 1023, FALSE);
        memcpy(block + used, backing, len);
        header.backing_offset = GUINT64_TO_BE((guint64) used);
        header.backing_len = GUINT32_TO_BE((guint32) len);
    }
    memcpy(block, &header, sizeof header);
    if (!vr_layer_pwrite(self->fd, block, sizeof block, 0)) {
        vr_layer_set_errno(self, "write the header of", error);
        return FALSE;
    }
    return TRUE;
}

static gboolean
sync_file(VrLayer *self, GError **error)
{
    if (fsync(self->fd) == 0)
        return TRUE;
    vr_layer_set_errno(self, "sync", error);
    return FALSE;
}

gboolean
vr_layer_seal(VrLayer *self, const char *backing, GError **error)
{
    Refcounts refs = {0};
    gboolean any;

    refcounts_plan(self->next, &refs);
    if (!write_l1(self, &any, error) || !write_refcounts(self, &refs, error))
        return FALSE;
    /* A layer without entries has nothing that the header could come before. */
    if (any && !sync_file(self, error))
        return FALSE;
    if (!write_header(self, &refs, backing, error))
        return FALSE;
    if (fchmod(self->fd, 0400) < 0) {
        vr_layer_set_errno(self, "protect", error);
        return FALSE;
    }
    return sync_file(self, error);
}

guint64
vr_layer_empty_bytes(guint64 size_bytes)
{
    guint64 n_l2 = vr_layer_n_l2(qcow2_clusters(size_bytes));
    guint64 front = vr_layer_l2_start(n_l2);
    Refcounts refs = {0};

    refcounts_plan(front / VR_CHUNK_SIZE + n_l2, &refs);
    return front + refs.map_len;
}
