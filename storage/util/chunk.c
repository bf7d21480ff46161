/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/util/chunk.h"

#include <string.h>

#include "storage/util/sha256.h"

guint64
vr_chunk_count(guint64 size_bytes)
{
    return size_bytes / VR_CHUNK_SIZE + (size_bytes % VR_CHUNK_SIZE != 0);
}

/* The buffer is zeros if its head is and it equals itself moved by the head's length. */
gboolean
vr_chunk_is_zero(const guint8 *data, gsize len)
{
    static const guint8 zeros[16];
    gsize head = MIN(len, sizeof(zeros));

    return memcmp(data, zeros, head) == 0 && memcmp(data, data + head, len - head) == 0;
}

void
vr_chunk_digest(const guint8 *data, VrDigest *ret_digest)
{
    guint8 sha256[VR_SHA256_LEN];

    if (vr_chunk_is_zero(data, VR_CHUNK_SIZE)) {
        memset(ret_digest, 0, sizeof(*ret_digest));
        return;
    }
    vr_sha256(data, VR_CHUNK_SIZE, sha256);
    memcpy(ret_digest->b, sha256, VR_DIGEST_LEN);
}

gboolean
vr_digest_is_zero(const VrDigest *digest)
{
    static const VrDigest zero;

    return vr_digest_equal(digest, &zero);
}

gboolean
vr_digest_equal(const VrDigest *a, const VrDigest *b)
{
    return memcmp(a->b, b->b, VR_DIGEST_LEN) == 0;
}
