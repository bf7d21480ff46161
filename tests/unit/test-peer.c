/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two hosts in one process: a peer server with its state and a real replica, and clients with
 * several keys. */
#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>
#include <unistd.h>

#include "plugin/cycle/attachments.h"
#include "plugin/cycle/cycle_base.h"
#include "plugin/peer/join_limit.h"
#include "plugin/peer/peer_server.h"
#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/wire/peer_client.h"
#include "storage/state/state_peer.h"
#include "storage/state/state_protection.h"

#define UUID "11111111-2222-3333-4444-555555555555"
#define UUID_OTHER "22222222-2222-3333-4444-555555555555"
#define UUID_SOURCE "33333333-2222-3333-4444-555555555555"
#define UUID_NONE "44444444-2222-3333-4444-555555555555"
#define CYCLE "0123456789abcdef0123456789abcdef"
#define CYCLE2 "0123456789abcdef0123456789abcde2"
#define CYCLE3 "0123456789abcdef0123456789abcde3"
#define GENERATION "fedcba9876543210fedcba9876543210"
#define DISK_CHUNKS 40
#define DISK_BYTES (G_GUINT64_CONSTANT(65536) * DISK_CHUNKS)

typedef struct {
    char *dir;
    char *address;
    VrIdentity *server_id;
    VrIdentity *client_id;   /* pinned, owns UUID and UUID_SOURCE */
    VrIdentity *other_id;    /* pinned, owns UUID_OTHER */
    VrIdentity *stranger_id; /* not pinned */
    VrState *state;
    VrReplica *replica;
    VrPeerServer *server;
    int called;       /* atomic: a function of the daemon ran */
    int replicas;     /* atomic: replicas handed out and not given back */
    int committed;    /* atomic */
    int joined;       /* atomic */
    char *generation; /* of the last BEGIN */
    int rewrite_fd;   /* a file that changes while a request is under way; 0: none */
} Fixture;

static JsonNode *
object_with(const char *key, const char *value)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, json_object_new());
    json_object_set_string_member(json_node_get_object(node), key, value);
    return node;
}

static JsonNode *
op_check(gpointer data, const char *peer, JsonNode *request, GError **error)
{
    Fixture *f = data;

    g_atomic_int_inc(&f->called);
    return object_with("peer", peer);
}

static JsonNode *
op_put(gpointer data, const char *peer, const char *uuid, JsonNode *request, GError **error)
{
    Fixture *f = data;

    g_atomic_int_inc(&f->called);
    return object_with("uuid", uuid);
}

static JsonNode *
op_delete(gpointer data, const char *peer, const char *uuid, gboolean keep, GError **error)
{
    Fixture *f = data;

    g_atomic_int_inc(&f->called);
    return object_with("keep", keep ? "yes" : "no");
}

static JsonNode *
op_action(gpointer data, const char *peer, const char *uuid, const char *action, JsonNode *request,
          GError **error)
{
    Fixture *f = data;

    g_atomic_int_inc(&f->called);
    return object_with("action", action);
}

static JsonNode *
op_job(gpointer data, const char *peer, gint64 id, GError **error)
{
    vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-job", "Look.", "no job %" G_GINT64_FORMAT, id);
    return NULL;
}

static VrReplica *
op_replica(gpointer data, const char *uuid, const char *peer, const char *generation,
           GError **error)
{
    Fixture *f = data;

    if (generation) {
        g_free(f->generation);
        f->generation = g_strdup(generation);
    }
    if (f->rewrite_fd > 0)
        g_assert_cmpint(pwrite(f->rewrite_fd, "KERNEL", 6, 0), ==, 6);
    g_atomic_int_inc(&f->called);
    g_atomic_int_inc(&f->replicas);
    return f->replica;
}

static void
op_done(gpointer data, VrReplica *replica)
{
    Fixture *f = data;

    g_atomic_int_add(&f->replicas, -1);
}

static void
op_committed(gpointer data, const char *uuid, const VrRecoveryPoint *rp)
{
    Fixture *f = data;

    g_assert_cmpstr(uuid, ==, UUID);
    g_assert_cmpuint(rp->number, ==, 1);
    g_atomic_int_inc(&f->committed);
}

static void
op_joined(gpointer data, const char *fingerprint)
{
    Fixture *f = data;

    g_atomic_int_inc(&f->joined);
}

static const VrPeerServerOps ops = {
    op_check,   op_put,  op_delete, op_action,    op_job,
    op_replica, op_done, NULL,      op_committed, op_joined,
};

static VrIdentity *
identity(Fixture *f, const char *name)
{
    g_autofree char *dir = g_build_filename(f->dir, name, NULL);
    g_autoptr(GError) error = NULL;
    VrIdentity *id = vr_identity_load(dir, name, &error);

    g_assert_no_error(error);
    return id;
}

static void
pin(Fixture *f, const VrIdentity *id, const char *name)
{
    VrPeer peer = {(char *) vr_identity_fingerprint(id), (char *) name, (char *) "127.0.0.1:1", 1,
                   0};

    g_assert_true(vr_state_peer_put(f->state, &peer, NULL));
}

