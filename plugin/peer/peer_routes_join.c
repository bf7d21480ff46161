/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A join comes from a key that nobody here knows yet. It must show the token's secret and a proof
 * that binds it to both keys of this very TLS session, so that it cannot be passed on from another
 * session. */
#include <string.h>

#include "plugin/peer/peer_server_private.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "storage/util/file_util.h"
#include "storage/wire/http.h"
#include "storage/util/json_util.h"
#include "storage/state/state_peer.h"

#define WRONG_DELAY_US (200 * 1000)
#define ADDRESS_MAX 260

typedef struct {
    const char *secret;
    const char *name;
    const char *proof;
    char *address; /* owned */
} Join;

static void
join_clear(Join *join)
{
    g_free(join->address);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Join, join_clear)

/* ":PORT" gets the address that the client came from. */
static char *
full_address(const VrHttpRequest *request, const char *address, GError **error)
{
    const char *remote = vr_http_request_remote(request);
    g_autofree char *host = NULL;
    guint16 port;

    if (!vr_address_parse(address, TRUE, &host, &port, error))
        return NULL;
    if (port == 0) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-address", NULL,
                     "an address without a port: '%s'", address);
        return NULL;
    }
    if (*host)
        return g_strdup(address);
    return strchr(remote, ':') ? g_strdup_printf("[%s]:%u", remote, port)
                               : g_strdup_printf("%s:%u", remote, port);
}

static gboolean
read_join(const VrHttpRequest *request, Join *join, GError **error)
{
    JsonObject *object = vr_http_request_object(request, error);
    const char *address = object ? vr_json_string(object, "address", ADDRESS_MAX, error) : NULL;

    if (!address)
        return FALSE;
    join->secret = vr_json_string(object, "secret", 64, error);
    join->name = join->secret ? vr_json_string(object, "name", VR_NAME_MAX, error) : NULL;
    join->proof = join->name ? vr_json_string(object, "proof", 64, error) : NULL;
    if (!join->proof)
        return FALSE;
    if (!vr_name_valid(join->name)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-name",
                     "Choose a name of letters, digits, '.', '_' and '-'.",
                     "the joining host's name is not valid");
        return FALSE;
    }
    join->address = full_address(request, address, error);
    return join->address != NULL;
}

static gboolean
check_proof(VrPeerServer *self, const Join *join, const char *client, GError **error)
{
    const char *ours = vr_identity_fingerprint(self->identity);
    g_autofree char *expected = vr_token_proof(join->secret, "join", ours, client);

    if (strcmp(ours, client) == 0) {
        vr_set_error(error, VR_ERROR_REFUSED, "peer-is-self", "Run peer-join on the other host.",
                     "a host cannot be paired with itself");
        return FALSE;
    }
    if (!vr_token_proof_equal(join->proof, expected)) {
        vr_set_error(error, VR_ERROR_AUTH, "join-proof", "Make a new token and try again.",
                     "the proof does not belong to this connection");
        return FALSE;
    }
    return TRUE;
}

/* The token is used up only if the peer is really stored. A wrong one is seen before a transaction
 * takes the database from others. */
static gboolean
store_peer(VrPeerServer *self, const Join *join, const char *client, GError **error)
{
    g_autofree char *hash = vr_sha256_hex(join->secret, strlen(join->secret));
    g_autofree char *invited_as = NULL;
    g_auto(GStrv) networks = NULL;
    gint64 now_us = g_get_real_time();
    VrPeer peer = {
        .fingerprint = (char *) client,
        .name = (char *) join->name,
        .address = join->address,
        .added_us = now_us,
        .last_seen_us = now_us,
    };

    if (!vr_state_invite_check(self->state, hash, now_us, error) ||
        !vr_state_begin(self->state, error))
        return FALSE;
    if (vr_state_invite_use(self->state, hash, now_us, &invited_as, &networks, error)) {
        if (invited_as)
            peer.name = invited_as;
        if (vr_state_peer_put(self->state, &peer, error) &&
            (!networks || vr_state_peer_set_networks(self->state, client,
                                                     (const char *const *) networks, error)))
            return vr_state_commit(self->state, error);
    }
    vr_state_rollback(self->state);
    return FALSE;
}

static void
note_wrong(VrPeerServer *self, const char *remote)
{
    vr_join_limit_wrong(self->join_limit, remote, g_get_monotonic_time());
    g_usleep(WRONG_DELAY_US);
}

static gboolean
handle_join(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrPeerServer *self = data;
    const char *client = vr_http_request_peer(request);
    const char *remote = vr_http_request_remote(request);
    g_autofree char *proof = NULL;
    g_autoptr(GError) local = NULL;
    g_auto(Join) join = {0};
    JsonNode *node;

    if (!vr_join_limit_check(self->join_limit, remote, g_get_monotonic_time(), error))
        return FALSE;
    if (!read_join(request, &join, &local) || !check_proof(self, &join, client, &local) ||
        !store_peer(self, &join, client, &local)) {
        if (g_error_matches(local, VR_ERROR, VR_ERROR_AUTH))
            note_wrong(self, remote);
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (self->ops->peer_joined)
        self->ops->peer_joined(self->data, client);
    proof = vr_token_proof(join.secret, "joined", vr_identity_fingerprint(self->identity), client);
    node = vr_peer_route_empty();
    json_object_set_string_member(json_node_get_object(node), "name", self->name);
    json_object_set_string_member(json_node_get_object(node), "proof", proof);
    vr_http_reply_json(reply, 200, node);
    return TRUE;
}

static gboolean
handle_hello(const VrHttpRequest *request G_GNUC_UNUSED, VrHttpReply *reply, gpointer data,
             GError **error G_GNUC_UNUSED)
{
    VrPeerServer *self = data;
    JsonNode *node = vr_peer_route_empty();
    JsonObject *object = json_node_get_object(node);

    json_object_set_string_member(object, "name", self->name);
    json_object_set_string_member(object, "version", VR_VERSION);
    json_object_set_int_member(object, "time_us", g_get_real_time());
    vr_http_reply_json(reply, 200, node);
    return TRUE;
}

void
vr_peer_routes_join(VrHttpServer *http, VrPeerServer *self)
{
    static const VrHttpRoute routes[] = {
        {"POST", "/v1/peer/join", handle_join, VR_HTTP_BODY_JSON, 4096, TRUE},
        {"GET", "/v1/peer/hello", handle_hello, VR_HTTP_BODY_NONE, 0, FALSE},
    };

    vr_http_server_add_routes(http, routes, G_N_ELEMENTS(routes), self);
}
