/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the client asks a peer for, and how often and how long it does; the peer is a function. */
#include <string.h>

#include "policies/error.h"
#include "storage/wire/peer_client.h"

#define UUID "11111111-2222-3333-4444-555555555555"
#define CYCLE "cccccccccccccccccccccccccccccccc"
#define SHA256 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define RECORD_LEN 24
#define SLOW_BYTES 14000 /* a second: of a link that just sends chunks in time */

static struct {
    guint calls;
    guint records; /* in each page, 0: as many as are asked for */
    guint64 next;  /* chunk of the next record */
    VrHttpCall last;
} peer;

gboolean __wrap_vr_http_call(VrHttp *self, const VrHttpCall *call, GBytes **ret_body,
                             GCancellable *cancel, GError **error);

/* Wrapped: see meson.build. Digests without an end. */
gboolean
__wrap_vr_http_call(VrHttp *self, const VrHttpCall *call, GBytes **ret_body, GCancellable *cancel,
                    GError **error)
{
    guint n = peer.records ? peer.records : (guint) (call->answer_max / RECORD_LEN);
    guint8 *page = g_malloc0((gsize) n * RECORD_LEN);

    peer.last = *call;
    if (++peer.calls > 100)
        g_error("asked for ever");
    for (guint i = 0; i < n; i++) {
        guint64 chunk = GUINT64_TO_LE(peer.next++);

        memcpy(page + (gsize) i * RECORD_LEN, &chunk, sizeof chunk);
    }
    if (ret_body)
        *ret_body = g_bytes_new_take(page, (gsize) n * RECORD_LEN);
    else
        g_free(page);
    return TRUE;
}

static VrPeerClient *
client_new(void)
{
    g_autoptr(GError) error = NULL;
    VrPeerClient *client = vr_peer_client_new("b", "127.0.0.1:1", SHA256, "/none", "/none", &error);

    g_assert_no_error(error);
    memset(&peer, 0, sizeof peer);
    return client;
}

static void
count_told(guint64 chunk, const VrDigest *digest, gpointer data)
{
    (*(guint64 *) data)++;
}

/* A page that is not full is the last one. */
static void
test_short_pages(void)
{
    g_autoptr(VrPeerClient) client = client_new();
    g_autoptr(GError) error = NULL;
    guint64 told = 0;

    peer.records = 1;
    g_assert_true(
        vr_peer_client_sums(client, UUID, "vda", 1 << 20, count_told, &told, NULL, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(peer.calls, ==, 1);
    g_assert_true(
        vr_peer_client_held(client, UUID, CYCLE, "vda", 1 << 20, count_told, &told, NULL, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(peer.calls, ==, 2);
    g_assert_cmpuint(told, ==, 2);
}

/* Nor is anything asked for behind the disk that it is for. */
static void
test_larger_disk(void)
{
    g_autoptr(VrPeerClient) client = client_new();
    g_autoptr(GError) error = NULL;
    guint64 told = 0;

    g_assert_true(
        vr_peer_client_sums(client, UUID, "vda", 100000, count_told, &told, NULL, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(told, >=, 100000);
    g_assert_cmpuint(peer.calls, ==, (100000 + told / peer.calls - 1) / (told / peer.calls));
}

/* The guest may be off meanwhile. */
static void
test_attachment_time(void)
{
    static const guint64 sizes[] = {1, 540672, 100 << 20, VR_ATTACHMENT_MAX};
    g_autoptr(VrPeerClient) client = client_new();
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_assert_true(
            vr_peer_client_put_attachment(client, UUID, CYCLE, SHA256, -1, sizes[i], NULL, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(peer.last.timeout_s, >=, MAX(600, sizes[i] / SLOW_BYTES));
        g_assert_cmpuint(peer.last.timeout_s, <=, 600 + 2 * sizes[i] / SLOW_BYTES);
        g_assert_false(peer.last.quiet_peer); /* or no bytes moving would be fine */
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peer-client/short-pages", test_short_pages);
    g_test_add_func("/peer-client/larger-disk", test_larger_disk);
    g_test_add_func("/peer-client/attachment-time", test_attachment_time);
    return g_test_run();
}
