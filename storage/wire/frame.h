/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/util/chunk.h"

G_BEGIN_DECLS

/**
 * SECTION: the wire form of chunks. A body is a row of frames, at most VR_BODY_MAX bytes.
 *
 * Frame: 40-byte little-endian header, then `length` payload bytes.
 *   u32 magic "VRF1"  u16 disk  u16 kind  u64 chunk  u32 count  u32 length  u8 digest[16]
 * kind RAW: count 1, length 65536; ZSTD: count 1, length 1..65535, one zstd frame whose content is
 * exactly 65536 bytes; ZERO: count chunks of zeros from `chunk` on, length 0, digest zero.
 */
#define VR_BODY_MAX ((gsize) (8 * 1024 * 1024))
#define VR_FRAME_HEADER_LEN 40

typedef enum { VR_FRAME_RAW = 0, VR_FRAME_ZSTD = 1, VR_FRAME_ZERO = 2 } VrFrameKind;

typedef struct {
    guint16 disk; /* index in BEGIN's list */
    VrFrameKind kind;
    guint64 chunk;
    guint32 count;
    guint32 length;
    VrDigest digest;
} VrFrameHeader;

/** Appends one frame. @data 64 KiB. With @compress, ZSTD if that is smaller. Not thread-safe on one
 * @body. */
void vr_frame_append_chunk(GByteArray *body, guint16 disk, guint64 chunk, const guint8 *data,
                           const VrDigest *digest, gboolean compress);
void vr_frame_append_zero(GByteArray *body, guint16 disk, guint64 chunk, guint32 count);

/**
 * vr_frame_next:
 * @p, @len: rest of a body; advanced past the frame on success
 * @ret_payload: (transfer none): inside the body
 *
 * Checks magic, kind, lengths against the kind and against @len. Errors: INVALID.
 */
gboolean vr_frame_next(const guint8 **p, gsize *len, VrFrameHeader *ret_header,
                       const guint8 **ret_payload, GError **error);

/** Payload of a RAW or ZSTD frame into exactly 64 KiB and its digest checked. Decompression is
 * bounded by the output. Errors: INVALID (not a frame of a chunk), CORRUPT (digest differs). */
gboolean vr_frame_decode(const VrFrameHeader *header, const guint8 *payload, guint8 *ret_data,
                         GError **error);

G_END_DECLS
