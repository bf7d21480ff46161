/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/wire/frame.h"

#include <string.h>
#include <zstd.h>

#include "policies/error.h"

#define MAGIC 0x31465256u /* "VRF1" read as little-endian */
#define LEVEL 1

static void
put16(guint8 *p, guint16 value)
{
    value = GUINT16_TO_LE(value);
    memcpy(p, &value, sizeof(value));
}

static void
put32(guint8 *p, guint32 value)
{
    value = GUINT32_TO_LE(value);
    memcpy(p, &value, sizeof(value));
}

static void
put64(guint8 *p, guint64 value)
{
    value = GUINT64_TO_LE(value);
    memcpy(p, &value, sizeof(value));
}

static guint16
get16(const guint8 *p)
{
    guint16 value;

    memcpy(&value, p, sizeof(value));
    return GUINT16_FROM_LE(value);
}

static guint32
get32(const guint8 *p)
{
    guint32 value;

    memcpy(&value, p, sizeof(value));
    return GUINT32_FROM_LE(value);
}

static guint64
get64(const guint8 *p)
{
    guint64 value;

    memcpy(&value, p, sizeof(value));
    return GUINT64_FROM_LE(value);
}

static void
put_header(guint8 *p, const VrFrameHeader *header)
{
    put32(p, MAGIC);
    put16(p + 4, header->disk);
    put16(p + 6, (guint16) header->kind);
    put64(p + 8, header->chunk);
    put32(p + 16, header->count);
    put32(p + 20, header->length);
    memcpy(p + 24, header->digest.b, VR_DIGEST_LEN);
}

static void
compressor_free(gpointer context)
{
    ZSTD_freeCCtx(context);
}

static void
decompressor_free(gpointer context)
{
    ZSTD_freeDCtx(context);
}

/* Per thread, NULL if there is no memory for one. */
static ZSTD_CCtx *
compressor(void)
{
    static GPrivate contexts = G_PRIVATE_INIT(compressor_free);

    if (!g_private_get(&contexts))
        g_private_set(&contexts, ZSTD_createCCtx());
    return g_private_get(&contexts);
}

static ZSTD_DCtx *
decompressor(void)
{
    static GPrivate contexts = G_PRIVATE_INIT(decompressor_free);

    if (!g_private_get(&contexts))
        g_private_set(&contexts, ZSTD_createDCtx());
    return g_private_get(&contexts);
}

/* Length of the zstd frame put at @to, or 0 if it would not be smaller than the chunk. */
static guint32
compress_chunk(guint8 *to, const guint8 *data)
{
    ZSTD_CCtx *context = compressor();
    gsize len;

    if (!context)
        return 0;
    len = ZSTD_compressCCtx(context, to, VR_CHUNK_SIZE - 1, data, VR_CHUNK_SIZE, LEVEL);
    return ZSTD_isError(len) ? 0 : (guint32) len;
}

void
vr_frame_append_chunk(GByteArray *body, guint16 disk, guint64 chunk, const guint8 *data,
                      const VrDigest *digest, gboolean compress)
{
    VrFrameHeader header = {.disk = disk, .chunk = chunk, .count = 1, .digest = *digest};
    guint start = body->len;
    guint8 *payload;

    g_byte_array_set_size(body, start + VR_FRAME_HEADER_LEN + VR_CHUNK_SIZE);
    payload = body->data + start + VR_FRAME_HEADER_LEN;
    header.kind = VR_FRAME_ZSTD;
    header.length = compress ? compress_chunk(payload, data) : 0;
    if (header.length == 0) {
        header.kind = VR_FRAME_RAW;
        header.length = VR_CHUNK_SIZE;
        memcpy(payload, data, VR_CHUNK_SIZE);
    }
    put_header(body->data + start, &header);
    g_byte_array_set_size(body, start + VR_FRAME_HEADER_LEN + header.length);
}

void
vr_frame_append_zero(GByteArray *body, guint16 disk, guint64 chunk, guint32 count)
{
    VrFrameHeader header = {
        .disk = disk, .kind = VR_FRAME_ZERO, .chunk = chunk, .count = count, .length = 0};
    guint8 bytes[VR_FRAME_HEADER_LEN];

    put_header(bytes, &header);
    g_byte_array_append(body, bytes, sizeof(bytes));
}

