/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libmicrohttpd calls on_access() several times for a request: after the headers, for each piece of
 * body, and at its end. What is wrong with the headers is found in the first call. A refusal is
 * answered at once only if a very large body is coming (the connection is then closed); a small
 * body is swallowed first, so that the answer surely arrives.
 *
 * Paths and queries are not decoded by libmicrohttpd (see http_route.c). It only requests a client
 * certificate, so on_connection() makes the session require one. Connections from the network are
 * accepted by the gate, which hands over those that have something to say. */
#include "plugin/http/http_server.h"

#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "plugin/http/http_listen.h"
#include "plugin/http/http_server_private.h"
#include "policies/error.h"
#include "storage/wire/error_json.h"
#include "storage/util/json_util.h"

#define PRIORITIES                                                                                 \
    "NONE:+VERS-TLS1.3:+AES-128-GCM:+AES-256-GCM:+AEAD:+SIGN-ALL:+GROUP-ALL:+CTYPE-X509:%NO_"      \
    "TICKETS"
#define CONNECTION_MEMORY ((size_t) 128 * 1024)
#define THREAD_STACK ((size_t) 1024 * 1024)
#define IDLE_TIMEOUT_S 60u
/* Of the UNIX socket; the gate keeps those of the network within their limits, which are lower. */
#define MAX_CONNECTIONS 320u
#define MAX_CONNECTIONS_TLS 65536u
#define PEER_CONNECTIONS 32u
/* In the budget: everybody whose key nobody knows, and the people of this host, who have none. */
#define UNKNOWN_PEER ""
#define SWALLOW_MAX ((guint64) 16 * 1024 * 1024)

struct _VrHttpServer {
    struct MHD_Daemon *daemon; /* owned; NULL until started */
    int fd;                    /* owned until started, then the daemon's or the gate's */
    guint16 port;
    VrHttpGate *gate;     /* owned; NULL until started, and on the UNIX socket */
    VrHttpBudget *budget; /* owned */
    guint peer_connections;
    int connections;            /* atomic */
    char *socket_path;          /* owned; NULL: TLS */
    const VrIdentity *identity; /* borrowed; NULL: UNIX socket */
    GArray *tables;             /* owned; VrHttpRouteTable */
    VrHttpAuthorise authorise;
    gpointer authorise_data;
    GCancellable *cancel; /* owned */
};

static VrHttpServer *
new_server(int fd)
{
    VrHttpServer *self = g_new0(VrHttpServer, 1);

    self->fd = fd;
    self->tables = g_array_new(FALSE, FALSE, sizeof(VrHttpRouteTable));
    self->budget =
        vr_http_budget_new(VR_HTTP_BUDGET_PEER, VR_HTTP_BUDGET_ALL, VR_HTTP_BUDGET_WAIT_US);
    self->peer_connections = PEER_CONNECTIONS;
    self->cancel = g_cancellable_new();
    return self;
}

VrHttpServer *
vr_http_server_new_unix(const char *path, const char *group, GError **error)
{
    int fd = vr_listen_unix(path, group, error);
    VrHttpServer *self;

    if (fd < 0)
        return NULL;
    self = new_server(fd);
    self->socket_path = g_strdup(path);
    return self;
}

VrHttpServer *
vr_http_server_new_tls(const char *listen_address, const VrIdentity *identity, GError **error)
{
    guint16 port = 0;
    int fd = vr_listen_tcp(listen_address, &port, error);
    VrHttpServer *self;

    if (fd < 0)
        return NULL;
    self = new_server(fd);
    self->identity = identity;
    self->port = port;
    return self;
}

void
vr_http_server_free(VrHttpServer *self)
{
    if (!self)
        return;
    g_cancellable_cancel(self->cancel);
    vr_http_budget_close(self->budget);
    if (self->gate)
        vr_http_gate_stop(self->gate);
    if (self->daemon)
        MHD_stop_daemon(self->daemon);
    vr_http_gate_free(self->gate);
    if (self->fd >= 0)
        close(self->fd);
    if (self->socket_path)
        unlink(self->socket_path);
    g_array_unref(self->tables);
    g_object_unref(self->cancel);
    g_free(self->socket_path);
    vr_http_budget_free(self->budget);
    g_free(self);
}