static void
protect(Fixture *f, const char *uuid, const VrIdentity *id, VrRole role)
{
    VrProtection row = {
        .uuid = (char *) uuid,
        .name = (char *) "web",
        .role = role,
        .peer = (char *) vr_identity_fingerprint(id),
        .state = VR_PROTECTION_PROTECTED,
    };
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_state_protection_insert(f->state, &row, &error));
}

static void
setup(Fixture *f, gconstpointer data)
{
    g_autofree char *state_dir = NULL;
    g_autofree char *store = NULL;
    g_autofree char *manifests = NULL;
    g_autoptr(GError) error = NULL;

    f->dir = g_dir_make_tmp("vr-peer-XXXXXX", NULL);
    state_dir = g_build_filename(f->dir, "state", NULL);
    store = g_build_filename(f->dir, "store", NULL);
    manifests = g_build_filename(f->dir, "manifests", NULL);
    f->server_id = identity(f, "server");
    f->client_id = identity(f, "client");
    f->other_id = identity(f, "other");
    f->stranger_id = identity(f, "stranger");
    f->state = vr_state_open(state_dir, &error);
    g_assert_no_error(error);
    pin(f, f->client_id, "a");
    pin(f, f->other_id, "o");
    protect(f, UUID, f->client_id, VR_ROLE_TARGET);
    protect(f, UUID_OTHER, f->other_id, VR_ROLE_TARGET);
    protect(f, UUID_SOURCE, f->client_id, VR_ROLE_SOURCE);
    g_assert_true(vr_make_dir(store, 0700, &error));
    f->replica = vr_replica_open(f->state, store, UUID, manifests, &error);
    g_assert_no_error(error);
    f->server = vr_peer_server_new(f->state, f->server_id, "host-b", &ops, f);
    g_assert_true(vr_peer_server_start(f->server, "127.0.0.1:0", 32, &error));
    f->address = g_strdup_printf("127.0.0.1:%u", vr_peer_server_port(f->server));
}

static void
teardown(Fixture *f, gconstpointer data)
{
    vr_peer_server_free(f->server);
    g_assert_cmpint(f->replicas, ==, 0);
    vr_replica_close(f->replica);
    vr_state_close(f->state);
    vr_identity_free(f->server_id);
    vr_identity_free(f->client_id);
    vr_identity_free(f->other_id);
    vr_identity_free(f->stranger_id);
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_free(f->dir);
    g_free(f->address);
    g_free(f->generation);
}

static VrPeerClient *
client_of(Fixture *f, const VrIdentity *us)
{
    g_autoptr(GError) error = NULL;
    VrPeerClient *client = vr_peer_client_new(
        "b", f->address, vr_identity_fingerprint(f->server_id),
        us ? vr_identity_cert_path(us) : NULL, us ? vr_identity_key_path(us) : NULL, &error);

    g_assert_no_error(error);
    return client;
}

static void
assert_slug(GError **error, VrError code, const char *slug)
{
    g_assert_error(*error, VR_ERROR, (int) code);
    g_assert_cmpstr(vr_error_slug(*error), ==, slug);
    g_clear_error(error);
}

typedef struct {
    const char *method, *path;
} Route;

/* Every route that needs a pinned peer; %s is the protection. */
static const Route all_routes[] = {
    {"GET", "/v1/peer/hello"},
    {"POST", "/v1/peer/check"},
    {"PUT", "/v1/peer/protections/%s"},
    {"DELETE", "/v1/peer/protections/%s?keep=0"},
    {"POST", "/v1/peer/protections/%s/action/stop"},
    {"GET", "/v1/peer/jobs/1"},
    {"GET", "/v1/peer/protections/%s/head"},
    {"GET", "/v1/peer/protections/%s/rps"},
    {"POST", "/v1/peer/protections/%s/cycles"},
    {"GET", "/v1/peer/protections/%s/cycles/" CYCLE},
    {"GET", "/v1/peer/protections/%s/cycles/" CYCLE "/held?disk=vda&first=0&max=5"},
    {"GET", "/v1/peer/protections/%s/sums?disk=vda&from=0&max=5"},
    {"PUT", "/v1/peer/protections/%s/cycles/" CYCLE "/chunks"},
    {"GET", "/v1/peer/protections/%s/attachments/" CYCLE CYCLE},
    {"HEAD", "/v1/peer/protections/%s/attachments/" CYCLE CYCLE},
    {"PUT", "/v1/peer/protections/%s/cycles/" CYCLE "/attachments/" CYCLE CYCLE},
    {"POST", "/v1/peer/protections/%s/cycles/" CYCLE "/commit"},
};

static char *
route_path(const Route *route, const char *uuid)
{
    g_auto(GStrv) parts = g_strsplit(route->path, "%s", 2);

    return g_strjoinv(uuid, parts);
}

