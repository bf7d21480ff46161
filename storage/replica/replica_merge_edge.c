/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/replica/layer_verify.h"
#include "storage/replica/replica_private.h"

/*
 * Where a disk's size changed inside of a chunk, QEMU wipes that chunk's rest when the two layers
 * are merged. The lower layer gets a chunk of its own by that which it had not: the same content,
 * and so the digest that showed through.
 */

/* Digest of @chunk as RP @index shows it. */
static gboolean
shown_digest(VrReplica *self, GPtrArray *rows, guint index, const char *disk, guint64 chunk,
             VrDigest *ret_digest, GError **error)
{
    *ret_digest = (VrDigest){{0}};
    for (;; index--) {
        const VrRpRow *row = rows->pdata[index];
        g_autofree char *path =
            vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".sums", disk, row->rp.number);
        g_auto(VrSumsReader) sums = {0};

        if (!vr_sums_reader_open(&sums, path, error) || !vr_sums_reader_seek(&sums, chunk, error))
            return FALSE;
        if (sums.chunk == chunk) {
            *ret_digest = sums.digest;
            return TRUE;
        }
        if (chunk >= vr_chunk_count(vr_replica_row_disk_floor(rows, index, disk)))
            return TRUE;
    }
}

gboolean
vr_merge_edge(VrReplica *self, GPtrArray *rows, guint index, const char *disk, const char *lower,
              VrSumsRecord *ret_edge, GError **error)
{
    guint64 size_lower = vr_replica_row_disk_size(rows->pdata[index], disk);
    guint64 size_upper = vr_replica_row_disk_size(rows->pdata[index + 1], disk);
    guint64 edge = MIN(size_lower, size_upper);
    gboolean has = FALSE;

    ret_edge->chunk = G_MAXUINT64;
    if (size_lower == size_upper || edge % VR_CHUNK_SIZE == 0)
        return TRUE;
    if (!vr_layer_has(lower, edge / VR_CHUNK_SIZE, &has, error))
        return FALSE;
    if (has)
        ret_edge->chunk = edge / VR_CHUNK_SIZE;
    return !has ||
           shown_digest(self, rows, index, disk, edge / VR_CHUNK_SIZE, &ret_edge->digest, error);
}
