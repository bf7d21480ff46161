/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/wire/peer_client.h"

#include <string.h>

#include "policies/error.h"
#include "storage/util/json_util.h"

#define IDLE_HANDLES 8
#define RECORD_LEN 24
#define PAGE_RECORDS 32768
#define HELLO_TIMEOUT_S 10
#define JSON_TIMEOUT_S 120
#define COMMIT_TIMEOUT_S 1800
/* Of 8 MiB at most: who takes longer has no link that replication could live on. */
#define CHUNKS_TIMEOUT_S 600
#define CHUNKS_MAX_BYTES ((guint64) 8 << 20)
#define DISK_CHUNKS_MAX (VR_MAX_DISK_BYTES / VR_CHUNK_SIZE)
#define WATCH_MS (10 * 1000)
/* More than a host may have. */
#define RPS_MAX 20000u

struct _VrPeerClient {
    char *name;        /* owned */
    char *address;     /* owned */
    char *fingerprint; /* owned */
    char *cert_path;   /* owned */
    char *key_path;    /* owned */
    GMutex lock;       /* guards idle */
    GPtrArray *idle;   /* owned; VrHttp */
};

VrPeerClient *
vr_peer_client_new(const char *name, const char *address, const char *fingerprint,
                   const char *cert_path, const char *key_path, GError **error)
{
    VrHttp *first = vr_http_new_peer(name, address, fingerprint, cert_path, key_path, error);
    VrPeerClient *self;

    if (!first)
        return NULL;
    self = g_new0(VrPeerClient, 1);
    g_mutex_init(&self->lock);
    self->name = g_strdup(name);
    self->address = g_strdup(address);
    self->fingerprint = g_strdup(fingerprint);
    self->cert_path = g_strdup(cert_path);
    self->key_path = g_strdup(key_path);
    self->idle = g_ptr_array_new_with_free_func((GDestroyNotify) vr_http_free);
    g_ptr_array_add(self->idle, first);
    return self;
}

void
vr_peer_client_free(VrPeerClient *self)
{
    if (!self)
        return;
    g_ptr_array_unref(self->idle);
    g_mutex_clear(&self->lock);
    g_free(self->name);
    g_free(self->address);
    g_free(self->fingerprint);
    g_free(self->cert_path);
    g_free(self->key_path);
    g_free(self);
}

const char *
vr_peer_client_name(const VrPeerClient *self)
{
    return self->name;
}

const char *
vr_peer_client_fingerprint(const VrPeerClient *self)
{
    return self->fingerprint;
}

/* The handle used last comes first: its connection is most likely still open. */
static VrHttp *
borrow(VrPeerClient *self, GError **error)
{
    VrHttp *http = NULL;

    g_mutex_lock(&self->lock);
    if (self->idle->len > 0)
        http = g_ptr_array_steal_index(self->idle, self->idle->len - 1);
    g_mutex_unlock(&self->lock);
    return http ? http
                : vr_http_new_peer(self->name, self->address, self->fingerprint, self->cert_path,
                                   self->key_path, error);
}

/* An answer of any kind is a sign of life. */
static gboolean
is_there(gpointer data, GCancellable *cancel)
{
    g_autoptr(GError) error = NULL;

    return vr_peer_client_hello(data, NULL, cancel, &error) || !vr_error_is_peer_away(error);
}

static void
give_back(VrPeerClient *self, VrHttp *http)
{
    vr_http_watch(http, 0, NULL, NULL);
    g_mutex_lock(&self->lock);
    if (self->idle->len < IDLE_HANDLES)
        g_ptr_array_add(self->idle, g_steal_pointer(&http));
    g_mutex_unlock(&self->lock);
    vr_http_free(http);
}

static gboolean
call(VrPeerClient *self, const VrHttpCall *request, GBytes **ret_body, GCancellable *cancel,
     GError **error)
{
    VrHttp *http = borrow(self, error);
    gboolean ok;

    if (!http)
        return FALSE;
    vr_http_watch(http, WATCH_MS, is_there, self);
    ok = vr_http_call(http, request, ret_body, cancel, error);
    give_back(self, http);
    return ok;
}