/* An error from any of the routes; NULL if it worked. */
static GError *
try_route(Fixture *f, const VrIdentity *us, const Route *route, const char *uuid)
{
    g_autofree char *path = route_path(route, uuid);
    GError *error = NULL;
    g_autoptr(VrHttp) http = vr_http_new_peer(
        "b", f->address, vr_identity_fingerprint(f->server_id),
        us ? vr_identity_cert_path(us) : NULL, us ? vr_identity_key_path(us) : NULL, &error);
    const char *body = NULL;
    VrHttpCall call = {.method = route->method, .path = path, .body_fd = -1};

    g_assert_no_error(error);
    if (strstr(path, "/cycles") && strcmp(route->method, "POST") == 0)
        body = strstr(path, "/commit")
                   ? "{\"cycle\":\"" CYCLE "\",\"time_us\":1,\"consistency\":\"crash\","
                     "\"root\":\"" CYCLE CYCLE "\",\"domain_xml\":\"<x/>\",\"attachments\":[]}"
                   : "{\"cycle\":\"" CYCLE "\",\"kind\":\"initial\",\"generation\":\"" GENERATION
                     "\",\"base_number\":0,\"disks\":[{\"name\":\"vda\",\"size\":65536}]}";
    call.body = body;
    call.body_len = body ? strlen(body) : 0;
    (void) vr_http_call(http, &call, NULL, NULL, &error);
    return error;
}

static void
test_matrix(Fixture *f, gconstpointer data)
{
    for (guint i = 0; i < G_N_ELEMENTS(all_routes); i++) {
        const Route *route = &all_routes[i];
        gboolean named = strstr(route->path, "%s") != NULL;
        gboolean replica = named && strstr(route->path, "/action/") == NULL &&
                           route->path[strlen("/v1/peer/protections/%s")] == '/';
        gboolean head =
            strcmp(route->method, "HEAD") == 0; /* answers have no body: only the status is known */
        g_autoptr(GError) nobody = try_route(f, NULL, route, UUID);
        g_autoptr(GError) stranger = try_route(f, f->stranger_id, route, UUID);
        g_autoptr(GError) foreign = named ? try_route(f, f->client_id, route, UUID_OTHER) : NULL;
        g_autoptr(GError) missing = replica ? try_route(f, f->client_id, route, UUID_NONE) : NULL;
        g_autoptr(GError) role = replica ? try_route(f, f->client_id, route, UUID_SOURCE) : NULL;
        g_autoptr(GError) odd = named ? try_route(f, f->client_id, route, "..%2f..%2fetc") : NULL;

        g_test_message("%s %s", route->method, route->path);
        g_assert_error(nobody, VR_ERROR, VR_ERROR_TRANSIENT);
        g_assert_error(stranger, VR_ERROR, VR_ERROR_AUTH);
        if (!head)
            g_assert_cmpstr(vr_error_slug(stranger), ==, "peer-unknown");
        if (named) {
            g_assert_error(foreign, VR_ERROR, VR_ERROR_AUTH);
            g_assert_error(odd, VR_ERROR, VR_ERROR_INVALID);
        }
        if (replica) {
            g_assert_error(missing, VR_ERROR, VR_ERROR_NOT_FOUND);
            g_assert_error(role, VR_ERROR, VR_ERROR_REFUSED);
            if (!head)
                g_assert_cmpstr(vr_error_slug(role), ==, "not-the-target");
        }
    }
    g_assert_cmpint(g_atomic_int_get(&f->called), ==, 0);
}

static void
test_json_routes(Fixture *f, gconstpointer data)
{
    g_autoptr(VrPeerClient) client = client_of(f, f->client_id);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) request = object_with("x", "y");
    g_autoptr(JsonNode) hello = NULL;
    g_autoptr(JsonNode) check = NULL;
    g_autoptr(JsonNode) put = NULL;
    g_autoptr(JsonNode) keep = NULL;
    g_autoptr(JsonNode) gone = NULL;
    g_autoptr(JsonNode) action = NULL;
    g_autoptr(VrPeer) peer = NULL;

    g_assert_true(vr_peer_client_hello(client, &hello, NULL, &error));
    g_assert_cmpstr(json_object_get_string_member(json_node_get_object(hello), "name"), ==,
                    "host-b");
    peer = vr_state_peer_get(f->state, "a", NULL);
    g_assert_cmpint(peer->last_seen_us, >, 0);
    check = vr_peer_client_check(client, request, NULL, &error);
    g_assert_cmpstr(json_object_get_string_member(json_node_get_object(check), "peer"), ==,
                    vr_identity_fingerprint(f->client_id));
    put = vr_peer_client_protection_put(client, UUID_NONE, request, NULL, &error);
    g_assert_cmpstr(json_object_get_string_member(json_node_get_object(put), "uuid"), ==,
                    UUID_NONE);
    keep = vr_peer_client_protection_delete(client, UUID, TRUE, NULL, &error);
    g_assert_cmpstr(json_object_get_string_member(json_node_get_object(keep), "keep"), ==, "yes");
    gone = vr_peer_client_protection_delete(client, UUID_NONE, TRUE, NULL, &error);
    g_assert_cmpuint(json_object_get_size(json_node_get_object(gone)), ==, 0);
    action = vr_peer_client_action(client, UUID_SOURCE, "failed-over", request, NULL, &error);
    g_assert_cmpstr(json_object_get_string_member(json_node_get_object(action), "action"), ==,
                    "failed-over");
    g_assert_no_error(error);
    g_assert_null(vr_peer_client_action(client, UUID, "No%20Way", NULL, NULL, &error));
    assert_slug(&error, VR_ERROR_INVALID, "bad-action");
    g_assert_null(vr_peer_client_job(client, 7, NULL, &error));
    g_assert_true(g_str_has_suffix(error->message, ": no job 7"));
    assert_slug(&error, VR_ERROR_NOT_FOUND, "no-such-job");
}

