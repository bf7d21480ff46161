/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>
#include <json-glib/json-glib.h>

#include "plugin/identity.h"

G_BEGIN_DECLS

/**
 * SECTION: HTTP server: one listener, a table of routes, a thread per connection.
 *
 * Use: new, add_routes (any number of tables), start, free. Handlers run in the connection's thread
 * and may block; those that wait watch vr_http_request_cancel(). Limits are checked before a byte
 * of body is accepted: route, authorisation, declared length, then the bytes that really come.
 */
typedef struct _VrHttpServer VrHttpServer;
typedef struct _VrHttpRequest VrHttpRequest;
typedef struct _VrHttpReply VrHttpReply;

/** Fill @reply or return FALSE with @error set: it becomes {"error": vr_error_to_json_object()}
 * with the status of vr_error_http_status(). A reply left untouched is 204. */
typedef gboolean (*VrHttpHandler)(const VrHttpRequest *request, VrHttpReply *reply, gpointer data,
                                  GError **error);

typedef enum {
    VR_HTTP_BODY_NONE,  /* a body is refused */
    VR_HTTP_BODY_JSON,  /* parsed with limits; may be absent */
    VR_HTTP_BODY_BYTES, /* in memory */
    VR_HTTP_BODY_FILE,  /* spooled into an unlinked temporary file */
} VrHttpBody;

/**
 * Asked after the authorise function and before a byte of body is read: is this request possible
 * at all as things stand? @ret_spool_dir: (transfer full): set for VR_HTTP_BODY_FILE: where its
 * body is spooled, else left alone. FALSE with @error: refused.
 */
typedef gboolean (*VrHttpAdmit)(const VrHttpRequest *request, gpointer data, char **ret_spool_dir,
                                GError **error);

typedef struct {
    const char *method; /* "GET" (serves HEAD too), "PUT", "POST", "DELETE" */
    const char
        *pattern; /* "/v1/things/{id}": a parameter is one whole segment; literal segments win */
    VrHttpHandler handler;
    VrHttpBody body;
    guint64 body_max;  /* bytes; 0: 1 MiB */
    gboolean open;     /* the authorise function is not asked */
    VrHttpAdmit admit; /* nullable; needed for VR_HTTP_BODY_FILE */
    guint64 memory;    /* bytes the handler and its reply may take beside the body, 0: 64 KiB */
} VrHttpRoute;

/** Asked before the body is read, unless the route is open. FALSE with @error: refused. */
typedef gboolean (*VrHttpAuthorise)(const VrHttpRequest *request, gpointer data, GError **error);

/**
 * vr_http_server_new_unix:
 * @path: replaced if nobody answers behind it; removed by free
 * @group: (nullable): the socket gets mode 0660 and this group if it exists, else 0600
 *
 * Errors: CONFLICT "socket-in-use", INVALID (path too long), INTERNAL.
 */
VrHttpServer *vr_http_server_new_unix(const char *path, const char *group, GError **error);

/**
 * vr_http_server_new_tls:
 * @listen: ADDR:PORT, [V6]:PORT or :PORT (all addresses); port 0: any free one
 * @identity: borrowed, outlives the server
 *
 * TLS 1.3 with AES-GCM only; a client without a certificate, or that cannot prove its key, gets no
 * HTTP. Which keys are welcome is the authorise function's business. Clients it has not welcomed
 * share few connections for a short time (http_gate.h); each key has a budget of connections and
 * memory (http_budget.h). Errors: CONFLICT "address-in-use", INVALID "bad-address", INTERNAL.
 */
VrHttpServer *vr_http_server_new_tls(const char *listen, const VrIdentity *identity,
                                     GError **error);

/** Stops listening, cancels waiting handlers, waits for all of them. */
void vr_http_server_free(VrHttpServer *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrHttpServer, vr_http_server_free)

/* All before vr_http_server_start(). */
/** @routes: (array length=n): static */
void vr_http_server_add_routes(VrHttpServer *self, const VrHttpRoute *routes, guint n,
                               gpointer data);
void vr_http_server_set_authorise(VrHttpServer *self, VrHttpAuthorise authorise, gpointer data);
/** TLS: connections that one key may have at once; default 32. */
void vr_http_server_set_peer_connections(VrHttpServer *self, guint n);

gboolean vr_http_server_start(VrHttpServer *self, GError **error);
/** TLS: the port really listened on. */
guint16 vr_http_server_port(const VrHttpServer *self);

/* The request. Everything is borrowed and lives as long as the handler runs. */
/** Value of "{name}" in the pattern, decoded once, UTF-8 that is safe to show; never
 * NULL for a name that the pattern has. */
const char *vr_http_request_param(const VrHttpRequest *request, const char *name);
/** NULL if absent. */
const char *vr_http_request_query(const VrHttpRequest *request, const char *name);
/** @fallback if absent. Errors: INVALID "bad-query" (no number, above @max). */
gboolean vr_http_request_query_uint(const VrHttpRequest *request, const char *name,
                                    guint64 fallback, guint64 max, guint64 *ret, GError **error);
/** TRUE for "1" or "true". */
gboolean vr_http_request_query_flag(const VrHttpRequest *request, const char *name);

/** NULL if there was no body. */
JsonNode *vr_http_request_json(const VrHttpRequest *request);
/** The body's object. Errors: INVALID "bad-message" (no body, not an object). */
JsonObject *vr_http_request_object(const VrHttpRequest *request, GError **error);
/** VR_HTTP_BODY_BYTES; @ret_len may be 0. */
const guint8 *vr_http_request_bytes(const VrHttpRequest *request, gsize *ret_len);
/** VR_HTTP_BODY_FILE; rewound. */
int vr_http_request_fd(const VrHttpRequest *request);

/** TLS: fingerprint of the client's key, else NULL. */
const char *vr_http_request_peer(const VrHttpRequest *request);
/** TLS: numeric address of the client, IPv6 without brackets, else NULL. */
const char *vr_http_request_remote(const VrHttpRequest *request);
/** Declared length of the body. */
guint64 vr_http_request_length(const VrHttpRequest *request);
/** Once a request, in its admit function: @data is freed when the request is over, however it ends.
 */
void vr_http_request_keep(const VrHttpRequest *request, gpointer data, GDestroyNotify free_func);
/** NULL if nothing was kept. */
gpointer vr_http_request_kept(const VrHttpRequest *request);
/** Cancelled when the server stops. */
GCancellable *vr_http_request_cancel(const VrHttpRequest *request);

/* The reply. */
/** @node: (transfer full) */
void vr_http_reply_json(VrHttpReply *reply, guint status, JsonNode *node);
/** @bytes: (transfer full); @content_type: static */
void vr_http_reply_bytes(VrHttpReply *reply, guint status, const char *content_type, GBytes *bytes);

G_END_DECLS
