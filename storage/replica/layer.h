/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/util/chunk.h"

G_BEGIN_DECLS

/**
 * SECTION: writer of one qcow2 layer (version 3, 64 KiB clusters), write-once with a known end.
 *
 * While it is written the file has no header and is nothing to any reader. L1 and L2 tables live in
 * a sparse area at the front, data clusters are appended behind it, refcounts and last of
 * all the header are written by vr_layer_seal().
 */
typedef struct _VrLayer VrLayer;

/** @size_bytes: virtual size, 1 .. 64 TiB, multiple of 512. New file, 0600, O_EXCL. Errors:
 * NO_SPACE, CONFLICT, INTERNAL. */
VrLayer *vr_layer_create(const char *path, guint64 size_bytes, GError **error);

/** An unsealed layer found after a restart. Content is to be proven with vr_layer_read(). */
VrLayer *vr_layer_reopen(const char *path, guint64 size_bytes, GError **error);

void vr_layer_close(VrLayer *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrLayer, vr_layer_close)

/**
 * vr_layer_write:
 * @chunks: (array length=n): their numbers; each data block is 64 KiB at @data + i * 64 KiB
 * @data: aligned to 4096 bytes (for O_DIRECT; where the file system refuses that, buffered)
 *
 * New chunks get consecutive clusters, written with as few calls as possible; a chunk written
 * before in this layer is overwritten in place. Threads may write different chunks at once. Not
 * durable before seal.
 */
gboolean vr_layer_write(VrLayer *self, const guint64 *chunks, guint n, const guint8 *data,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Chunks read as zeros whatever the backing file holds. */
gboolean vr_layer_zero(VrLayer *self, guint64 first, guint64 count,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** FALSE with NOT_FOUND if the layer has no entry for the chunk; a zero entry gives zeros. */
gboolean vr_layer_read(VrLayer *self, guint64 chunk, guint8 *ret_data, GError **error);

/** Forgets the chunk's entry (reads fall through to the backing file again); its room is not given
 * back. */
gboolean vr_layer_drop(VrLayer *self, guint64 chunk, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** First chunk from @from on that has an entry, or the number of chunks of the disk. */
gboolean vr_layer_next(const VrLayer *self, guint64 from, guint64 *ret_chunk,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** What a sealed layer without any chunk takes of the store, at most: header, L1 and refcounts. */
guint64 vr_layer_empty_bytes(guint64 size_bytes);

/**
 * vr_layer_seal:
 * @backing: (nullable): file name of the layer below, in the same directory; its format is qcow2
 *
 * Writes refcounts, fsyncs, writes the header, fsyncs. The file is then read-only (0400) to us.
 */
gboolean vr_layer_seal(VrLayer *self, const char *backing,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * vr_qcow2_check_header:
 *
 * Own reading of a layer's header before QEMU sees it: magic, version 3, cluster bits 16, no
 * incompatible feature, no encryption, no data file, size @size_bytes, backing name exactly
 * @backing (or none) with format qcow2, tables inside the file, the file as long as its refcounts
 * say. Cheap whatever the size. Errors: CORRUPT naming the field; those of reading it.
 */
gboolean vr_qcow2_check_header(const char *path, guint64 size_bytes, const char *backing,
                               GError **error);

G_END_DECLS