void
vr_http_server_add_routes(VrHttpServer *self, const VrHttpRoute *routes, guint n, gpointer data)
{
    VrHttpRouteTable table = {routes, n, data};

    g_array_append_val(self->tables, table);
}

void
vr_http_server_set_authorise(VrHttpServer *self, VrHttpAuthorise authorise, gpointer data)
{
    self->authorise = authorise;
    self->authorise_data = data;
}

void
vr_http_server_set_peer_connections(VrHttpServer *self, guint n)
{
    self->peer_connections = n;
}

guint16
vr_http_server_port(const VrHttpServer *self)
{
    return self->port;
}

static char *
remote_address(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char text[INET6_ADDRSTRLEN] = "";
    const struct sockaddr *address = info ? info->client_addr : NULL;

    if (address && address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *) address)->sin_addr, text, sizeof(text));
    else if (address && address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *) address)->sin6_addr, text,
                  sizeof(text));
    return g_strdup(g_str_has_prefix(text, "::ffff:") ? text + strlen("::ffff:") : text);
}

static gnutls_session_t
tls_session(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);

    return info ? info->tls_session : NULL;
}

static void
end_connection(VrHttpServer *self, VrHttpConnection *connection)
{
    if (connection->visit)
        vr_http_gate_leave(self->gate, connection->visit);
    g_free(connection->peer);
    g_free(connection->remote);
    g_free(connection);
    if (g_atomic_int_dec_and_test(&self->connections))
        vr_http_budget_trim(self->budget);
}

static void
on_connection(void *data, struct MHD_Connection *mhd, void **context,
              enum MHD_ConnectionNotificationCode what)
{
    VrHttpServer *self = data;
    VrHttpConnection *connection = *context;
    const union MHD_ConnectionInfo *info;

    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (connection)
            end_connection(self, connection);
        *context = NULL;
        return;
    }
    g_atomic_int_inc(&self->connections);
    connection = g_new0(VrHttpConnection, 1);
    *context = connection;
    info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (self->identity) {
        gnutls_session_t session = tls_session(mhd);

        connection->visit = vr_http_gate_enter(self->gate, info->connect_fd);
        connection->remote = remote_address(mhd);
        if (session)
            gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
        return;
    }
}

/* The handshake is over: gnutls has seen the client prove the key of its certificate. */
static gboolean
identify_peer(VrHttpServer *self, VrHttpConnection *connection, struct MHD_Connection *mhd,
              GError **error)
{
    gnutls_session_t session;
    const gnutls_datum_t *certificates = NULL;
    unsigned int n = 0;

    if (!self->identity || connection->peer)
        return TRUE;
    session = tls_session(mhd);
    if (session && gnutls_certificate_type_get(session) == GNUTLS_CRT_X509)
        certificates = gnutls_certificate_get_peers(session, &n);
    if (!certificates || n < 1) {
        vr_set_error(error, VR_ERROR_AUTH, "no-certificate", "Pair the two hosts.",
                     "the client has no certificate");
        return FALSE;
    }
    connection->peer =
        vr_certificate_fingerprint(certificates[0].data, certificates[0].size, error);
    return connection->peer != NULL;
}

/* The key is welcome, and within its budgets. */
static gboolean
may_enter(VrHttpServer *self, VrHttpRequest *request, GError **error)
{
    VrHttpConnection *connection = request->connection;

    if (request->route->open || !self->authorise)
        return vr_http_request_charge(request, UNKNOWN_PEER, error);
    if (!self->authorise(request, self->authorise_data, error))
        return FALSE;
    if (!self->identity)
        return vr_http_request_charge(request, UNKNOWN_PEER, error);
    if (!connection->visit) {
        vr_set_error(error, VR_ERROR_TRANSIENT, "too-late", "Try again.",
                     "the connection took too long to begin");
        return FALSE;
    }
    return vr_http_gate_know(self->gate, connection->visit, connection->peer, error) &&
           vr_http_request_charge(request, connection->peer, error);
}

static gboolean
admit(VrHttpRequest *request, GError **error)
{
    g_autofree char *spool_dir = NULL;

    if (request->route->admit &&
        !request->route->admit(request, request->route_data, &spool_dir, error))
        return FALSE;
    return vr_http_request_open_body(request, spool_dir, error);
}

