/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>
#include <json-glib/json-glib.h>

G_BEGIN_DECLS

/**
 * SECTION: HTTP client: to a peer (TLS 1.3, our certificate, the peer's key pinned) or to the
 * daemon of this host (UNIX socket).
 *
 * One handle is one connection that is kept alive; one thread at a time uses it. No redirects, no
 * proxies, no compression, no session resumption.
 */
typedef struct _VrHttp VrHttp;

/** Call once in main() before threads start. */
void vr_http_global_init(void);

/**
 * vr_http_new_peer:
 * @name: of the peer, for messages
 * @address: HOST:PORT or [IPV6]:PORT
 * @fingerprint: 64 hex digits: SHA-256 of the peer's SubjectPublicKeyInfo. A server with another
 * key gets no byte of a request
 * @cert_path, @key_path: ours, PEM
 *
 * Does not connect yet. Errors: INVALID "bad-address", "bad-fingerprint".
 */
VrHttp *vr_http_new_peer(const char *name, const char *address, const char *fingerprint,
                         const char *cert_path, const char *key_path, GError **error);
/** To the daemon behind @socket_path. */
VrHttp *vr_http_new_unix(const char *socket_path);
void vr_http_free(VrHttp *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrHttp, vr_http_free)

typedef struct {
    const char *method;       /* "GET", "HEAD", "PUT", "POST", "DELETE" */
    const char *path;         /* "/v1/..." with query, escaped where needed */
    const char *content_type; /* of the body, nullable: application/octet-stream */
    const void *body;         /* nullable; borrowed during the call */
    gsize body_len;
    int body_fd;      /* read from its start if @body is NULL and @body_len > 0 */
    gsize answer_max; /* bytes of answer accepted, 0: 1 MiB */
    guint timeout_s;  /* whole call; 0: none (only a connection on which nothing moves for 30 s is
                         given up) */
    gboolean
        quiet_peer; /* the peer may think longer than 30 s before it answers (then set timeout_s) */
} VrHttpCall;

/** Whether the other side is still there; asks it on another connection, for some seconds. */
typedef gboolean (*VrHttpThereFunc)(gpointer data, GCancellable *cancel);

/** From now on a call with `quiet_peer` on which nothing moves asks @func every @period_ms; told
 * twice in a row that it is not there, the call ends: TRANSIENT "peer-unreachable". @func NULL:
 * not any more. Called in the thread of the call. */
void vr_http_watch(VrHttp *self, guint period_ms, VrHttpThereFunc func, gpointer data);

/**
 * vr_http_call:
 * @ret_body: (nullable) (out) (transfer full): answer of a 2xx; empty GBytes if it has none
 *
 * Blocks. Any status but 2xx is an error: the one the server sent (same code, but see
 * vr_error_from_peer(), slug, message, action) or, without a body, one made from the status. Errors
 * of our own: TRANSIENT "peer-unreachable" (naming peer, address and cause), AUTH
 * "peer-key-changed", UNREACHABLE "daemon-unreachable" and TIMEOUT "daemon-timeout" (UNIX socket),
 * TRANSIENT "peer-timeout" (timeout_s passed), CANCELLED, INVALID "answer-too-large".
 */
gboolean vr_http_call(VrHttp *self, const VrHttpCall *call, GBytes **ret_body, GCancellable *cancel,
                      GError **error);

/**
 * vr_http_json:
 * @body: (nullable) (transfer none)
 * @ret_answer: (nullable) (out) (transfer full): NULL if the answer had no body
 *
 * vr_http_call() with JSON both ways, waiting at most @timeout_s (0: the 30 s of a silent
 * connection) for the answer.
 */
gboolean vr_http_json(VrHttp *self, const char *method, const char *path, JsonNode *body,
                      guint timeout_s, JsonNode **ret_answer, GCancellable *cancel, GError **error);

/** "HOST:PORT" or "[V6]:PORT" taken apart; @ret_host without brackets, may be empty only if
 * @host_optional. */
gboolean vr_address_parse(const char *address, gboolean host_optional, char **ret_host,
                          guint16 *ret_port, GError **error);

G_END_DECLS