static gboolean
call_json(VrPeerClient *self, const char *method, const char *path, JsonNode *body, guint timeout_s,
          JsonNode **ret_answer, GCancellable *cancel, GError **error)
{
    VrHttp *http = borrow(self, error);
    gboolean ok;

    if (!http)
        return FALSE;
    if (timeout_s > HELLO_TIMEOUT_S)
        vr_http_watch(http, WATCH_MS, is_there, self);
    ok = vr_http_json(http, method, path, body, timeout_s, ret_answer, cancel, error);
    give_back(self, http);
    return ok;
}

static char *
protection_path(const char *uuid, const char *rest)
{
    return g_strconcat("/v1/peer/protections/", uuid, rest, NULL);
}

static char *
cycle_path(const char *uuid, const char *cycle, const char *rest)
{
    return g_strconcat("/v1/peer/protections/", uuid, "/cycles/", cycle, rest, NULL);
}

gboolean
vr_peer_client_hello(VrPeerClient *self, JsonNode **ret_answer, GCancellable *cancel,
                     GError **error)
{
    return call_json(self, "GET", "/v1/peer/hello", NULL, HELLO_TIMEOUT_S, ret_answer, cancel,
                     error);
}

static JsonNode *
object_call(VrPeerClient *self, const char *method, const char *path, JsonNode *request,
            GCancellable *cancel, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;

    if (!call_json(self, method, path, request, JSON_TIMEOUT_S, &answer, cancel, error))
        return NULL;
    if (!answer) {
        answer = json_node_new(JSON_NODE_OBJECT);
        json_node_take_object(answer, json_object_new());
    }
    if (!vr_json_object(answer, "the peer's answer", error))
        return NULL;
    return g_steal_pointer(&answer);
}

JsonNode *
vr_peer_client_check(VrPeerClient *self, JsonNode *request, GCancellable *cancel, GError **error)
{
    return object_call(self, "POST", "/v1/peer/check", request, cancel, error);
}

JsonNode *
vr_peer_client_protection_put(VrPeerClient *self, const char *uuid, JsonNode *request,
                              GCancellable *cancel, GError **error)
{
    g_autofree char *path = protection_path(uuid, "");

    return object_call(self, "PUT", path, request, cancel, error);
}

JsonNode *
vr_peer_client_protection_delete(VrPeerClient *self, const char *uuid, gboolean keep_replica,
                                 GCancellable *cancel, GError **error)
{
    g_autofree char *path = protection_path(uuid, keep_replica ? "?keep=1" : "?keep=0");

    return object_call(self, "DELETE", path, NULL, cancel, error);
}

JsonNode *
vr_peer_client_action(VrPeerClient *self, const char *uuid, const char *action, JsonNode *request,
                      GCancellable *cancel, GError **error)
{
    g_autofree char *rest = g_strconcat("/action/", action, NULL);
    g_autofree char *path = protection_path(uuid, rest);

    return object_call(self, "POST", path, request, cancel, error);
}

JsonNode *
vr_peer_client_job(VrPeerClient *self, gint64 id, GCancellable *cancel, GError **error)
{
    g_autofree char *path = g_strdup_printf("/v1/peer/jobs/%" G_GINT64_FORMAT, id);

    return object_call(self, "GET", path, NULL, cancel, error);
}

/* Member "rp" of an answer: an RP or null. */
static gboolean
rp_member(JsonObject *object, VrRecoveryPoint **ret_rp, GError **error)
{
    JsonNode *node = json_object_get_member(object, "rp");

    *ret_rp = NULL;
    if (!node || JSON_NODE_HOLDS_NULL(node))
        return TRUE;
    *ret_rp = vr_recovery_point_from_json(node, error);
    return *ret_rp != NULL;
}

gboolean
vr_peer_client_head(VrPeerClient *self, const char *uuid, VrRecoveryPoint **ret_rp,
                    GCancellable *cancel, GError **error)
{
    g_autofree char *path = protection_path(uuid, "/head");
    g_autoptr(JsonNode) answer = object_call(self, "GET", path, NULL, cancel, error);
    VrRecoveryPoint *rp = NULL;

    if (!answer || !rp_member(json_node_get_object(answer), &rp, error))
        return FALSE;
    *ret_rp = rp;
    return TRUE;
}