static VrToken *
invite(Fixture *f, const char *name, gint64 expires_us)
{
    const char *const addresses[] = {"127.0.0.1:1", f->address, NULL};
    VrToken *token =
        vr_token_new("host-b", vr_identity_fingerprint(f->server_id), addresses, expires_us);
    g_autofree char *hash = vr_sha256_hex(token->secret, strlen(token->secret));

    g_assert_true(vr_state_invite_add(f->state, hash, name, NULL, expires_us, NULL));
    return token;
}

static gboolean
join(Fixture *f, const VrToken *token, const VrIdentity *us, const char *name, GError **error)
{
    g_autofree char *ret_name = NULL;
    g_autofree char *ret_address = NULL;

    if (!vr_peer_join(token, name, ":16540", vr_identity_fingerprint(us), vr_identity_cert_path(us),
                      vr_identity_key_path(us), &ret_name, &ret_address, NULL, error))
        return FALSE;
    g_assert_cmpstr(ret_name, ==, "host-b");
    g_assert_cmpstr(ret_address, ==, f->address);
    return TRUE;
}

static void
test_join(Fixture *f, gconstpointer data)
{
    gint64 later = g_get_real_time() + G_TIME_SPAN_HOUR;
    g_autoptr(VrToken) token = invite(f, NULL, later);
    g_autoptr(VrToken) named = invite(f, "given", later);
    g_autoptr(VrToken) expired = invite(f, NULL, g_get_real_time() - 1);
    const char *const here[] = {f->address, NULL};
    g_autoptr(VrToken) unknown =
        vr_token_new("host-b", vr_identity_fingerprint(f->server_id), here, later);
    g_autoptr(VrToken) wrong_key =
        vr_token_new("host-b", vr_identity_fingerprint(f->other_id), here, later);
    g_autoptr(VrPeerClient) client = client_of(f, f->stranger_id);
    g_autoptr(VrIdentity) fourth = identity(f, "fourth");
    g_autoptr(VrPeer) peer = NULL;
    g_autoptr(VrPeer) second = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_false(join(f, unknown, f->stranger_id, "c", &error));
    assert_slug(&error, VR_ERROR_AUTH, "token-unknown");
    g_assert_false(join(f, expired, f->stranger_id, "c", &error));
    assert_slug(&error, VR_ERROR_AUTH, "token-expired");
    g_assert_false(join(f, wrong_key, f->stranger_id, "c", &error));
    assert_slug(&error, VR_ERROR_AUTH, "peer-key-changed");
    g_assert_false(join(f, token, f->stranger_id, "not valid", &error));
    assert_slug(&error, VR_ERROR_INVALID, "bad-name");
    /* A name that is taken does not use the token up. */
    g_assert_false(join(f, token, f->stranger_id, "a", &error));
    assert_slug(&error, VR_ERROR_CONFLICT, "peer-name-taken");
    g_assert_false(join(f, token, f->server_id, "self", &error));
    assert_slug(&error, VR_ERROR_REFUSED, "peer-is-self");
    g_assert_false(vr_peer_client_hello(client, NULL, NULL, &error));
    assert_slug(&error, VR_ERROR_AUTH, "peer-unknown");
    g_assert_cmpint(g_atomic_int_get(&f->joined), ==, 0);

    g_assert_true(join(f, token, f->stranger_id, "c", &error));
    g_assert_no_error(error);
    g_assert_cmpint(g_atomic_int_get(&f->joined), ==, 1);
    peer = vr_state_peer_get(f->state, "c", &error);
    g_assert_cmpstr(peer->fingerprint, ==, vr_identity_fingerprint(f->stranger_id));
    g_assert_cmpstr(peer->address, ==, "127.0.0.1:16540");
    g_assert_true(vr_peer_client_hello(client, NULL, NULL, &error));

    g_assert_false(join(f, token, fourth, "d", &error));
    assert_slug(&error, VR_ERROR_AUTH, "token-used");
    g_assert_true(join(f, named, fourth, "d", &error));
    second = vr_state_peer_get(f->state, "given", &error);
    g_assert_cmpstr(second->fingerprint, ==, vr_identity_fingerprint(fourth));
}

