/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>
#include <zstd.h>

#include "policies/error.h"
#include "storage/wire/frame.h"

static guint8 *
random_chunk(void)
{
    guint8 *data = g_malloc(VR_CHUNK_SIZE);

    for (guint i = 0; i < VR_CHUNK_SIZE; i += 4) {
        guint32 word = (guint32) g_test_rand_int();

        memcpy(data + i, &word, sizeof(word));
    }
    return data;
}

static guint8 *
text_chunk(void)
{
    guint8 *data = g_malloc(VR_CHUNK_SIZE);

    for (guint i = 0; i < VR_CHUNK_SIZE; i++)
        data[i] = (guint8) ('a' + i % 19);
    return data;
}

static void
append(GByteArray *body, guint64 chunk, const guint8 *data, gboolean compress)
{
    VrDigest digest;

    vr_chunk_digest(data, &digest);
    vr_frame_append_chunk(body, 3, chunk, data, &digest, compress);
}

static void
expect_chunk(const guint8 **p, gsize *len, VrFrameKind kind, guint64 chunk, const guint8 *data)
{
    g_autofree guint8 *decoded = g_malloc(VR_CHUNK_SIZE);
    g_autoptr(GError) error = NULL;
    const guint8 *payload;
    VrFrameHeader header;

    g_assert_true(vr_frame_next(p, len, &header, &payload, &error));
    g_assert_no_error(error);
    g_assert_cmpint(header.kind, ==, kind);
    g_assert_cmpuint(header.disk, ==, 3);
    g_assert_cmpuint(header.chunk, ==, chunk);
    g_assert_cmpuint(header.count, ==, 1);
    g_assert_true(vr_frame_decode(&header, payload, decoded, &error));
    g_assert_no_error(error);
    g_assert_cmpmem(decoded, VR_CHUNK_SIZE, data, VR_CHUNK_SIZE);
}

