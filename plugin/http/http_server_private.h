/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <microhttpd.h>

#include "plugin/http/http_server.h"

G_BEGIN_DECLS

/** SECTION: between http_server.c (listeners, libmicrohttpd), http_request.c (one request) and
 * http_route.c. */

typedef struct {
    const VrHttpRoute *routes; /* borrowed: static */
    guint n;
    gpointer data; /* borrowed */
} VrHttpRouteTable;

/** One connection; lives in libmicrohttpd's socket context, used by its thread only. */
typedef struct {
    char *peer;   /* owned; NULL on the UNIX socket */
    char *remote; /* owned; NULL on the UNIX socket */
    uid_t uid;
    GByteArray *buffer; /* owned; body in memory, kept for the next request */
} VrHttpConnection;

struct _VrHttpRequest {
    VrHttpConnection *connection; /* borrowed: outlives its requests */
    char *method;                 /* owned */
    char *path;                   /* owned */
    GHashTable *query;            /* owned; NULL: the query is not understood */
    const VrHttpRoute *route;     /* NULL: failure is set */
    gpointer route_data;
    char **params;  /* owned; decoded, in the order of the pattern */
    guint64 length; /* declared */
    guint64 received;
    int fd;               /* spool file or -1 */
    JsonNode *json;       /* owned */
    GCancellable *cancel; /* borrowed: the server's */
    GError *failure;      /* owned; answered when the body has been swallowed */
    gboolean handled;     /* an answer was queued */
};

struct _VrHttpReply {
    guint status;
    const char *content_type;
    GBytes *body; /* owned, nullable */
};

/**
 * vr_http_route_find:
 * @raw_path: as sent, without the query
 * @ret_params: decoded values (transfer full)
 *
 * Errors: NOT_FOUND "no-such-route", INVALID "method-not-allowed", "bad-path".
 */
const VrHttpRoute *vr_http_route_find(GArray *tables, const char *method, const char *raw_path,
                                      gpointer *ret_data, char ***ret_params, GError **error);

VrHttpRequest *vr_http_request_new(VrHttpConnection *connection, struct MHD_Connection *mhd,
                                   const char *method, const char *raw_path, GCancellable *cancel);
void vr_http_request_free(VrHttpRequest *self);

/** Framing of the body as declared: exactly one way to say its length. Sets @self->length. Errors:
 * INVALID. */
gboolean vr_http_request_check_framing(VrHttpRequest *self, struct MHD_Connection *mhd,
                                       GError **error);
/** The route is known: is a body of that length welcome? Makes room. */
gboolean vr_http_request_open_body(VrHttpRequest *self, const char *spool_dir, GError **error);
/** Bytes that came. After a failure they are only counted. */
void vr_http_request_take(VrHttpRequest *self, const char *data, gsize len);
/** Everything came: parses JSON, rewinds the file. */
gboolean vr_http_request_close_body(VrHttpRequest *self, GError **error);

G_END_DECLS