static guint64
last_number(const GPtrArray *rps)
{
    return rps->len > 0 ? ((const VrRecoveryPoint *) rps->pdata[rps->len - 1])->number : 0;
}

/* One page behind RP @after, added to @rps. @ret_n: how many it had. */
static gboolean
rps_page(VrPeerClient *self, const char *uuid, guint64 after, GPtrArray *rps, guint *ret_n,
         GCancellable *cancel, GError **error)
{
    g_autofree char *rest = g_strdup_printf("/rps?after=%" G_GUINT64_FORMAT, after);
    g_autofree char *path = protection_path(uuid, rest);
    g_autoptr(JsonNode) answer = object_call(self, "GET", path, NULL, cancel, error);
    JsonArray *array = answer ? vr_json_array_in(json_node_get_object(answer), "rps") : NULL;
    guint n = array ? json_array_get_length(array) : 0;
    gboolean ok = array && n <= VR_PEER_RPS_PAGE;

    if (!answer)
        return FALSE;
    for (guint i = 0; ok && i < n; i++) {
        VrRecoveryPoint *rp = vr_recovery_point_from_json(json_array_get_element(array, i), error);

        if (!rp)
            return FALSE;
        g_ptr_array_add(rps, rp);
        ok = rp->number > after;
        after = rp->number;
    }
    *ret_n = n;
    if (!ok)
        vr_set_error(error, VR_ERROR_INVALID, "bad-message", NULL,
                     "peer '%s' sent no list of recovery points", self->name);
    return ok;
}

GPtrArray *
vr_peer_client_rps(VrPeerClient *self, const char *uuid, GCancellable *cancel, GError **error)
{
    g_autoptr(GPtrArray) rps =
        g_ptr_array_new_with_free_func((GDestroyNotify) vr_recovery_point_free);
    guint n;

    do {
        if (!rps_page(self, uuid, last_number(rps), rps, &n, cancel, error))
            return NULL;
        if (rps->len > RPS_MAX) {
            vr_set_error(error, VR_ERROR_INVALID, "bad-message", NULL,
                         "peer '%s' sent more than %u recovery points", self->name, RPS_MAX);
            return NULL;
        }
    } while (n == VR_PEER_RPS_PAGE);
    return g_steal_pointer(&rps);
}

gboolean
vr_peer_client_begin(VrPeerClient *self, const char *uuid, const VrCycleBegin *begin,
                     guint64 *ret_held, GCancellable *cancel, GError **error)
{
    g_autofree char *path = protection_path(uuid, "/cycles");
    g_autoptr(JsonNode) request = vr_cycle_begin_to_json(begin);
    g_autoptr(JsonNode) answer = NULL;

    if (!call_json(self, "POST", path, request, COMMIT_TIMEOUT_S, &answer, cancel, error))
        return FALSE;
    return vr_json_object(answer, "the answer to BEGIN", error) != NULL &&
           vr_json_uint(json_node_get_object(answer), "held", G_MAXINT64, ret_held, error);
}

static gboolean
status_from_name(const char *name, VrCycleStatus *ret_status)
{
    if (g_strcmp0(name, "unknown") == 0)
        *ret_status = VR_CYCLE_UNKNOWN;
    else if (g_strcmp0(name, "open") == 0)
        *ret_status = VR_CYCLE_OPEN;
    else if (g_strcmp0(name, "committed") == 0)
        *ret_status = VR_CYCLE_COMMITTED;
    else
        return FALSE;
    return TRUE;
}