static void
test_round_trip(void)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autofree guint8 *random = random_chunk();
    g_autofree guint8 *text = text_chunk();
    g_autofree guint8 *decoded = g_malloc(VR_CHUNK_SIZE);
    g_autoptr(GError) error = NULL;
    const guint8 *p, *payload;
    VrFrameHeader header;
    gsize len;

    append(body, 1, text, FALSE);
    append(body, 2, text, TRUE);
    append(body, G_GUINT64_CONSTANT(1) << 40, random, TRUE);
    vr_frame_append_zero(body, 7, 9, 12345);
    g_assert_cmpmem(body->data, 4, "VRF1", 4);
    p = body->data;
    len = body->len;
    expect_chunk(&p, &len, VR_FRAME_RAW, 1, text);
    expect_chunk(&p, &len, VR_FRAME_ZSTD, 2, text);
    expect_chunk(&p, &len, VR_FRAME_RAW, G_GUINT64_CONSTANT(1) << 40, random);
    g_assert_true(vr_frame_next(&p, &len, &header, &payload, &error));
    g_assert_cmpint(header.kind, ==, VR_FRAME_ZERO);
    g_assert_cmpuint(header.disk, ==, 7);
    g_assert_cmpuint(header.chunk, ==, 9);
    g_assert_cmpuint(header.count, ==, 12345);
    g_assert_cmpuint(len, ==, 0);
    g_assert_true(p == body->data + body->len);
    g_assert_false(vr_frame_decode(&header, payload, decoded, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
}

/* One field of a good frame made wrong. */
static const struct {
    guint offset;
    guint8 value;
    gboolean zero_frame;
} pokes[] = {
    {0, 'X', FALSE},   {3, '2', FALSE},                                 /* magic */
    {6, 3, FALSE},     {7, 1, FALSE},                                   /* kind */
    {6, 1, FALSE},                                                      /* ZSTD of 64 KiB */
    {6, 2, FALSE},                                                      /* ZERO with a length */
    {16, 0, FALSE},    {16, 2, FALSE},                                  /* count */
    {19, 0x80, FALSE}, {22, 0, FALSE},                                  /* count, length */
    {20, 1, FALSE},    {23, 0xff, FALSE}, {16, 0, TRUE}, {20, 1, TRUE}, /* no chunks, a length */
    {24, 1, TRUE},     {39, 1, TRUE},                                   /* digest */
    {6, 0, TRUE},      {6, 1, TRUE},                                    /* another kind */
};

static void
test_bad_header(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(pokes); i++) {
        g_autoptr(GByteArray) body = g_byte_array_new();
        g_autofree guint8 *text = text_chunk();
        g_autoptr(GError) error = NULL;
        const guint8 *p, *payload;
        VrFrameHeader header;
        gsize len;

        if (pokes[i].zero_frame)
            vr_frame_append_zero(body, 0, 5, 1);
        else
            append(body, 5, text, FALSE);
        body->data[pokes[i].offset] = pokes[i].value;
        p = body->data;
        len = body->len;
        g_assert_false(vr_frame_next(&p, &len, &header, &payload, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
        g_assert_cmpstr(vr_error_slug(error), ==, "bad-frame");
        g_assert_true(p == body->data && len == body->len);
    }
}

static void
test_overflow(void)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    const guint8 *p, *payload;
    VrFrameHeader header;
    gsize len;

    vr_frame_append_zero(body, 0, G_MAXUINT64 - 1, 2);
    p = body->data;
    len = body->len;
    g_assert_false(vr_frame_next(&p, &len, &header, &payload, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
}

/* In memory of exactly the cut length, so that a sanitizer sees a read behind it. */
static void
test_cut(void)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autofree guint8 *text = text_chunk();

    append(body, 1, text, TRUE);
    for (gsize cut = 0; cut < body->len; cut++) {
        g_autofree guint8 *copy = g_memdup2(body->data, cut);
        g_autoptr(GError) error = NULL;
        const guint8 *p = copy;
        const guint8 *payload;
        VrFrameHeader header;
        gsize len = cut;

        g_assert_false(vr_frame_next(&p, &len, &header, &payload, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    }
}

/* A ZSTD frame of @payload with @digest of the text; what decode says to it. */
static int
decode_code(const guint8 *payload, gsize len, const VrDigest *digest)
{
    g_autofree guint8 *decoded = g_malloc(VR_CHUNK_SIZE);
    g_autoptr(GError) error = NULL;
    VrFrameHeader header = {
        .kind = VR_FRAME_ZSTD, .count = 1, .length = (guint32) len, .digest = *digest};

    if (vr_frame_decode(&header, payload, decoded, &error))
        return -1;
    g_assert_true(error->domain == VR_ERROR);
    return error->code;
}

static void
test_bad_payload(void)
{
    g_autofree guint8 *big = g_malloc0(16 * VR_CHUNK_SIZE);
    g_autofree guint8 *out = g_malloc0(2 * VR_CHUNK_SIZE);
    g_autofree guint8 *text = text_chunk();
    VrDigest digest;
    gsize len;

    vr_chunk_digest(text, &digest);
    len = ZSTD_compress(out, 2 * VR_CHUNK_SIZE, text, VR_CHUNK_SIZE, 1);
    g_assert_cmpint(decode_code(out, len, &digest), ==, -1);
    g_assert_cmpint(decode_code(out, len + 1, &digest), ==, VR_ERROR_INVALID);
    g_assert_cmpint(decode_code(out, len - 1, &digest), ==, VR_ERROR_INVALID);
    memcpy(out + len, out, len);
    g_assert_cmpint(decode_code(out, 2 * len, &digest), ==, VR_ERROR_INVALID);
    memcpy(out + len, "\x50\x2a\x4d\x18\0\0\0\0", 8); /* a skippable frame of nothing */
    g_assert_cmpint(decode_code(out, len + 8, &digest), ==, VR_ERROR_INVALID);
    digest.b[0] ^= 1;
    g_assert_cmpint(decode_code(out, len, &digest), ==, VR_ERROR_CORRUPT);
    digest.b[0] ^= 1;
    for (gsize i = 0; i < len; i++) {
        out[i] ^= 0x10;
        (void) decode_code(out, len, &digest);
        out[i] ^= 0x10;
    }
    len = ZSTD_compress(out, 2 * VR_CHUNK_SIZE, big, 16 * VR_CHUNK_SIZE, 1);
    g_assert_cmpint(decode_code(out, len, &digest), ==, VR_ERROR_INVALID);
    len = ZSTD_compress(out, 2 * VR_CHUNK_SIZE, text, VR_CHUNK_SIZE - 1, 1);
    g_assert_cmpint(decode_code(out, len, &digest), ==, VR_ERROR_INVALID);
    memset(out, 0xff, 64);
    g_assert_cmpint(decode_code(out, 64, &digest), ==, VR_ERROR_INVALID);
}

/* Random damage never gives anything but a chunk of the right digest or an error. */
static void
test_damage(void)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autofree guint8 *decoded = g_malloc(VR_CHUNK_SIZE);
    g_autofree guint8 *text = text_chunk();

    append(body, 1, text, TRUE);
    for (guint round = 0; round < 5000; round++) {
        g_autofree guint8 *copy = g_memdup2(body->data, body->len);
        g_autoptr(GError) error = NULL;
        const guint8 *p = copy;
        const guint8 *payload;
        VrFrameHeader header;
        gsize len = body->len;

        for (int k = g_test_rand_int_range(1, 4); k > 0; k--)
            copy[g_test_rand_int_range(0, (gint32) body->len)] =
                (guint8) g_test_rand_int_range(0, 256);
        if (!vr_frame_next(&p, &len, &header, &payload, &error) ||
            !vr_frame_decode(&header, payload, decoded, &error)) {
            g_assert_nonnull(error);
            continue;
        }
        g_assert_cmpmem(decoded, VR_CHUNK_SIZE, text, VR_CHUNK_SIZE);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/frame/round-trip", test_round_trip);
    g_test_add_func("/frame/bad-header", test_bad_header);
    g_test_add_func("/frame/overflow", test_overflow);
    g_test_add_func("/frame/cut", test_cut);
    g_test_add_func("/frame/bad-payload", test_bad_payload);
    g_test_add_func("/frame/damage", test_damage);
    return g_test_run();
}
