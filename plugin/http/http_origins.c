/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table has an entry for each peer and origin, also where two peers have the same origin: so
 * what one peer does cannot make another one's be forgotten before the whole table is full. */
#include "plugin/http/http_origins.h"

#include <netinet/in.h>
#include <string.h>

typedef struct {
    guint64 key;
    char *peer;   /* owned */
    guint64 used; /* of the table's clock */
} Known;

struct _VrHttpOrigins {
    GHashTable *live; /* owned; key -> VrHttpOrigin */
    GArray *known;    /* owned; Known */
    guint64 clock;    /* goes on by one with each use */
};

static void
known_clear(gpointer data)
{
    g_free(((Known *) data)->peer);
}

VrHttpOrigins *
vr_http_origins_new(void)
{
    VrHttpOrigins *self = g_new0(VrHttpOrigins, 1);

    self->live = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    self->known = g_array_new(FALSE, FALSE, sizeof(Known));
    g_array_set_clear_func(self->known, known_clear);
    return self;
}

void
vr_http_origins_free(VrHttpOrigins *self)
{
    if (!self)
        return;
    g_hash_table_unref(self->live);
    g_array_unref(self->known);
    g_free(self);
}

static guint64
origin_key(const struct sockaddr_storage *address)
{
    static const guint8 v4[8] = {0xff, 0xff, 0xff, 0xff}; /* nobody's IPv6 address: multicast */
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *) address)->sin6_addr;
    guint8 bytes[8];
    guint64 key;

    memcpy(bytes, v4, 8);
    if (address->ss_family == AF_INET)
        memcpy(bytes + 4, &((const struct sockaddr_in *) address)->sin_addr, 4);
    else if (IN6_IS_ADDR_V4MAPPED(v6))
        memcpy(bytes + 4, v6->s6_addr + 12, 4);
    else
        memcpy(bytes, v6->s6_addr, 8);
    memcpy(&key, bytes, sizeof key);
    return key;
}

static gboolean
is_known(const VrHttpOrigins *self, guint64 key)
{
    for (guint i = 0; i < self->known->len; i++) {
        if (g_array_index(self->known, Known, i).key == key)
            return TRUE;
    }
    return FALSE;
}

/* What is known of @key has changed. */
static void
look_again(VrHttpOrigins *self, guint64 key)
{
    VrHttpOrigin *origin = g_hash_table_lookup(self->live, &key);

    if (origin)
        origin->known = is_known(self, key);
}

VrHttpOrigin *
vr_http_origins_get(VrHttpOrigins *self, const struct sockaddr_storage *address)
{
    guint64 key = origin_key(address);
    VrHttpOrigin *origin = g_hash_table_lookup(self->live, &key);

    if (!origin) {
        origin = g_new0(VrHttpOrigin, 1);
        origin->key = key;
        origin->known = is_known(self, key);
        g_hash_table_insert(self->live, &origin->key, origin);
    }
    origin->users++;
    return origin;
}

void
vr_http_origins_put(VrHttpOrigins *self, VrHttpOrigin *origin)
{
    if (--origin->users == 0)
        g_hash_table_remove(self->live, &origin->key);
}

static void
forget(VrHttpOrigins *self, guint at)
{
    guint64 key = g_array_index(self->known, Known, at).key;

    g_array_remove_index_fast(self->known, at);
    look_again(self, key);
}

/* Until there is room for one more of @peer. */
static void
make_room(VrHttpOrigins *self, const char *peer)
{
    guint of_peer = 0;
    int oldest = -1, oldest_of_peer = -1;

    for (guint i = 0; i < self->known->len; i++) {
        const Known *all = (const Known *) (gpointer) self->known->data;

        if (oldest < 0 || all[i].used < all[oldest].used)
            oldest = (int) i;
        if (!g_str_equal(all[i].peer, peer))
            continue;
        of_peer++;
        if (oldest_of_peer < 0 || all[i].used < all[oldest_of_peer].used)
            oldest_of_peer = (int) i;
    }
    if (of_peer >= VR_HTTP_ORIGINS_PER_PEER)
        forget(self, (guint) oldest_of_peer);
    else if (self->known->len >= VR_HTTP_ORIGINS_KNOWN)
        forget(self, (guint) oldest);
}

void
vr_http_origins_know(VrHttpOrigins *self, const struct sockaddr_storage *address, const char *peer)
{
    Known one = {.key = origin_key(address), .used = ++self->clock};

    for (guint i = 0; i < self->known->len; i++) {
        Known *known = &g_array_index(self->known, Known, i);

        if (known->key == one.key && g_str_equal(known->peer, peer)) {
            known->used = one.used;
            return;
        }
    }
    make_room(self, peer);
    one.peer = g_strdup(peer);
    g_array_append_val(self->known, one);
    look_again(self, one.key);
}
