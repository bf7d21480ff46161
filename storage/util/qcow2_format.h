/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/util/chunk.h"

/** SECTION: the part of the qcow2 version 3 format that layers use (docs/interop/qcow2.txt of
 * QEMU); big-endian. */

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_VERSION 3
#define QCOW2_CLUSTER_BITS 16
#define QCOW2_REFCOUNT_ORDER 4
#define QCOW2_EXT_END 0u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURE_NAMES 0x6803f857u

#define QCOW2_ENTRY_COPIED (G_GUINT64_CONSTANT(1) << 63)
#define QCOW2_ENTRY_ZERO G_GUINT64_CONSTANT(1)
#define QCOW2_OFFSET_MASK G_GUINT64_CONSTANT(0x00fffffffffffe00)

#define QCOW2_L2_ENTRIES ((guint64) VR_CHUNK_SIZE / 8)
#define QCOW2_REFBLOCK_ENTRIES ((guint64) VR_CHUNK_SIZE / 2)

typedef struct {
    guint32 magic;
    guint32 version;
    guint64 backing_offset;
    guint32 backing_len;
    guint32 cluster_bits;
    guint64 size_bytes;
    guint32 crypt_method;
    guint32 l1_size;
    guint64 l1_offset;
    guint64 reftable_offset;
    guint32 reftable_clusters;
    guint32 n_snapshots;
    guint64 snapshots_offset;
    guint64 incompatible;
    guint64 compatible;
    guint64 autoclear;
    guint32 refcount_order;
    guint32 header_len;
} Qcow2Header;

G_STATIC_ASSERT(sizeof(Qcow2Header) == 104);

static inline guint64
qcow2_clusters(guint64 bytes)
{
    return (bytes + VR_CHUNK_SIZE - 1) / VR_CHUNK_SIZE;
}
