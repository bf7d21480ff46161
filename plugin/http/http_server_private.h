/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <microhttpd.h>

#include "plugin/http/http_budget.h"
#include "plugin/http/http_gate.h"
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
    char *peer;         /* owned; NULL on the UNIX socket */
    char *remote;       /* owned; NULL on the UNIX socket */
    VrHttpVisit *visit; /* the gate's; NULL on the UNIX socket, or when its time was over */
} VrHttpConnection;

typedef struct {
    gpointer data; /* owned */
    GDestroyNotify free_func;
} VrHttpKept;

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
    GByteArray *buffer;   /* owned; body in memory; NULL until it is welcome */
    VrHttpBudget *budget; /* borrowed: the server's */
    char *payer;          /* owned; whose budget was charged, NULL: nobody's */
    guint64 charge;       /* bytes taken from the budget */
    VrHttpKept *kept;     /* owned; of the route's admit function */
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

/** A segment of a path or a part of a query, decoded once: valid UTF-8, safe characters, none of
 * @illegal (nullable). NULL: it is not. (transfer full) */
char *vr_http_decode(const char *raw, const char *illegal);

VrHttpRequest *vr_http_request_new(VrHttpConnection *connection, struct MHD_Connection *mhd,
                                   const char *method, const char *raw_path, VrHttpBudget *budget,
                                   GCancellable *cancel);
/** Gives back what was charged. */
void vr_http_request_free(VrHttpRequest *self);

/** Framing of the body as declared: exactly one way to say its length. Sets @self->length. Errors:
 * INVALID. */
gboolean vr_http_request_check_framing(VrHttpRequest *self, struct MHD_Connection *mhd,
                                       GError **error);
/** The route is known: is a body of that length possible there? Errors: INVALID "body-too-large".
 */
gboolean vr_http_request_check_length(const VrHttpRequest *self, GError **error);
/** Waits until there is memory for the request within the budget of @payer. Errors: TRANSIENT. */
gboolean vr_http_request_charge(VrHttpRequest *self, const char *payer, GError **error);
/** Makes room for the body. @spool_dir: (nullable): for VR_HTTP_BODY_FILE */
gboolean vr_http_request_open_body(VrHttpRequest *self, const char *spool_dir, GError **error);
/** Bytes that came. After a failure they are only counted. */
void vr_http_request_take(VrHttpRequest *self, const char *data, gsize len);
/** Everything came: parses JSON, rewinds the file. */
gboolean vr_http_request_close_body(VrHttpRequest *self, GError **error);

G_END_DECLS