gboolean
vr_peer_client_cycle_status(VrPeerClient *self, const char *uuid, const char *cycle,
                            VrCycleStatus *ret_status, VrRecoveryPoint **ret_rp,
                            GCancellable *cancel, GError **error)
{
    g_autofree char *path = cycle_path(uuid, cycle, "");
    g_autoptr(JsonNode) answer = object_call(self, "GET", path, NULL, cancel, error);
    g_autoptr(VrRecoveryPoint) rp = NULL;
    VrCycleStatus status;
    JsonObject *object;

    if (!answer)
        return FALSE;
    object = json_node_get_object(answer);
    if (!rp_member(object, &rp, error))
        return FALSE;
    if (!status_from_name(vr_json_string(object, "status", 16, NULL), &status) ||
        (status == VR_CYCLE_COMMITTED) != (rp != NULL)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-message", NULL,
                     "peer '%s' sent a cycle status that is not understood", self->name);
        return FALSE;
    }
    *ret_status = status;
    if (ret_rp)
        *ret_rp = g_steal_pointer(&rp);
    return TRUE;
}

static guint64
read_u64(const guint8 *p)
{
    guint64 value;

    memcpy(&value, p, sizeof(value));
    return GUINT64_FROM_LE(value);
}

/* Records of one page to @func. @ret_next: chunk behind the last record. */
static gboolean
feed_page(VrPeerClient *self, GBytes *page, guint64 chunks, guint64 from, gboolean ascending,
          VrDigestFunc func, gpointer data, guint64 *ret_next, GError **error)
{
    gsize len;
    const guint8 *p = g_bytes_get_data(page, &len);
    gboolean ok = len % RECORD_LEN == 0;

    for (gsize i = 0; ok && i < len; i += RECORD_LEN) {
        guint64 chunk = read_u64(p + i);
        VrDigest digest;

        ok = chunk < chunks && (!ascending || chunk >= from);
        if (!ok)
            break;
        memcpy(digest.b, p + i + 8, VR_DIGEST_LEN);
        func(chunk, &digest, data);
        from = chunk + 1;
    }
    if (!ok)
        vr_set_error(error, VR_ERROR_INVALID, "bad-message", NULL,
                     "peer '%s' sent digests that are not of this disk", self->name);
    *ret_next = from;
    return ok;
}

static gboolean
get_page(VrPeerClient *self, const char *path, GBytes **ret_page, GCancellable *cancel,
         GError **error)
{
    VrHttpCall request = {
        .method = "GET",
        .path = path,
        .body_fd = -1,
        .answer_max = PAGE_RECORDS * RECORD_LEN,
        .timeout_s = JSON_TIMEOUT_S,
        .quiet_peer = TRUE,
    };

    return call(self, &request, ret_page, cancel, error);
}

gboolean
vr_peer_client_held(VrPeerClient *self, const char *uuid, const char *cycle, const char *disk,
                    guint64 chunks, VrDigestFunc func, gpointer data, GCancellable *cancel,
                    GError **error)
{
    guint64 first = 0, count;

    do {
        g_autofree char *rest = g_strdup_printf("/held?disk=%s&first=%" G_GUINT64_FORMAT "&max=%d",
                                                disk, first, PAGE_RECORDS);
        g_autofree char *path = cycle_path(uuid, cycle, rest);
        g_autoptr(GBytes) page = NULL;
        guint64 next;

        if (!get_page(self, path, &page, cancel, error) ||
            !feed_page(self, page, chunks, 0, FALSE, func, data, &next, error))
            return FALSE;
        count = g_bytes_get_size(page) / RECORD_LEN;
        first += count;
    } while (count == PAGE_RECORDS && first < chunks);
    return TRUE;
}

gboolean
vr_peer_client_sums(VrPeerClient *self, const char *uuid, const char *disk, guint64 chunks,
                    VrDigestFunc func, gpointer data, GCancellable *cancel, GError **error)
{
    guint64 from = 0;
    gsize count;

    do {
        g_autofree char *rest = g_strdup_printf("/sums?disk=%s&from=%" G_GUINT64_FORMAT "&max=%d",
                                                disk, from, PAGE_RECORDS);
        g_autofree char *path = protection_path(uuid, rest);
        g_autoptr(GBytes) page = NULL;

        if (!get_page(self, path, &page, cancel, error) ||
            !feed_page(self, page, DISK_CHUNKS_MAX, from, TRUE, func, data, &from, error))
            return FALSE;
        count = g_bytes_get_size(page) / RECORD_LEN;
    } while (count == PAGE_RECORDS && from < chunks);
    return TRUE;
}