static gboolean
bad_frame(GError **error, const char *what)
{
    vr_set_error(error, VR_ERROR_INVALID, "bad-frame", "Run the same version on both hosts.",
                 "frame of chunks: %s", what);
    return FALSE;
}

/* NULL if count, length and digest are what the kind says. */
static const char *
header_fault(const VrFrameHeader *header)
{
    if (header->count == 0 || header->chunk > G_MAXUINT64 - header->count)
        return "number of chunks out of range";
    switch (header->kind) {
    case VR_FRAME_RAW:
        if (header->count != 1 || header->length != VR_CHUNK_SIZE)
            return "length of a raw chunk is wrong";
        return NULL;
    case VR_FRAME_ZSTD:
        if (header->count != 1 || header->length == 0 || header->length >= VR_CHUNK_SIZE)
            return "length of a compressed chunk is wrong";
        return NULL;
    case VR_FRAME_ZERO:
        if (header->length != 0 || !vr_digest_is_zero(&header->digest))
            return "zero chunks with content";
        return NULL;
    }
    return "unknown kind";
}

gboolean
vr_frame_next(const guint8 **p, gsize *len, VrFrameHeader *ret_header, const guint8 **ret_payload,
              GError **error)
{
    const guint8 *at = *p;
    VrFrameHeader header;
    const char *fault;

    if (*len < VR_FRAME_HEADER_LEN)
        return bad_frame(error, "header is cut off");
    if (get32(at) != MAGIC)
        return bad_frame(error, "no magic number");
    if (get16(at + 6) > VR_FRAME_ZERO)
        return bad_frame(error, "unknown kind");
    header.disk = get16(at + 4);
    header.kind = (VrFrameKind) get16(at + 6);
    header.chunk = get64(at + 8);
    header.count = get32(at + 16);
    header.length = get32(at + 20);
    memcpy(header.digest.b, at + 24, VR_DIGEST_LEN);
    fault = header_fault(&header);
    if (fault)
        return bad_frame(error, fault);
    if (header.length > *len - VR_FRAME_HEADER_LEN)
        return bad_frame(error, "payload is cut off");
    *ret_header = header;
    *ret_payload = at + VR_FRAME_HEADER_LEN;
    *p = at + VR_FRAME_HEADER_LEN + header.length;
    *len -= VR_FRAME_HEADER_LEN + header.length;
    return TRUE;
}

/* One frame of zstd, no more, that says itself that it holds a chunk. */
static gboolean
decompress_chunk(const guint8 *payload, gsize len, guint8 *ret_data, GError **error)
{
    ZSTD_DCtx *context = decompressor();

    if (!context) {
        vr_set_error(error, VR_ERROR_TRANSIENT, "no-memory", "Free memory on this host.",
                     "no memory to decompress a chunk");
        return FALSE;
    }
    if (ZSTD_getFrameContentSize(payload, len) != VR_CHUNK_SIZE ||
        ZSTD_findFrameCompressedSize(payload, len) != len)
        return bad_frame(error, "compressed chunk is not one chunk");
    if (ZSTD_decompressDCtx(context, ret_data, VR_CHUNK_SIZE, payload, len) != VR_CHUNK_SIZE)
        return bad_frame(error, "compressed chunk cannot be decompressed");
    return TRUE;
}

static gboolean
unpack(const VrFrameHeader *header, const guint8 *payload, guint8 *ret_data, GError **error)
{
    switch (header->kind) {
    case VR_FRAME_RAW:
        memcpy(ret_data, payload, VR_CHUNK_SIZE);
        return TRUE;
    case VR_FRAME_ZSTD:
        return decompress_chunk(payload, header->length, ret_data, error);
    case VR_FRAME_ZERO:
        break;
    }
    return bad_frame(error, "no content to decode");
}

gboolean
vr_frame_decode(const VrFrameHeader *header, const guint8 *payload, guint8 *ret_data,
                GError **error)
{
    VrDigest digest;

    if (!unpack(header, payload, ret_data, error))
        return FALSE;
    vr_chunk_digest(ret_data, &digest);
    if (vr_digest_equal(&digest, &header->digest))
        return TRUE;
    vr_set_error(error, VR_ERROR_CORRUPT, "digest-differs", "Run the cycle again.",
                 "chunk %" G_GUINT64_FORMAT " of disk %u is not what was sent", header->chunk,
                 header->disk);
    return FALSE;
}