static void
test_join_proof(Fixture *f, gconstpointer data)
{
    g_autoptr(VrToken) token = invite(f, NULL, g_get_real_time() + G_TIME_SPAN_HOUR);
    g_autoptr(GError) error = NULL;
    g_autofree char *name = NULL;
    g_autofree char *address = NULL;

    /* A proof made for another key, as one passed on from another session would be. */
    g_assert_false(vr_peer_join(token, "c", ":1", vr_identity_fingerprint(f->client_id),
                                vr_identity_cert_path(f->stranger_id),
                                vr_identity_key_path(f->stranger_id), &name, &address, NULL,
                                &error));
    assert_slug(&error, VR_ERROR_AUTH, "join-proof");
    g_assert_true(join(f, token, f->stranger_id, "c", &error));
}

/* A wrong token is refused while somebody else writes into the database: it writes nothing. */
static void
test_join_reads(Fixture *f, gconstpointer data)
{
    const char *const here[] = {f->address, NULL};
    g_autoptr(VrToken) unknown =
        vr_token_new("host-b", vr_identity_fingerprint(f->server_id), here, 1);
    g_autofree char *path = g_build_filename(f->dir, "state", "state.db", NULL);
    g_autoptr(GError) error = NULL;
    sqlite3 *db = NULL;

    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), ==, SQLITE_OK);
    g_assert_false(join(f, unknown, f->stranger_id, "c", &error));
    assert_slug(&error, VR_ERROR_AUTH, "token-unknown");
    g_assert_cmpint(sqlite3_close(db), ==, SQLITE_OK);
}

static void
test_join_limit(Fixture *f, gconstpointer data)
{
    const char *const here[] = {f->address, NULL};
    g_autoptr(VrToken) unknown =
        vr_token_new("host-b", vr_identity_fingerprint(f->server_id), here, 1);
    g_autoptr(VrToken) right = invite(f, NULL, g_get_real_time() + G_TIME_SPAN_HOUR);
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < VR_JOIN_WRONG_MAX; i++) {
        g_assert_false(join(f, unknown, f->stranger_id, "c", &error));
        assert_slug(&error, VR_ERROR_AUTH, "token-unknown");
    }
    g_assert_false(join(f, right, f->stranger_id, "c", &error));
    assert_slug(&error, VR_ERROR_TRANSIENT, "too-many-attempts");
}

typedef struct {
    VrManifest *manifest;
    guint n;
} Collected;

static void
collect(guint64 chunk, const VrDigest *digest, gpointer data)
{
    Collected *collected = data;
    VrDigest ours;

    vr_manifest_get(collected->manifest, chunk, &ours);
    g_assert_true(vr_digest_equal(&ours, digest));
    collected->n++;
}

static VrCycleBegin *
begin_of(const char *cycle)
{
    VrCycleBegin *begin = g_new0(VrCycleBegin, 1);
    VrCycleDisk *disk = g_new0(VrCycleDisk, 1);

    begin->cycle = g_strdup(cycle);
    begin->generation = g_strdup(GENERATION);
    disk->name = g_strdup("vda");
    disk->size_bytes = DISK_BYTES;
    begin->disks = g_ptr_array_new();
    g_ptr_array_add(begin->disks, disk);
    return begin;
}

static void
free_begin(VrCycleBegin *begin)
{
    VrCycleDisk *disk = begin->disks->pdata[0];

    g_free(disk->name);
    g_free(disk);
    g_ptr_array_unref(begin->disks);
    g_free(begin->cycle);
    g_free(begin->generation);
    g_free(begin);
}

/* Every second chunk random. */
static GByteArray *
fill_body(VrManifest *manifest)
{
    GByteArray *body = g_byte_array_new();
    g_autofree guint8 *data = g_malloc(VR_CHUNK_SIZE);

    for (guint64 chunk = 0; chunk < DISK_CHUNKS; chunk += 2) {
        VrDigest digest;

        vr_random_bytes(data, VR_CHUNK_SIZE);
        vr_chunk_digest(data, &digest);
        vr_frame_append_chunk(body, 0, chunk, data, &digest, FALSE);
        g_assert_true(vr_manifest_set(manifest, chunk, &digest, NULL));
    }
    return body;
}

static char *
root_of(VrManifest *manifest, const char *attachment_sha256, guint64 attachment_size)
{
    g_autoptr(VrRootBuilder) builder = vr_root_builder_new();
    guint8 root[VR_ROOT_LEN];

    vr_manifest_root(manifest, root);
    vr_root_builder_add_disk(builder, "vda", DISK_BYTES, root);
    vr_root_builder_add_attachment(builder, "nvram", attachment_size, attachment_sha256);
    return vr_root_builder_finish(builder);
}

