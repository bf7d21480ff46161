/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: the 64 KiB chunk: one qcow2 cluster, one bitmap granule, one digest. */

#define VR_CHUNK_SIZE ((guint32) 65536)
#define VR_DIGEST_LEN 16

/** First 16 bytes of SHA-256 over the 64 KiB; all zero bytes stand for a chunk of zeros. */
typedef struct {
    guint8 b[VR_DIGEST_LEN];
} VrDigest;

/** Chunks of a disk of @size_bytes; the last one may be partial and is digested padded with zeros.
 */
guint64 vr_chunk_count(guint64 size_bytes);

/** @data: 64 KiB. Zeros give the zero digest without hashing. Any thread. */
void vr_chunk_digest(const guint8 *data, VrDigest *ret_digest);

gboolean vr_chunk_is_zero(const guint8 *data, gsize len);
gboolean vr_digest_is_zero(const VrDigest *digest);
gboolean vr_digest_equal(const VrDigest *a, const VrDigest *b);

G_END_DECLS