gboolean
vr_peer_client_chunks(VrPeerClient *self, const char *uuid, const char *cycle, const void *body,
                      gsize len, GCancellable *cancel, GError **error)
{
    g_autofree char *path = cycle_path(uuid, cycle, "/chunks");
    VrHttpCall request = {
        .method = "PUT",
        .path = path,
        .body = body,
        .body_len = len,
        .body_fd = -1,
        .timeout_s = CHUNKS_TIMEOUT_S,
    };

    return call(self, &request, NULL, cancel, error);
}

gboolean
vr_peer_client_has_attachment(VrPeerClient *self, const char *uuid, const char *sha256,
                              gboolean *ret_has, GCancellable *cancel, GError **error)
{
    g_autofree char *rest = g_strconcat("/attachments/", sha256, NULL);
    g_autofree char *path = protection_path(uuid, rest);
    g_autoptr(JsonNode) answer = object_call(self, "GET", path, NULL, cancel, error);

    return answer &&
           vr_json_bool_opt(json_node_get_object(answer), "stored", FALSE, ret_has, error);
}

gboolean
vr_peer_client_put_attachment(VrPeerClient *self, const char *uuid, const char *cycle,
                              const char *sha256, int fd, guint64 size, GCancellable *cancel,
                              GError **error)
{
    g_autofree char *rest = g_strconcat("/attachments/", sha256, NULL);
    g_autofree char *path = cycle_path(uuid, cycle, rest);
    VrHttpCall request = {
        .method = "PUT",
        .path = path,
        .body_fd = fd,
        .body_len = size,
        .timeout_s = CHUNKS_TIMEOUT_S * (guint) (1 + size / CHUNKS_MAX_BYTES),
    };

    if (size > VR_ATTACHMENT_MAX) {
        vr_set_error(error, VR_ERROR_INVALID, "attachment-too-large", NULL,
                     "a file of %" G_GUINT64_FORMAT " bytes is too large to travel with the domain",
                     size);
        return FALSE;
    }
    return call(self, &request, NULL, cancel, error);
}

VrRecoveryPoint *
vr_peer_client_commit(VrPeerClient *self, const char *uuid, const VrCycleCommit *commit,
                      GCancellable *cancel, GError **error)
{
    g_autofree char *path = cycle_path(uuid, commit->cycle, "/commit");
    g_autoptr(JsonNode) request = vr_cycle_commit_to_json(commit);
    g_autoptr(JsonNode) answer = NULL;

    if (!call_json(self, "POST", path, request, COMMIT_TIMEOUT_S, &answer, cancel, error))
        return NULL;
    if (!vr_json_object(answer, "the answer to COMMIT", error))
        return NULL;
    return vr_recovery_point_from_json(answer, error);
}

typedef struct {
    VrSink sink;          /* first: the sink's address is ours */
    VrPeerClient *client; /* borrowed */
    char *uuid;           /* owned */
    char *cycle;          /* owned */
} PeerSink;

static gboolean
sink_send(VrSink *sink, guint worker G_GNUC_UNUSED, const guint8 *body, gsize len,
          GCancellable *cancel, GError **error)
{
    PeerSink *self = (PeerSink *) sink;

    return vr_peer_client_chunks(self->client, self->uuid, self->cycle, body, len, cancel, error);
}

VrSink *
vr_peer_sink_new(VrPeerClient *client, const char *uuid, const char *cycle)
{
    PeerSink *self = g_new0(PeerSink, 1);

    self->sink.send = sink_send;
    self->client = client;
    self->uuid = g_strdup(uuid);
    self->cycle = g_strdup(cycle);
    return &self->sink;
}

void
vr_peer_sink_free(VrSink *sink)
{
    PeerSink *self = (PeerSink *) sink;

    if (!self)
        return;
    g_free(self->uuid);
    g_free(self->cycle);
    g_free(self);
}