static void
put_nvram(Fixture *f, VrPeerClient *client, const char *content, const char *sha256)
{
    g_autofree char *path = g_build_filename(f->dir, "nvram", NULL);
    g_autoptr(GError) error = NULL;
    gboolean has = TRUE;
    int fd;

    g_assert_true(vr_peer_client_has_attachment(client, UUID, sha256, &has, NULL, &error));
    g_assert_false(has);
    g_assert_true(vr_write_file_atomic(path, content, strlen(content), 0600, &error));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    g_assert_true(vr_peer_client_put_attachment(client, UUID, CYCLE, sha256, fd, strlen(content),
                                                NULL, &error));
    close(fd);
    g_assert_no_error(error);
    g_assert_true(vr_peer_client_has_attachment(client, UUID, sha256, &has, NULL, &error));
    g_assert_true(has);
}

static void
assert_status(VrPeerClient *client, const char *cycle, VrCycleStatus expected)
{
    g_autoptr(VrRecoveryPoint) rp = NULL;
    g_autoptr(GError) error = NULL;
    VrCycleStatus status;

    g_assert_true(vr_peer_client_cycle_status(client, UUID, cycle, &status, &rp, NULL, &error));
    g_assert_no_error(error);
    g_assert_cmpint(status, ==, expected);
    g_assert_true((rp != NULL) == (expected == VR_CYCLE_COMMITTED));
}