static gboolean
check_headers(VrHttpServer *self, VrHttpRequest *request, struct MHD_Connection *mhd,
              GError **error)
{
    if (!vr_http_request_check_framing(request, mhd, error) ||
        !identify_peer(self, request->connection, mhd, error))
        return FALSE;
    if (!request->query) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-query", NULL,
                     "the query of the request is not understood");
        return FALSE;
    }
    request->route = vr_http_route_find(self->tables, request->method, request->path,
                                        &request->route_data, &request->params, error);
    if (!request->route)
        return FALSE;
    return may_enter(self, request, error) && vr_http_request_check_length(request, error) &&
           admit(request, error);
}

static enum MHD_Result
send_reply(struct MHD_Connection *mhd, VrHttpReply *reply)
{
    struct MHD_Response *response;
    enum MHD_Result result;
    gsize len = 0;
    gpointer data = reply->body ? g_bytes_unref_to_data(g_steal_pointer(&reply->body), &len) : NULL;

    response = MHD_create_response_from_buffer(len, data, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        g_free(data);
        return MHD_NO;
    }
    if (reply->content_type)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->content_type);
    result = MHD_queue_response(mhd, reply->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result
send_failure(struct MHD_Connection *mhd, const VrHttpRequest *request, const GError *error)
{
    VrHttpReply reply = {0};
    JsonObject *object = json_object_new();
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_object_set_object_member(object, "error", vr_error_to_json_object(error));
    json_node_take_object(node, object);
    vr_http_reply_json(&reply, (guint) vr_error_http_status(error), node);
    g_debug("%s %s: %s", request->method, request->path, error->message);
    return send_reply(mhd, &reply);
}

/* The idle timeout does not run while the handler works; setting it again starts it anew. */
static enum MHD_Result
dispatch(struct MHD_Connection *mhd, VrHttpRequest *request)
{
    VrHttpReply reply = {.status = MHD_HTTP_NO_CONTENT};
    g_autoptr(GError) error = NULL;
    gboolean ok;

    request->handled = TRUE;
    if (request->failure)
        return send_failure(mhd, request, request->failure);
    if (!vr_http_request_close_body(request, &error))
        return send_failure(mhd, request, error);
    MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
    ok = request->route->handler(request, &reply, request->route_data, &error);
    MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT, IDLE_TIMEOUT_S);
    if (ok)
        return send_reply(mhd, &reply);
    g_clear_pointer(&reply.body, g_bytes_unref);
    if (!error)
        vr_set_error(&error, VR_ERROR_INTERNAL, "no-reason", NULL, "%s failed without a reason",
                     request->path);
    return send_failure(mhd, request, error);
}

/* In place of a request: its path has a NUL, so that libmicrohttpd shows only what is before it. */
static VrHttpRequest nul_in_path;

/* Called with the URI where it lies in the request line, which goes on with the version behind the
 * NUL that ends it. */
static void *
on_uri(void *data G_GNUC_UNUSED, const char *uri, struct MHD_Connection *mhd G_GNUC_UNUSED)
{
    return strncmp(uri + strlen(uri) + 1, "HTTP/", 5) == 0 ? NULL : &nul_in_path;
}

static enum MHD_Result
refuse_path(struct MHD_Connection *mhd, VrHttpRequest *request)
{
    request->handled = TRUE;
    vr_set_error(&request->failure, VR_ERROR_INVALID, "bad-path", NULL,
                 "the path of the request is not understood");
    return send_failure(mhd, request, request->failure);
}

