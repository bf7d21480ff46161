/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "storage/util/chunk.h"
#include "storage/util/sha256.h"

static void
test_count(void)
{
    g_assert_cmpuint(vr_chunk_count(0), ==, 0);
    g_assert_cmpuint(vr_chunk_count(1), ==, 1);
    g_assert_cmpuint(vr_chunk_count(VR_CHUNK_SIZE), ==, 1);
    g_assert_cmpuint(vr_chunk_count(VR_CHUNK_SIZE + 1), ==, 2);
    g_assert_cmpuint(vr_chunk_count(G_GUINT64_CONSTANT(64) << 40), ==, 1 << 30);
    g_assert_cmpuint(vr_chunk_count(G_MAXUINT64), ==, G_GUINT64_CONSTANT(1) << 48);
}

/* A single bit anywhere is seen. */
static void
test_zero(void)
{
    static const gsize lengths[] = {0, 1, 15, 16, 17, 512, VR_CHUNK_SIZE};
    g_autofree guint8 *data = g_malloc0(VR_CHUNK_SIZE);

    for (guint i = 0; i < G_N_ELEMENTS(lengths); i++) {
        gsize len = lengths[i];
        gsize positions[] = {0, len / 2, len - 1};

        g_assert_true(vr_chunk_is_zero(data, len));
        for (guint k = 0; len > 0 && k < G_N_ELEMENTS(positions); k++) {
            data[positions[k]] = 0x40;
            g_assert_false(vr_chunk_is_zero(data, len));
            data[positions[k]] = 0;
        }
    }
}

static void
expect_digest(const guint8 *data)
{
    g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);
    guint8 expected[VR_SHA256_LEN];
    gsize len = sizeof(expected);
    VrDigest digest;

    g_checksum_update(checksum, data, VR_CHUNK_SIZE);
    g_checksum_get_digest(checksum, expected, &len);
    vr_chunk_digest(data, &digest);
    g_assert_cmpmem(digest.b, sizeof(digest.b), expected, VR_DIGEST_LEN);
    g_assert_false(vr_digest_is_zero(&digest));
}

static gpointer
digest_many(gpointer unused)
{
    g_autofree guint8 *data = g_malloc0(VR_CHUNK_SIZE);

    for (guint i = 1; i <= 50; i++) {
        data[i] = (guint8) i;
        expect_digest(data);
    }
    return NULL;
}

static void
test_digest(void)
{
    g_autofree guint8 *zeros = g_malloc0(VR_CHUNK_SIZE);
    GThread *threads[3];
    VrDigest digest;

    vr_chunk_digest(zeros, &digest);
    g_assert_true(vr_digest_is_zero(&digest));
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("digest", digest_many, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
}

static void
test_pieces(void)
{
    g_autoptr(VrSha256) sha256 = vr_sha256_new();
    guint8 whole[VR_SHA256_LEN];
    guint8 pieces[VR_SHA256_LEN];

    vr_sha256("abcdef", 6, whole);
    vr_sha256_update(sha256, "abc", 3);
    vr_sha256_update(sha256, "def", 3);
    vr_sha256_finish(sha256, pieces);
    g_assert_cmpmem(whole, sizeof(whole), pieces, sizeof(pieces));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/chunk/count", test_count);
    g_test_add_func("/chunk/zero", test_zero);
    g_test_add_func("/chunk/digest", test_digest);
    g_test_add_func("/sha256/pieces", test_pieces);
    return g_test_run();
}