static void
test_cycle(Fixture *f, gconstpointer data)
{
    static const char nvram[] = "firmware variables";
    g_autoptr(VrPeerClient) client = client_of(f, f->client_id);
    g_autofree char *dir = g_build_filename(f->dir, "source", NULL);
    g_autofree char *sha256 = vr_sha256_hex(nvram, strlen(nvram));
    g_autofree char *root = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(VrManifest) manifest = NULL;
    g_autoptr(GByteArray) body = NULL;
    g_autoptr(VrRecoveryPoint) none = NULL;
    g_autoptr(VrRecoveryPoint) rp = NULL;
    g_autoptr(VrRecoveryPoint) again = NULL;
    g_autoptr(VrRecoveryPoint) head = NULL;
    g_autoptr(GPtrArray) rps = NULL;
    VrAttachment attachment = {(char *) "nvram", strlen(nvram), sha256};
    VrCycleCommit commit = {
        .cycle = (char *) CYCLE, .time_us = 1700000000000000, .domain_xml = (char *) "<domain/>"};
    VrCycleBegin *begin = begin_of(CYCLE);
    Collected collected = {0};
    VrSink *sink = vr_peer_sink_new(client, UUID, CYCLE);
    guint64 held = 99;

    g_assert_true(vr_make_dir(dir, 0700, &error));
    manifest = vr_manifest_open(dir, "vda", DISK_BYTES, &error);
    g_assert_no_error(error);
    collected.manifest = manifest;
    g_assert_true(vr_peer_client_head(client, UUID, &none, NULL, &error));
    g_assert_null(none);
    assert_status(client, CYCLE, VR_CYCLE_UNKNOWN);
    g_assert_true(vr_peer_client_begin(client, UUID, begin, &held, NULL, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(held, ==, 0);
    g_assert_cmpstr(f->generation, ==, GENERATION);
    assert_status(client, CYCLE, VR_CYCLE_OPEN);

    body = fill_body(manifest);
    body->data[100] ^= 1;
    g_assert_false(sink->send(sink, 0, body->data, body->len, NULL, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CORRUPT);
    g_clear_error(&error);
    body->data[100] ^= 1;
    g_assert_true(sink->send(sink, 0, body->data, body->len, NULL, &error));
    g_assert_no_error(error);
    g_assert_true(vr_peer_client_held(client, UUID, CYCLE, "vda", DISK_CHUNKS, collect, &collected,
                                      NULL, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(collected.n, ==, DISK_CHUNKS / 2);
    /* The caller's bound on chunk numbers holds. */
    g_assert_false(
        vr_peer_client_held(client, UUID, CYCLE, "vda", 3, collect, &collected, NULL, &error));
    assert_slug(&error, VR_ERROR_INVALID, "bad-message");

    put_nvram(f, client, nvram, sha256);
    root = root_of(manifest, sha256, strlen(nvram));
    commit.root = root;
    commit.attachments = g_ptr_array_new();
    g_ptr_array_add(commit.attachments, &attachment);
    rp = vr_peer_client_commit(client, UUID, &commit, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(rp->number, ==, 1);
    g_assert_cmpstr(rp->root, ==, root);
    again = vr_peer_client_commit(client, UUID, &commit, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(again->number, ==, 1);
    g_assert_cmpint(g_atomic_int_get(&f->committed), ==, 2);
    assert_status(client, CYCLE, VR_CYCLE_COMMITTED);
    g_assert_true(vr_peer_client_head(client, UUID, &head, NULL, &error));
    g_assert_cmpstr(head->cycle, ==, CYCLE);
    rps = vr_peer_client_rps(client, UUID, NULL, &error);
    g_assert_cmpuint(rps->len, ==, 1);
    collected.n = 0;
    g_assert_true(
        vr_peer_client_sums(client, UUID, "vda", DISK_CHUNKS, collect, &collected, NULL, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(collected.n, ==, DISK_CHUNKS / 2);
    g_ptr_array_unref(commit.attachments);
    free_begin(begin);
    vr_peer_sink_free(sink);
}

static void
begin(VrPeerClient *client, const char *cycle)
{
    VrCycleBegin *message = begin_of(cycle);
    g_autoptr(GError) error = NULL;
    guint64 held;

    vr_peer_client_begin(client, UUID, message, &held, NULL, &error);
    g_assert_no_error(error);
    free_begin(message);
}

static void
commit_one(VrPeerClient *client, VrManifest *manifest)
{
    g_autoptr(VrRootBuilder) builder = vr_root_builder_new();
    g_autoptr(GByteArray) body = fill_body(manifest);
    g_autoptr(VrRecoveryPoint) rp = NULL;
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    g_autofree char *root_text = NULL;
    g_autoptr(GError) error = NULL;
    guint8 root[VR_ROOT_LEN];
    VrCycleCommit commit = {
        .cycle = (char *) CYCLE, .time_us = 1700000000000000, .domain_xml = (char *) "<domain/>"};

    g_assert_true(vr_peer_client_chunks(client, UUID, CYCLE, body->data, body->len, NULL, &error));
    g_assert_no_error(error);
    vr_manifest_root(manifest, root);
    vr_root_builder_add_disk(builder, "vda", DISK_BYTES, root);
    root_text = vr_root_builder_finish(builder);
    commit.root = root_text;
    commit.attachments = none;
    rp = vr_peer_client_commit(client, UUID, &commit, NULL, &error);
    g_assert_no_error(error);
}

/* A replica that was kept is the base of a new protection; what was read of it counts in every
 * later attempt. */
static void
test_kept_replica(Fixture *f, gconstpointer data)
{
    g_autoptr(VrPeerClient) client = client_of(f, f->client_id);
    g_autofree char *sent_dir = g_build_filename(f->dir, "sent", NULL);
    g_autofree char *source_dir = g_build_filename(f->dir, "source", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(VrManifest) sent = NULL;
    g_autoptr(GPtrArray) manifests =
        g_ptr_array_new_with_free_func((GDestroyNotify) vr_manifest_close);
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    g_autoptr(GPtrArray) found = g_ptr_array_new();
    g_autoptr(VrCyclePlan) again = NULL;
    g_autoptr(VrProtection) stored = NULL;
    VrDomInfo info = {.name = (char *) "web", .state = VR_DOM_RUNNING};
    VrDomDisk disk = {.target = (char *) "vda",
                      .path = (char *) "/i/a",
                      .device = (char *) "disk",
                      .size_bytes = DISK_BYTES,
                      .device_id = 1,
                      .inode = 10};
    VrPlanDisk planned = {.name = (char *) "vda",
                          .path = (char *) "/i/a",
                          .size_bytes = DISK_BYTES,
                          .device_id = 1,
                          .inode = 10,
                          .fresh = TRUE};
    VrCyclePlan plan = {.kind = VR_CYCLE_INITIAL, .disks = disks};
    VrApp app = {0};
    VrProtection row = {.uuid = g_strdup(UUID),
                        .name = (char *) "web",
                        .exclude = (char *) "",
                        .role = VR_ROLE_SOURCE,
                        .state = VR_PROTECTION_INITIAL,
                        .peer = (char *) vr_identity_fingerprint(f->server_id)};
    VrPeer peer = {row.peer, (char *) "b", f->address, 1, 0};
    guint8 theirs[VR_ROOT_LEN], ours[VR_ROOT_LEN];
    gboolean is_new = FALSE;

    g_assert_true(vr_make_dir(sent_dir, 0700, NULL) && vr_make_dir(source_dir, 0700, NULL));
    sent = vr_manifest_open(sent_dir, "vda", DISK_BYTES, NULL);
    begin(client, CYCLE);
    commit_one(client, sent);
    vr_manifest_root(sent, theirs);

    app.state = vr_state_open(source_dir, NULL);
    g_assert_true(vr_state_peer_put(app.state, &peer, NULL));
    g_assert_true(vr_state_protection_insert(app.state, &row, NULL));
    g_ptr_array_add(manifests, vr_manifest_open(source_dir, "vda", DISK_BYTES, NULL));
    g_ptr_array_add(disks, &planned);
    g_assert_true(
        vr_cycle_agree_on_base(&app, client, &row, &plan, manifests, &is_new, NULL, &error));
    g_assert_no_error(error);
    g_assert_true(is_new);
    vr_manifest_root(g_ptr_array_index(manifests, 0), ours);
    g_assert_cmpmem(ours, sizeof ours, theirs, sizeof theirs);

    /* A cycle may end anywhere: before BEGIN, or behind it. */
    stored = vr_state_protection_get(app.state, UUID, NULL);
    g_assert_cmpuint(stored->base_number, ==, 0);
    g_assert_true(stored->manifest_unsure);
    vr_protection_free(stored);
    g_assert_true(vr_state_protection_set_base(app.state, &row, NULL));
    stored = vr_state_protection_get(app.state, UUID, NULL);
    g_assert_cmpuint(stored->base_number, ==, 1);
    g_assert_false(stored->manifest_unsure);
    g_ptr_array_add(found, &disk);
    again = vr_cycle_plan_decide(stored, &info, found, FALSE, NULL);
    g_assert_false(((VrPlanDisk *) g_ptr_array_index(again->disks, 0))->fresh);
    g_assert_cmpint(again->kind, ==, VR_CYCLE_RESYNC);

    vr_state_close(app.state);
    g_free(row.uuid);
    g_free(row.base_cycle);
    g_free(row.base_root);
    g_free(row.disks);
}

static gboolean
is_stored(VrPeerClient *client, const char *content)
{
    g_autofree char *sha256 = vr_sha256_hex(content, strlen(content));
    g_autoptr(GError) error = NULL;
    gboolean has = FALSE;

    g_assert_true(vr_peer_client_has_attachment(client, UUID, sha256, &has, NULL, &error));
    g_assert_no_error(error);
    return has;
}

/* Only what went along with the target's newest RP is surely there: a replica that was removed and
 * made again has nothing. */
static void
test_attachments(Fixture *f, gconstpointer data)
{
    g_autoptr(VrPeerClient) client = client_of(f, f->client_id);
    g_autofree char *path = g_build_filename(f->dir, "vmlinuz", NULL);
    VrDomainModel model = {.source_kernel = path};
    g_autoptr(GPtrArray) first = NULL;
    g_autoptr(GPtrArray) second = NULL;
    g_autoptr(GPtrArray) third = NULL;
    g_autoptr(GError) error = NULL;
    int called;

    g_assert_true(vr_write_file_atomic(path, "kernel", 6, 0600, &error));
    begin(client, CYCLE);
    first = vr_attachments_send(client, UUID, NULL, CYCLE, &model, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(is_stored(client, "kernel"));
    g_assert_true(vr_replica_destroy(f->replica, &error));
    g_assert_false(is_stored(client, "kernel"));

    begin(client, CYCLE2);
    second = vr_attachments_send(client, UUID, NULL, CYCLE2, &model, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(is_stored(client, "kernel"));

    called = g_atomic_int_get(&f->called);
    third = vr_attachments_send(client, UUID, CYCLE2, CYCLE3, &model, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(third->len, ==, 1);
    g_assert_cmpint(g_atomic_int_get(&f->called), ==, called);
}

static void
test_attachment_changes(Fixture *f, gconstpointer data)
{
    g_autoptr(VrPeerClient) client = client_of(f, f->client_id);
    g_autofree char *path = g_build_filename(f->dir, "vmlinuz", NULL);
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    VrDomainModel model = {.source_kernel = path};
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(write(fd, "kernel", 6), ==, 6);
    begin(client, CYCLE);
    f->rewrite_fd = fd;
    g_assert_null(vr_attachments_send(client, UUID, NULL, CYCLE, &model, NULL, &error));
    assert_slug(&error, VR_ERROR_TRANSIENT, "attachment-changed");
    f->rewrite_fd = 0;
    close(fd);
}

/* The domain runs from the replica: a cycle that was begun before must not go on. */
static void
test_failed_over(Fixture *f, gconstpointer data)
{
    static const Route writes[] = {
        {"PUT", "/v1/peer/protections/%s/cycles/" CYCLE "/chunks"},
        {"PUT", "/v1/peer/protections/%s/cycles/" CYCLE "/attachments/" CYCLE CYCLE},
        {"POST", "/v1/peer/protections/%s/cycles/" CYCLE "/commit"},
    };
    g_autoptr(VrPeerClient) client = client_of(f, f->client_id);
    g_autoptr(GPtrArray) rps = NULL;

    begin(client, CYCLE);
    g_assert_true(vr_state_protection_set_state(f->state, UUID, VR_PROTECTION_FAILED_OVER, NULL));
    for (guint i = 0; i < G_N_ELEMENTS(writes); i++) {
        g_autoptr(GError) error = try_route(f, f->client_id, &writes[i], UUID);

        assert_slug(&error, VR_ERROR_REFUSED, "failed-over");
    }
    rps = vr_peer_client_rps(client, UUID, NULL, NULL);
    g_assert_nonnull(rps);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vr_http_global_init();
#define ADD(name, func) g_test_add("/peer/" name, Fixture, NULL, setup, func, teardown)
    ADD("matrix", test_matrix);
    ADD("json-routes", test_json_routes);
    ADD("join", test_join);
    ADD("join-proof", test_join_proof);
    ADD("join-reads", test_join_reads);
    ADD("join-limit", test_join_limit);
    ADD("cycle", test_cycle);
    ADD("kept-replica", test_kept_replica);
    ADD("attachments", test_attachments);
    ADD("attachment-changes", test_attachment_changes);
    ADD("failed-over", test_failed_over);
    return g_test_run();
}