static enum MHD_Result
on_access(void *data, struct MHD_Connection *mhd, const char *url, const char *method,
          const char *version G_GNUC_UNUSED, const char *upload, size_t *upload_size,
          void **context)
{
    VrHttpServer *self = data;
    VrHttpRequest *request = *context;
    gboolean nul = request == &nul_in_path;

    if (!request || nul) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

        request =
            vr_http_request_new(info->socket_context, mhd, method, url, self->budget, self->cancel);
        *context = request;
        if (request->connection->visit)
            vr_http_gate_use(self->gate, request->connection->visit, TRUE);
        if (nul)
            return refuse_path(mhd, request);
        if (!check_headers(self, request, mhd, &request->failure) &&
            (request->length > SWALLOW_MAX ||
             g_str_equal(vr_error_slug(request->failure), "bad-framing"))) {
            request->handled = TRUE;
            return send_failure(mhd, request, request->failure);
        }
        return MHD_YES;
    }
    if (*upload_size > 0) {
        vr_http_request_take(request, upload, *upload_size);
        *upload_size = 0;
        return MHD_YES;
    }
    return request->handled ? MHD_YES : dispatch(mhd, request);
}

static void
on_completed(void *data, struct MHD_Connection *mhd G_GNUC_UNUSED, void **context,
             enum MHD_RequestTerminationCode why G_GNUC_UNUSED)
{
    VrHttpServer *self = data;
    VrHttpRequest *request = *context == &nul_in_path ? NULL : *context;

    if (request && request->connection->visit)
        vr_http_gate_use(self->gate, request->connection->visit, FALSE);
    vr_http_request_free(request);
    *context = NULL;
}

static size_t
keep_escapes(void *data G_GNUC_UNUSED, struct MHD_Connection *mhd G_GNUC_UNUSED, char *text)
{
    return strlen(text);
}

G_GNUC_PRINTF(2, 0)
static void
on_log(void *data G_GNUC_UNUSED, const char *format, va_list args)
{
    g_autofree char *text = g_strdup_vprintf(format, args);

    g_debug("libmicrohttpd: %s", g_strchomp(text));
}

static void
pass_connection(int fd, const struct sockaddr *address, socklen_t len, gpointer data)
{
    VrHttpServer *self = data;

    if (MHD_add_connection(self->daemon, fd, address, len) != MHD_YES)
        g_debug("libmicrohttpd takes no connection");
}

gboolean
vr_http_server_start(VrHttpServer *self, GError **error)
{
    unsigned int flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD |
                         MHD_USE_POLL | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_KEY, 0, NULL},
        {MHD_OPTION_HTTPS_MEM_CERT, 0, NULL},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *) PRIORITIES},
        {MHD_OPTION_CONNECTION_LIMIT, MAX_CONNECTIONS_TLS, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem local[] = {
        {MHD_OPTION_LISTEN_SOCKET, self->fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, MAX_CONNECTIONS, NULL},
        {MHD_OPTION_END, 0, NULL},
    };

    if (self->identity) {
        flags |= MHD_USE_TLS | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC;
        tls[0].ptr_value = (void *) vr_identity_key_pem(self->identity);
        tls[1].ptr_value = (void *) vr_identity_cert_pem(self->identity);
    } else {
        self->fd = -1; /* libmicrohttpd's from here on, also if it fails */
    }
    self->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_access, self, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        CONNECTION_MEMORY, MHD_OPTION_THREAD_STACK_SIZE, THREAD_STACK, MHD_OPTION_STRICT_FOR_CLIENT,
        1, MHD_OPTION_NOTIFY_CONNECTION, on_connection, self, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, self, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL, MHD_OPTION_ARRAY, self->identity ? tls : local,
        MHD_OPTION_END);
    if (!self->daemon) {
        vr_set_error(error, VR_ERROR_INTERNAL, "server-failed", NULL,
                     "cannot start the HTTP server on %s",
                     self->socket_path ? self->socket_path : "TCP");
        return FALSE;
    }
    if (self->identity) {
        self->gate = vr_http_gate_new(self->fd, self->peer_connections);
        self->fd = -1;
        vr_http_gate_start(self->gate, pass_connection, self);
    }
    return TRUE;
}

void
vr_http_reply_json(VrHttpReply *reply, guint status, JsonNode *node)
{
    char *text = vr_json_to_text(node);

    vr_http_reply_bytes(reply, status, "application/json", g_bytes_new_take(text, strlen(text)));
    json_node_unref(node);
}

void
vr_http_reply_bytes(VrHttpReply *reply, guint status, const char *content_type, GBytes *bytes)
{
    g_clear_pointer(&reply->body, g_bytes_unref);
    reply->status = status;
    reply->content_type = content_type;
    reply->body = bytes;
}
