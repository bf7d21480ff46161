/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "plugin/http/http_origins.h"

static struct sockaddr_storage
v4(guint32 host)
{
    struct sockaddr_storage address = {.ss_family = AF_INET};

    ((struct sockaddr_in *) &address)->sin_addr.s_addr = htonl(host);
    return address;
}

static struct sockaddr_storage
v6(const char *text)
{
    struct sockaddr_storage address = {.ss_family = AF_INET6};

    g_assert_cmpint(inet_pton(AF_INET6, text, &((struct sockaddr_in6 *) &address)->sin6_addr), ==,
                    1);
    return address;
}

static gboolean
known(VrHttpOrigins *origins, struct sockaddr_storage address)
{
    VrHttpOrigin *origin = vr_http_origins_get(origins, &address);
    gboolean is_known = origin->known;

    vr_http_origins_put(origins, origin);
    return is_known;
}

static void
know(VrHttpOrigins *origins, struct sockaddr_storage address, const char *peer)
{
    vr_http_origins_know(origins, &address, peer);
}

/* An IPv4 address and an IPv6 network are an origin, however they are written. */
static void
test_keys(void)
{
    VrHttpOrigins *origins = vr_http_origins_new();

    know(origins, v6("::ffff:10.0.0.1"), "a");
    know(origins, v6("2001:db8::1"), "a");
    g_assert_true(known(origins, v4(0x0a000001)));
    g_assert_false(known(origins, v4(0x0a000002)));
    g_assert_true(known(origins, v6("2001:db8::ffff:1")));
    g_assert_false(known(origins, v6("2001:db8:0:1::1")));
    g_assert_false(known(origins, v4(0x20010db8)));
    vr_http_origins_free(origins);
}

/* A peer that comes from everywhere is remembered with the last few; others keep theirs, also where
 * it has been. */
static void
test_one_peer(void)
{
    VrHttpOrigins *origins = vr_http_origins_new();

    know(origins, v4(1), "b");
    for (guint i = 1; i <= 2 * VR_HTTP_ORIGINS_KNOWN; i++) {
        know(origins, v4(i), "a");
        know(origins, v4(2), "a");
    }
    g_assert_true(known(origins, v4(1)));
    g_assert_true(known(origins, v4(2)));
    g_assert_true(known(origins, v4(2 * VR_HTTP_ORIGINS_KNOWN)));
    g_assert_true(known(origins, v4(2 * VR_HTTP_ORIGINS_KNOWN - VR_HTTP_ORIGINS_PER_PEER + 2)));
    g_assert_false(known(origins, v4(2 * VR_HTTP_ORIGINS_KNOWN - VR_HTTP_ORIGINS_PER_PEER + 1)));
    vr_http_origins_free(origins);
}

static void
test_bounded(void)
{
    VrHttpOrigins *origins = vr_http_origins_new();

    for (guint i = 0; i <= VR_HTTP_ORIGINS_KNOWN; i++) {
        g_autofree char *peer = g_strdup_printf("%u", i);

        know(origins, v4(i), peer);
        know(origins, v4(0), "0");
    }
    g_assert_true(known(origins, v4(0)));
    g_assert_false(known(origins, v4(1)));
    g_assert_true(known(origins, v4(2)));
    vr_http_origins_free(origins);
}

/* It is seen at once by those who have the origin. */
static void
test_live(void)
{
    VrHttpOrigins *origins = vr_http_origins_new();
    struct sockaddr_storage address = v4(1);
    VrHttpOrigin *origin = vr_http_origins_get(origins, &address);

    g_assert_false(origin->known);
    know(origins, address, "a");
    g_assert_true(origin->known);
    for (guint i = 0; i < VR_HTTP_ORIGINS_PER_PEER; i++)
        know(origins, v4(100 + i), "a");
    g_assert_false(origin->known);
    vr_http_origins_put(origins, origin);
    vr_http_origins_free(origins);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/http-origins/keys", test_keys);
    g_test_add_func("/http-origins/one-peer", test_one_peer);
    g_test_add_func("/http-origins/bounded", test_bounded);
    g_test_add_func("/http-origins/live", test_live);
    return g_test_run();
}
