/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Cycles and replica data: every handler asks for the replica of "{uuid}" first, which checks peer
 * and role, and every id from the path or query is checked before it reaches the replica. */
#include <string.h>

#include "plugin/peer/peer_room.h"
#include "plugin/peer/peer_server_private.h"
#include "policies/error.h"
#include "storage/replica/replica_verify.h"
#include "policies/ids.h"
#include "storage/wire/peer_client.h"

#define RECORDS_MAX 65536
#define RECORDS_MEMORY ((guint64) 2 * RECORDS_MAX * 24)
/* The rows of 10,000 recovery points, and one page of them as JSON. */
#define RPS_MEMORY ((guint64) 8 << 20)

/* The daemon's replica for the time of one request. */
typedef struct {
    VrPeerServer *server;
    VrReplica *replica;
} Guard;

static void
guard_clear(Guard *self)
{
    if (self->replica && self->server->ops->replica_done)
        self->server->ops->replica_done(self->server->data, self->replica);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Guard, guard_clear)

static gboolean
open_replica(VrPeerServer *self, const VrHttpRequest *request, const char *generation, Guard *guard,
             GError **error)
{
    g_autoptr(VrProtection) row = vr_peer_route_protection(self, request, TRUE, error);

    if (!row)
        return FALSE;
    guard->server = self;
    guard->replica = self->ops->replica(self->data, row->uuid, row->peer, generation, error);
    return guard->replica != NULL;
}

/* For requests that add to the replica or take from it. BEGIN named the generation; a domain that
 * was failed over since then runs from the replica, and what is left of a cycle of before is
 * refused. */
static gboolean
open_replica_to_write(VrPeerServer *self, const VrHttpRequest *request, Guard *guard,
                      GError **error)
{
    g_autoptr(VrProtection) row = vr_peer_route_protection(self, request, TRUE, error);

    if (!row)
        return FALSE;
    if (row->kept_until_us != 0) {
        vr_set_error(error, VR_ERROR_REFUSED, "replica-kept", "Protect the domain again.",
                     "domain '%s': its replication to host '%s' was ended", row->name, self->name);
        return FALSE;
    }
    if (row->state != VR_PROTECTION_FAILED_OVER)
        return open_replica(self, request, NULL, guard, error);
    vr_set_error(error, VR_ERROR_REFUSED, "failed-over", "See 'virt-replica info' on both hosts.",
                 "domain '%s' was failed over to host '%s'", row->name, self->name);
    return FALSE;
}

/* What @body takes in the store; of a body that is none, what stands before that is seen. */
static guint64
stored_bytes(const guint8 *body, gsize len)
{
    VrFrameHeader header;
    const guint8 *payload;
    guint64 bytes = 0;

    while (len > 0 && vr_frame_next(&body, &len, &header, &payload, NULL)) {
        if (header.kind != VR_FRAME_ZERO)
            bytes += VR_CHUNK_SIZE;
    }
    return bytes;
}

static gboolean
may_grow(const Guard *guard, const VrHttpRequest *request, const char *cycle, guint64 bytes,
         GError **error)
{
    const VrPeerServer *server = guard->server;

    return bytes == 0 || !server->ops->cycle_grows ||
           server->ops->cycle_grows(server->data, vr_http_request_param(request, "uuid"),
                                    vr_http_request_peer(request), cycle, bytes, error);
}

static gboolean
bad_argument(GError **error, const char *what)
{
    vr_set_error(error, VR_ERROR_INVALID, "bad-argument", NULL,
                 "the request does not name a valid %s", what);
    return FALSE;
}

static const char *
cycle_of(const VrHttpRequest *request, GError **error)
{
    const char *cycle = vr_http_request_param(request, "cycle");

    if (vr_cycle_id_valid(cycle))
        return cycle;
    bad_argument(error, "cycle");
    return NULL;
}

static const char *
disk_of(const VrHttpRequest *request, GError **error)
{
    const char *disk = vr_http_request_query(request, "disk");

    if (vr_disk_name_valid(disk))
        return disk;
    bad_argument(error, "disk");
    return NULL;
}

