/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/extent.h"
#include "storage/util/chunk.h"

G_BEGIN_DECLS

/**
 * SECTION: digests of what the newest recovery point of one disk holds (head), and the changes of
 * the cycle that is under way (overlay). Both ends of a protection keep one.
 *
 * Files in @dir, all mapped and sparse, so memory does not grow with the disk:
 *   DISK.sums     16 bytes a chunk, the head
 *   DISK.groups   SHA-256 over each group of 4096 chunks of the head; zero for a group of zeros
 *   DISK.next     16 bytes a chunk, valid where DISK.map has the chunk's bit
 *   DISK.map      one bit a chunk: changed by the overlay
 *
 * A commit is: vr_manifest_flush(), record the commit durably elsewhere, vr_manifest_apply(). After
 * a crash between the two, apply again; after a crash before, go on with the overlay or discard it.
 * A host that lost power may have an overlay that was never flushed and is not what was set:
 * discard it or prove each chunk.
 *
 * flush, apply, discard, reset and close: while no other thread uses the manifest.
 */
typedef struct _VrManifest VrManifest;

#define VR_MANIFEST_GROUP_CHUNKS ((guint64) 4096)
#define VR_ROOT_LEN 32

/**
 * vr_manifest_open:
 * @disk: a valid disk name; becomes part of file names
 * @size_bytes: virtual size; a different size than before grows or cuts the files: chunks beyond
 *   the new end are forgotten and grown ones are zero, in head and overlay
 *
 * Creates missing files (0600). One opener at a time. Errors: NO_SPACE, INTERNAL.
 */
VrManifest *vr_manifest_open(const char *dir, const char *disk, guint64 size_bytes, GError **error);
void vr_manifest_close(VrManifest *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrManifest, vr_manifest_close)

/** Removes all four files; missing ones are fine. */
gboolean vr_manifest_remove(const char *dir, const char *disk, GError **error);

guint64 vr_manifest_chunks(const VrManifest *self);
guint64 vr_manifest_size(const VrManifest *self);

/** Overlay where it has the chunk, else head. Any thread. */
void vr_manifest_get(const VrManifest *self, guint64 chunk, VrDigest *ret_digest);

/** TRUE if the overlay holds the chunk. */
gboolean vr_manifest_in_overlay(const VrManifest *self, guint64 chunk);

/** Into the overlay. Threads may set different chunks at once; the same chunk by one thread only.
 *  Errors: NO_SPACE (room is allocated before the mapping is written; the chunk is left as it was).
 */
gboolean vr_manifest_set(VrManifest *self, guint64 chunk, const VrDigest *digest,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** A run of zero chunks into the overlay. On NO_SPACE some of them may be in it. */
gboolean vr_manifest_set_zero(VrManifest *self, guint64 first, guint64 count,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** First chunk in [@from, @end) that is non-zero in the effective view, or @end. Jumps over groups
 *  of zeros. Any thread. */
guint64 vr_manifest_next_nonzero(const VrManifest *self, guint64 from, guint64 end);

/** Chunk-aligned ranges that are non-zero in the effective view (clipped to the disk). (transfer
 * full) */
VrExtents *vr_manifest_nonzero(const VrManifest *self);

/** Chunk-aligned ranges that the overlay holds. (transfer full) */
VrExtents *vr_manifest_overlay_extents(const VrManifest *self);

/** Digest of the effective view: SHA-256 over (group number as u64 LE, group digest) of every group
 *  that is not all zeros, in order. Rehashes only groups the overlay touched. */
void vr_manifest_root(const VrManifest *self, guint8 ret_root[VR_ROOT_LEN]);

/** Overlay durable on disk. */
gboolean vr_manifest_flush(VrManifest *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Overlay into the head, durably, then the overlay is emptied. Safe to repeat after a crash. */
gboolean vr_manifest_apply(VrManifest *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Overlay emptied. */
gboolean vr_manifest_discard(VrManifest *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Head emptied as well (all zero): the replica holds nothing. */
gboolean vr_manifest_reset(VrManifest *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * SECTION: root of a recovery point: SHA-256 over a canonical text of the disks (sorted by name:
 * name, size, disk root) and attachments (sorted by name: name, size, SHA-256).
 */
typedef struct _VrRootBuilder VrRootBuilder;
VrRootBuilder *vr_root_builder_new(void);
void vr_root_builder_free(VrRootBuilder *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrRootBuilder, vr_root_builder_free)
void vr_root_builder_add_disk(VrRootBuilder *self, const char *name, guint64 size_bytes,
                              const guint8 root[VR_ROOT_LEN]);
void vr_root_builder_add_attachment(VrRootBuilder *self, const char *name, guint64 size_bytes,
                                    const char *sha256_hex);
/** 64 lower-case hex digits. (transfer full) */
char *vr_root_builder_finish(VrRootBuilder *self);

G_END_DECLS