static const char *
digest_of(const VrHttpRequest *request, GError **error)
{
    const char *sha256 = vr_http_request_param(request, "sha256");

    if (vr_fingerprint_valid(sha256))
        return sha256;
    bad_argument(error, "digest");
    return NULL;
}

/* @rp: (transfer full) (nullable) */
static void
set_rp_member(JsonNode *node, VrRecoveryPoint *rp)
{
    JsonObject *object = json_node_get_object(node);

    if (rp)
        json_object_set_member(object, "rp", vr_recovery_point_to_json(rp));
    else
        json_object_set_null_member(object, "rp");
    vr_recovery_point_free(rp);
}

/* Damage that is known may be over (a file system is mounted again): whoever asks for the newest
 * one begins a cycle, which would compare whole disks for it. */
static VrRecoveryPoint *
head_as_it_is(VrReplica *replica, GError **error)
{
    g_autoptr(VrRecoveryPoint) head =
        vr_replica_check_there(replica, error) ? vr_replica_head(replica, error) : NULL;

    if (!head || !head->damaged_disk)
        return g_steal_pointer(&head);
    (void) vr_replica_check_chain(replica, head->number, NULL);
    return vr_replica_head(replica, error);
}

static gboolean
handle_head(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    g_auto(Guard) guard = {0};
    g_autoptr(GError) local = NULL;
    VrRecoveryPoint *rp;
    JsonNode *node;

    if (!open_replica(data, request, NULL, &guard, error))
        return FALSE;
    rp = head_as_it_is(guard.replica, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    node = vr_peer_route_empty();
    set_rp_member(node, rp);
    vr_http_reply_json(reply, 200, node);
    return TRUE;
}

static gboolean
handle_rps(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    g_auto(Guard) guard = {0};
    g_autoptr(GPtrArray) rps = NULL;
    guint64 after;
    JsonArray *array;
    JsonNode *node;

    if (!vr_http_request_query_uint(request, "after", 0, G_MAXINT64, &after, error) ||
        !open_replica(data, request, NULL, &guard, error))
        return FALSE;
    rps = vr_replica_list(guard.replica, error);
    if (!rps)
        return FALSE;
    array = json_array_new();
    for (guint i = 0; i < rps->len && json_array_get_length(array) < VR_PEER_RPS_PAGE; i++) {
        const VrRecoveryPoint *rp = rps->pdata[i];

        if (rp->number > after)
            json_array_add_element(array, vr_recovery_point_to_json(rp));
    }
    node = vr_peer_route_empty();
    json_object_set_array_member(json_node_get_object(node), "rps", array);
    vr_http_reply_json(reply, 200, node);
    return TRUE;
}

/* Zeros are held without taking room; a layer has room ahead of what it holds. */
static guint64
bytes_held(VrReplica *replica, guint64 held)
{
    return MIN(held * VR_CHUNK_SIZE, vr_replica_incoming_bytes(replica));
}

/* Before anything of the cycle is made there is room for it. */
static gboolean
begin_within_quota(VrPeerServer *self, const VrHttpRequest *request, VrReplica *replica,
                   const VrCycleBegin *begin, guint64 *ret_held, GError **error)
{
    const char *uuid = vr_http_request_param(request, "uuid");
    const char *peer = vr_http_request_peer(request);
    guint64 room = vr_peer_room_of_begin(begin);
    gboolean ok;

    if (self->ops->cycle_begins &&
        !self->ops->cycle_begins(self->data, uuid, peer, begin, room, error))
        return FALSE;
    ok = vr_replica_begin(replica, begin, ret_held, error) &&
         (!self->ops->cycle_begun ||
          self->ops->cycle_begun(self->data, uuid, peer, begin->cycle,
                                 bytes_held(replica, *ret_held) + room, error));
    if (self->ops->cycle_begins)
        self->ops->release(self->data, peer, room);
    return ok;
}

static gboolean
handle_begin(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrPeerServer *self = data;
    g_auto(Guard) guard = {0};
    g_autoptr(VrCycleBegin) begin = NULL;
    guint64 held = 0;
    JsonNode *node;

    if (!vr_http_request_object(request, error))
        return FALSE;
    begin = vr_cycle_begin_from_json(vr_http_request_json(request), error);
    if (!begin || !open_replica(data, request, begin->generation, &guard, error) ||
        !begin_within_quota(self, request, guard.replica, begin, &held, error))
        return FALSE;
    node = vr_peer_route_empty();
    json_object_set_int_member(json_node_get_object(node), "held", (gint64) held);
    vr_http_reply_json(reply, 200, node);
    return TRUE;
}

static const char *
status_name(VrCycleStatus status)
{
    switch (status) {
    case VR_CYCLE_UNKNOWN:
        return "unknown";
    case VR_CYCLE_OPEN:
        return "open";
    case VR_CYCLE_COMMITTED:
        return "committed";
    }
    g_return_val_if_reached("unknown");
}

static gboolean
handle_status(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    const char *cycle = cycle_of(request, error);
    g_auto(Guard) guard = {0};
    VrRecoveryPoint *rp = NULL;
    VrCycleStatus status;
    JsonNode *node;

    if (!cycle || !open_replica(data, request, NULL, &guard, error))
        return FALSE;
    status = vr_replica_cycle_status(guard.replica, cycle, &rp);
    node = vr_peer_route_empty();
    json_object_set_string_member(json_node_get_object(node), "status", status_name(status));
    set_rp_member(node, rp);
    vr_http_reply_json(reply, 200, node);
    return TRUE;
}

static gboolean
handle_held(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    const char *cycle = cycle_of(request, error);
    const char *disk = cycle ? disk_of(request, error) : NULL;
    g_auto(Guard) guard = {0};
    guint64 first, max;
    GBytes *records;

    if (!disk || !vr_http_request_query_uint(request, "first", 0, G_MAXINT64, &first, error) ||
        !vr_http_request_query_uint(request, "max", RECORDS_MAX, RECORDS_MAX, &max, error) ||
        !open_replica(data, request, NULL, &guard, error))
        return FALSE;
    records = vr_replica_held(guard.replica, cycle, disk, first, (guint) max, error);
    if (!records)
        return FALSE;
    vr_http_reply_bytes(reply, 200, "application/octet-stream", records);
    return TRUE;
}

static gboolean
handle_sums(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    const char *disk = disk_of(request, error);
    g_auto(Guard) guard = {0};
    guint64 from, max;
    GBytes *records;

    if (!disk || !vr_http_request_query_uint(request, "from", 0, G_MAXINT64, &from, error) ||
        !vr_http_request_query_uint(request, "max", RECORDS_MAX, RECORDS_MAX, &max, error) ||
        !open_replica(data, request, NULL, &guard, error))
        return FALSE;
    records = vr_replica_head_sums(guard.replica, disk, from, (guint) max, error);
    if (!records)
        return FALSE;
    vr_http_reply_bytes(reply, 200, "application/octet-stream", records);
    return TRUE;
}

/* Before a byte of the body: the sender owns the protection, may write to it now, and has the cycle
 * open. What is spooled lies where the replica lies, and goes with the cycle. */
static gboolean
admit_to_cycle(const VrHttpRequest *request, gpointer data, char **ret_spool_dir, GError **error)
{
    const char *cycle = cycle_of(request, error);
    g_auto(Guard) guard = {0};

    if (!cycle || !open_replica_to_write(data, request, &guard, error))
        return FALSE;
    *ret_spool_dir = vr_replica_cycle_dir(guard.replica, cycle, error);
    return *ret_spool_dir != NULL;
}

/* What the body of a request may take, until the request is over. */
typedef struct {
    const VrPeerServer *server; /* borrowed */
    char *peer;                 /* owned */
    guint64 bytes;
} Reservation;

static void
reservation_free(gpointer data)
{
    Reservation *self = data;

    self->server->ops->release(self->server->data, self->peer, self->bytes);
    g_free(self->peer);
    g_free(self);
}

static gboolean
reserve_body(const VrHttpRequest *request, const VrPeerServer *server, GError **error)
{
    const char *peer = vr_http_request_peer(request);
    guint64 bytes = vr_http_request_length(request);
    Reservation *self;

    if (!server->ops->reserve)
        return TRUE;
    if (!server->ops->reserve(server->data, vr_http_request_param(request, "uuid"), peer, bytes,
                              error))
        return FALSE;
    self = g_new0(Reservation, 1);
    self->server = server;
    self->peer = g_strdup(peer);
    self->bytes = bytes;
    vr_http_request_keep(request, self, reservation_free);
    return TRUE;
}

/* What does not fit leaves nothing behind. */
static void
give_back(const VrPeerServer *self, const VrHttpRequest *request, VrReplica *replica,
          const char *cycle, const GError *why)
{
    if (!g_error_matches(why, VR_ERROR, VR_ERROR_NO_SPACE))
        return;
    vr_replica_give_back(replica, cycle, why);
    if (self->ops->cycle_ended && vr_replica_cycle_status(replica, cycle, NULL) != VR_CYCLE_OPEN)
        self->ops->cycle_ended(self->data, vr_http_request_param(request, "uuid"),
                               vr_http_request_peer(request), cycle);
}

/* Before it is spooled, which takes as much. */
static gboolean
fits(const VrHttpRequest *request, VrPeerServer *server, GError **error)
{
    const char *cycle = cycle_of(request, error);
    g_autoptr(GError) local = NULL;
    g_auto(Guard) guard = {0};

    if (!cycle || !open_replica_to_write(server, request, &guard, error))
        return FALSE;
    if (vr_replica_has_room(guard.replica, vr_http_request_length(request), &local))
        return TRUE;
    give_back(server, request, guard.replica, cycle, local);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* And the content has a digest for a name, and room. */
static gboolean
admit_attachment(const VrHttpRequest *request, gpointer data, char **ret_spool_dir, GError **error)
{
    g_autofree char *dir = NULL;

    if (!digest_of(request, error) || !admit_to_cycle(request, data, &dir, error) ||
        !fits(request, data, error) || !reserve_body(request, data, error))
        return FALSE;
    *ret_spool_dir = g_steal_pointer(&dir);
    return TRUE;
}

static gboolean
handle_chunks(const VrHttpRequest *request, VrHttpReply *reply G_GNUC_UNUSED, gpointer data,
              GError **error)
{
    const char *cycle = cycle_of(request, error);
    g_autoptr(GError) local = NULL;
    g_auto(Guard) guard = {0};
    const guint8 *body;
    gsize len;

    body = vr_http_request_bytes(request, &len);
    if (!cycle || !open_replica_to_write(data, request, &guard, error))
        return FALSE;
    if (may_grow(&guard, request, cycle, stored_bytes(body, len), &local) &&
        vr_replica_write(guard.replica, cycle, body, len, &local))
        return TRUE;
    give_back(data, request, guard.replica, cycle, local);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean
handle_has_attachment(const VrHttpRequest *request, VrHttpReply *reply, gpointer data,
                      GError **error)
{
    const char *sha256 = digest_of(request, error);
    g_auto(Guard) guard = {0};
    JsonNode *node;

    if (!sha256 || !open_replica(data, request, NULL, &guard, error))
        return FALSE;
    node = vr_peer_route_empty();
    json_object_set_boolean_member(json_node_get_object(node), "stored",
                                   vr_replica_has_attachment(guard.replica, sha256));
    vr_http_reply_json(reply, 200, node);
    return TRUE;
}

/* What was reserved for the body is the cycle's from now on. */
static void
charge_body(const VrHttpRequest *request, const char *cycle)
{
    Reservation *self = vr_http_request_kept(request);

    if (!self)
        return;
    self->server->ops->charge(self->server->data, vr_http_request_param(request, "uuid"),
                              self->peer, cycle, self->bytes);
    self->bytes = 0;
}

static gboolean
handle_put_attachment(const VrHttpRequest *request, VrHttpReply *reply G_GNUC_UNUSED, gpointer data,
                      GError **error)
{
    const char *cycle = cycle_of(request, error);
    const char *sha256 = cycle ? digest_of(request, error) : NULL;
    g_auto(Guard) guard = {0};

    if (!sha256 || !open_replica_to_write(data, request, &guard, error))
        return FALSE;
    if (!vr_replica_has_attachment(guard.replica, sha256))
        charge_body(request, cycle);
    return vr_replica_put_attachment(guard.replica, cycle, sha256, vr_http_request_fd(request),
                                     error);
}

static gboolean
handle_commit(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrPeerServer *self = data;
    const char *cycle = cycle_of(request, error);
    g_auto(Guard) guard = {0};
    g_autoptr(VrCycleCommit) commit = NULL;
    g_autoptr(VrRecoveryPoint) rp = NULL;
    g_autoptr(VrRecoveryPoint) head = NULL; /* with what is known of layers below it */

    if (!cycle || !vr_http_request_object(request, error))
        return FALSE;
    commit = vr_cycle_commit_from_json(vr_http_request_json(request), error);
    if (!commit)
        return FALSE;
    if (strcmp(commit->cycle, cycle) != 0)
        return bad_argument(error, "cycle");
    if (!open_replica_to_write(self, request, &guard, error) ||
        (self->ops->may_commit &&
         !self->ops->may_commit(self->data, vr_http_request_param(request, "uuid"), guard.replica,
                                commit, error)))
        return FALSE;
    rp = vr_replica_commit(guard.replica, commit, error);
    if (!rp) {
        if (self->ops->cycle_ended &&
            vr_replica_cycle_status(guard.replica, cycle, NULL) != VR_CYCLE_OPEN)
            self->ops->cycle_ended(self->data, vr_http_request_param(request, "uuid"),
                                   vr_http_request_peer(request), cycle);
        return FALSE;
    }
    if (self->ops->cycle_committed)
        self->ops->cycle_committed(self->data, vr_http_request_param(request, "uuid"), rp);
    head = vr_replica_head(guard.replica, NULL);
    vr_http_reply_json(reply, 200,
                       vr_recovery_point_to_json(head && head->number == rp->number ? head : rp));
    return TRUE;
}

#define PROTECTION "/v1/peer/protections/{uuid}"
#define CYCLE PROTECTION "/cycles/{cycle}"

void
vr_peer_routes_cycle(VrHttpServer *http, VrPeerServer *self)
{
    static const VrHttpRoute routes[] = {
        {"GET", PROTECTION "/head", handle_head, VR_HTTP_BODY_NONE, 0, FALSE},
        {"GET", PROTECTION "/rps", handle_rps, VR_HTTP_BODY_NONE, 0, FALSE, NULL, RPS_MEMORY},
        {"GET", PROTECTION "/sums", handle_sums, VR_HTTP_BODY_NONE, 0, FALSE, NULL, RECORDS_MEMORY},
        {"GET", PROTECTION "/attachments/{sha256}", handle_has_attachment, VR_HTTP_BODY_NONE, 0,
         FALSE},
        {"POST", PROTECTION "/cycles", handle_begin, VR_HTTP_BODY_JSON, 0, FALSE},
        {"GET", CYCLE, handle_status, VR_HTTP_BODY_NONE, 0, FALSE},
        {"GET", CYCLE "/held", handle_held, VR_HTTP_BODY_NONE, 0, FALSE, NULL, RECORDS_MEMORY},
        {"PUT", CYCLE "/chunks", handle_chunks, VR_HTTP_BODY_BYTES, VR_BODY_MAX + 4096, FALSE,
         admit_to_cycle},
        {"PUT", CYCLE "/attachments/{sha256}", handle_put_attachment, VR_HTTP_BODY_FILE,
         VR_ATTACHMENT_MAX, FALSE, admit_attachment},
        {"POST", CYCLE "/commit", handle_commit, VR_HTTP_BODY_JSON, 0, FALSE},
    };

    vr_http_server_add_routes(http, routes, G_N_ELEMENTS(routes), self);
}
