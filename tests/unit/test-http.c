/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "plugin/http/http_gate.h"
#include "plugin/http/http_server.h"
#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/wire/http.h"
#include "storage/util/json_util.h"

#define BODY_MAX (300 * 1024)

typedef struct {
    char *dir;
    char *socket;
    char *address;
    VrIdentity *server_id;
    VrIdentity *client_id;
    VrHttpServer *tls;
    VrHttpServer *local;
    int handled;           /* atomic */
    int authorised;        /* atomic */
    const char *forbidden; /* fingerprint refused by the authorise function */
    char *spool;
    int admitted; /* atomic */
    gboolean no_admission;
} Fixture;

static JsonNode *
object_with(const char *key, const char *value)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, key, value);
    json_node_take_object(node, object);
    return node;
}

static gboolean
on_thing(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    Fixture *f = data;

    g_atomic_int_inc(&f->handled);
    vr_http_reply_json(reply, 200, object_with("id", vr_http_request_param(request, "id")));
    return TRUE;
}

static gboolean
on_literal(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    vr_http_reply_json(reply, 200, object_with("id", "literal"));
    return TRUE;
}

static gboolean
on_echo(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    Fixture *f = data;
    JsonNode *node = vr_http_request_json(request);

    g_atomic_int_inc(&f->handled);
    if (node)
        vr_http_reply_json(reply, 200, json_node_copy(node));
    return TRUE;
}

static gboolean
on_bytes(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    Fixture *f = data;
    gsize len;
    const guint8 *body = vr_http_request_bytes(request, &len);

    g_atomic_int_inc(&f->handled);
    vr_http_reply_bytes(reply, 200, "application/octet-stream", g_bytes_new(body, len));
    return TRUE;
}

static gboolean
on_file(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    g_autofree char *sha256 = vr_sha256_fd(vr_http_request_fd(request), error);

    if (!sha256)
        return FALSE;
    vr_http_reply_json(reply, 200, object_with("sha256", sha256));
    return TRUE;
}

static gboolean
on_fail(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    vr_set_error(error, VR_ERROR_REFUSED, "no-way", "Do something else.", "thing '%s' will not",
                 vr_http_request_query(request, "q"));
    return FALSE;
}

static gboolean
on_who(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    const char *peer = vr_http_request_peer(request);

    g_assert_true(!peer || vr_http_request_remote(request));
    vr_http_reply_json(reply, 200, object_with("who", peer ? peer : "local"));
    return TRUE;
}

static gboolean
on_wait(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    Fixture *f = data;
    GPollFD fd;

    g_atomic_int_inc(&f->handled);
    g_cancellable_make_pollfd(vr_http_request_cancel(request), &fd);
    g_poll(&fd, 1, -1);
    g_cancellable_release_fd(vr_http_request_cancel(request));
    return TRUE;
}

static gboolean
admit_file(const VrHttpRequest *request, gpointer data, char **ret_spool_dir, GError **error)
{
    Fixture *f = data;

    g_atomic_int_inc(&f->admitted);
    if (f->no_admission) {
        vr_set_error(error, VR_ERROR_REFUSED, "not-now", NULL, "not now");
        return FALSE;
    }
    *ret_spool_dir = g_strdup(f->spool);
    return TRUE;
}

static const VrHttpRoute routes[] = {
    {"GET", "/v1/things/{id}", on_thing, VR_HTTP_BODY_NONE, 0, FALSE},
    {"GET", "/v1/things/special", on_literal, VR_HTTP_BODY_NONE, 0, FALSE},
    {"POST", "/v1/echo", on_echo, VR_HTTP_BODY_JSON, 0, FALSE},
    {"PUT", "/v1/bytes", on_bytes, VR_HTTP_BODY_BYTES, BODY_MAX, FALSE},
    {"PUT", "/v1/file", on_file, VR_HTTP_BODY_FILE, 8 * 1024 * 1024, FALSE, admit_file},
    {"GET", "/v1/fail", on_fail, VR_HTTP_BODY_NONE, 0, FALSE},
    {"GET", "/v1/who", on_who, VR_HTTP_BODY_NONE, 0, TRUE},
    {"GET", "/v1/wait", on_wait, VR_HTTP_BODY_NONE, 0, FALSE},
};

static gboolean
authorise(const VrHttpRequest *request, gpointer data, GError **error)
{
    Fixture *f = data;

    g_atomic_int_inc(&f->authorised);
    if (g_strcmp0(vr_http_request_peer(request), f->forbidden) != 0 || !f->forbidden)
        return TRUE;
    vr_set_error(error, VR_ERROR_AUTH, "peer-unknown", "Pair.", "who are you");
    return FALSE;
}

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
start(Fixture *f, VrHttpServer *server)
{
    g_autoptr(GError) error = NULL;

    vr_http_server_add_routes(server, routes, 4, f);
    vr_http_server_set_peer_connections(server, 4);
    vr_http_server_add_routes(server, routes + 4, G_N_ELEMENTS(routes) - 4, f);
    vr_http_server_set_authorise(server, authorise, f);
    g_assert_true(vr_http_server_start(server, &error));
}

static void
setup(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->dir = g_dir_make_tmp("vr-http-XXXXXX", NULL);
    f->socket = g_build_filename(f->dir, "s.sock", NULL);
    f->spool = g_strdup(f->dir);
    f->server_id = identity(f, "server");
    f->client_id = identity(f, "client");
    f->tls = vr_http_server_new_tls("127.0.0.1:0", f->server_id, &error);
    g_assert_no_error(error);
    f->local = vr_http_server_new_unix(f->socket, "no-such-group", &error);
    g_assert_no_error(error);
    start(f, f->tls);
    start(f, f->local);
    f->address = g_strdup_printf("127.0.0.1:%u", vr_http_server_port(f->tls));
}

static void
teardown(Fixture *f, gconstpointer data)
{
    vr_http_server_free(f->tls);
    vr_http_server_free(f->local);
    vr_identity_free(f->server_id);
    vr_identity_free(f->client_id);
    g_assert_false(g_file_test(f->socket, G_FILE_TEST_EXISTS));
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_free(f->dir);
    g_free(f->socket);
    g_free(f->spool);
    g_free(f->address);
}

static VrHttp *
peer(Fixture *f, const VrIdentity *us, const char *fingerprint)
{
    g_autoptr(GError) error = NULL;
    VrHttp *http =
        vr_http_new_peer("b", f->address, fingerprint, us ? vr_identity_cert_path(us) : NULL,
                         us ? vr_identity_key_path(us) : NULL, &error);

    g_assert_no_error(error);
    return http;
}

static VrHttp *
right_peer(Fixture *f)
{
    return peer(f, f->client_id, vr_identity_fingerprint(f->server_id));
}

static void
assert_slug(GError **error, VrError code, const char *slug)
{
    g_assert_error(*error, VR_ERROR, (int) code);
    g_assert_cmpstr(vr_error_slug(*error), ==, slug);
    g_clear_error(error);
}

static char *
get_member(VrHttp *http, const char *path, const char *member)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) node = NULL;

    g_assert_true(vr_http_json(http, "GET", path, NULL, 0, &node, NULL, &error));
    g_assert_no_error(error);
    return g_strdup(json_object_get_string_member(json_node_get_object(node), member));
}

static void
assert_fails(VrHttp *http, const char *method, const char *path, JsonNode *body, VrError code,
             const char *slug)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(vr_http_json(http, method, path, body, 0, NULL, NULL, &error));
    assert_slug(&error, code, slug);
    g_clear_pointer(&body, json_node_unref);
}

static void
test_routes(Fixture *f, gconstpointer data)
{
    VrHttp *both[] = {right_peer(f), vr_http_new_unix(f->socket)};

    for (guint i = 0; i < G_N_ELEMENTS(both); i++) {
        g_autofree char *plain = get_member(both[i], "/v1/things/a%20b%25", "id");
        g_autofree char *special = get_member(both[i], "/v1/things/special", "id");
        g_autoptr(GError) error = NULL;
        VrHttpCall head = {.method = "HEAD", .path = "/v1/things/x", .body_fd = -1};
        g_autoptr(GBytes) nothing = NULL;

        g_assert_cmpstr(plain, ==, "a b%");
        g_assert_cmpstr(special, ==, "literal");
        g_assert_true(vr_http_call(both[i], &head, &nothing, NULL, &error));
        g_assert_cmpuint(g_bytes_get_size(nothing), ==, 0);
        assert_fails(both[i], "GET", "/v1/nothing", NULL, VR_ERROR_NOT_FOUND, "no-such-route");
        assert_fails(both[i], "GET", "/v1/things/", NULL, VR_ERROR_INVALID, "bad-path");
        assert_fails(both[i], "GET", "/v1/things/x/y", NULL, VR_ERROR_NOT_FOUND, "no-such-route");
        assert_fails(both[i], "GET", "/v1/things/x%2fy", NULL, VR_ERROR_INVALID, "bad-path");
        assert_fails(both[i], "GET", "/v1/things/..", NULL, VR_ERROR_INVALID, "bad-path");
        assert_fails(both[i], "GET", "/v1/things/%2e%2e", NULL, VR_ERROR_INVALID, "bad-path");
        assert_fails(both[i], "GET", "/v1/things/%0a", NULL, VR_ERROR_INVALID, "bad-path");
        assert_fails(both[i], "GET", "/v1/things/%00", NULL, VR_ERROR_INVALID, "bad-path");
        assert_fails(both[i], "GET", "/v1/things/%ff", NULL, VR_ERROR_INVALID, "bad-path");
        assert_fails(both[i], "GET", "//v1/things/x", NULL, VR_ERROR_INVALID, "bad-path");
        assert_fails(both[i], "DELETE", "/v1/things/x", NULL, VR_ERROR_INVALID,
                     "method-not-allowed");
        assert_fails(both[i], "GET", "/v1/things/%c0%af", NULL, VR_ERROR_INVALID, "bad-path");
        assert_fails(both[i], "GET", "/v1/things/%e0%80%af", NULL, VR_ERROR_INVALID, "bad-path");
        assert_fails(both[i], "GET", "/v1//things/x", NULL, VR_ERROR_INVALID, "bad-path");
        assert_fails(both[i], "GET", "/v1/things/x%00y", NULL, VR_ERROR_INVALID, "bad-path");
        assert_fails(both[i], "GET", "/v1/things/%c2%9b", NULL, VR_ERROR_INVALID, "bad-path");
        assert_fails(both[i], "GET", "/v1/things/%e2%80%ae", NULL, VR_ERROR_INVALID, "bad-path");
        assert_fails(both[i], "GET", "/v1/fail?q=1&q=2", NULL, VR_ERROR_INVALID, "bad-query");
        assert_fails(both[i], "GET", "/v1/fail?q=a%00b", NULL, VR_ERROR_INVALID, "bad-query");
        assert_fails(both[i], "GET", "/v1/fail?q=%0a", NULL, VR_ERROR_INVALID, "bad-query");
        assert_fails(both[i], "GET", "/v1/fail?q%00=1", NULL, VR_ERROR_INVALID, "bad-query");
        assert_fails(both[i], "GET", "/v1/fail?q=%c0%af", NULL, VR_ERROR_INVALID, "bad-query");
        vr_http_free(both[i]);
    }
}

static void
test_errors(Fixture *f, gconstpointer data)
{
    g_autoptr(VrHttp) http = right_peer(f);
    g_autoptr(GError) error = NULL;

    g_assert_false(
        vr_http_json(http, "GET", "/v1/fail?q=a%20b%C3%A4", NULL, 0, NULL, NULL, &error));
    g_assert_true(g_str_has_prefix(error->message, "peer 'b' ("));
    g_assert_true(g_str_has_suffix(error->message, "): thing 'a bä' will not"));
    g_assert_cmpstr(vr_error_action(error), ==, "Do something else.");
    assert_slug(&error, VR_ERROR_REFUSED, "no-way");
}

static void
test_bodies(Fixture *f, gconstpointer data)
{
    g_autoptr(VrHttp) http = right_peer(f);
    g_autofree guint8 *data_in = g_malloc(2 * BODY_MAX);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) node = object_with("x", "y");
    g_autoptr(JsonNode) back = NULL;
    static const gsize sizes[] = {0, 1, 1000, 65536, BODY_MAX};

    vr_random_bytes(data_in, 2 * BODY_MAX);
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        VrHttpCall call = {.method = "PUT",
                           .path = "/v1/bytes",
                           .body = data_in,
                           .body_len = sizes[i],
                           .body_fd = -1};
        g_autoptr(GBytes) answer = NULL;

        g_assert_true(vr_http_call(http, &call, &answer, NULL, &error));
        g_assert_cmpmem(g_bytes_get_data(answer, NULL), g_bytes_get_size(answer), data_in,
                        sizes[i]);
    }
    g_assert_true(vr_http_json(http, "POST", "/v1/echo", node, 5, &back, NULL, &error));
    g_assert_true(json_node_equal(node, back));
    g_clear_pointer(&back, json_node_unref);
    g_assert_true(vr_http_json(http, "POST", "/v1/echo", NULL, 0, &back, NULL, &error));
    g_assert_null(back);
}

static void
test_limits(Fixture *f, gconstpointer data)
{
    g_autoptr(VrHttp) http = right_peer(f);
    g_autofree char *body = g_strnfill(4 * 1024 * 1024, ' ');
    g_autoptr(GError) error = NULL;
    static const struct {
        const char *method, *path;
        gsize len;
        const char *slug;
    } cases[] = {
        {"PUT", "/v1/bytes", BODY_MAX + 1, "body-too-large"},
        {"PUT", "/v1/bytes", 4 * 1024 * 1024, "body-too-large"},
        {"POST", "/v1/echo", 1024 * 1024 + 1, "body-too-large"},
        {"GET", "/v1/fail", 1, "body-too-large"},
        {"POST", "/v1/echo", 1000, "bad-json"},
    };
    VrHttpCall small = {.method = "PUT",
                        .path = "/v1/bytes",
                        .body = body,
                        .body_len = 2000,
                        .body_fd = -1,
                        .answer_max = 1999};

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        VrHttpCall call = {.method = cases[i].method,
                           .path = cases[i].path,
                           .body = body,
                           .body_len = cases[i].len,
                           .body_fd = -1};

        g_assert_false(vr_http_call(http, &call, NULL, NULL, &error));
        assert_slug(&error, VR_ERROR_INVALID, cases[i].slug);
    }
    g_assert_cmpint(g_atomic_int_get(&f->handled), ==, 0);
    g_assert_false(vr_http_call(http, &small, NULL, NULL, &error));
    assert_slug(&error, VR_ERROR_INVALID, "answer-too-large");
}

static void
test_file(Fixture *f, gconstpointer data)
{
    g_autoptr(VrHttp) http = right_peer(f);
    g_autofree char *path = g_build_filename(f->dir, "content", NULL);
    gsize len = 5 * 1024 * 1024 + 17;
    g_autofree guint8 *content = g_malloc(len);
    g_autofree char *expected = NULL;
    g_autofree char *text = NULL;
    g_autoptr(GBytes) answer = NULL;
    g_autoptr(GError) error = NULL;
    VrHttpCall call = {.method = "PUT", .path = "/v1/file", .body_len = len};

    vr_random_bytes(content, len);
    expected = vr_sha256_hex(content, len);
    g_assert_true(vr_write_file_atomic(path, content, len, 0600, NULL));
    call.body_fd = open(path, O_RDONLY);
    g_assert_true(vr_http_call(http, &call, &answer, NULL, &error));
    text = g_strndup(g_bytes_get_data(answer, NULL), g_bytes_get_size(answer));
    g_assert_nonnull(strstr(text, expected));
    /* A file that is shorter than said must not arrive as a whole one. */
    call.body_len = len + 1;
    g_assert_false(vr_http_call(http, &call, NULL, NULL, &error));
    g_clear_error(&error);
    close(call.body_fd);
}

/* What is not admitted is refused before a byte of it is spooled, and where it is spooled is the
 * route's to say. */
static void
test_admit(Fixture *f, gconstpointer data)
{
    g_autoptr(VrHttp) http = right_peer(f);
    g_autofree char *body = g_strnfill(BODY_MAX, ' ');
    g_autoptr(GError) error = NULL;
    VrHttpCall call = {
        .method = "PUT", .path = "/v1/file", .body = body, .body_len = BODY_MAX, .body_fd = -1};

    f->no_admission = TRUE;
    g_free(f->spool);
    f->spool = g_build_filename(f->dir, "none", NULL);
    g_assert_false(vr_http_call(http, &call, NULL, NULL, &error));
    assert_slug(&error, VR_ERROR_REFUSED, "not-now");
    g_assert_cmpint(g_atomic_int_get(&f->admitted), ==, 1);
    f->no_admission = FALSE;
    g_assert_false(vr_http_call(http, &call, NULL, NULL, &error));
    g_assert_nonnull(strstr(error->message, f->spool));
    g_clear_error(&error);
    f->forbidden = vr_identity_fingerprint(f->client_id);
    g_assert_false(vr_http_call(http, &call, NULL, NULL, &error));
    assert_slug(&error, VR_ERROR_AUTH, "peer-unknown");
    g_assert_cmpint(g_atomic_int_get(&f->admitted), ==, 2);
}

/* A connection from the @host-th address of 127.0.0.0/8, as somebody who says @text and then
 * nothing. */
static int
stranger(Fixture *f, guint host, const char *text)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(vr_http_server_port(f->tls))};
    struct sockaddr_in from = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    from.sin_addr.s_addr = htonl(0x7f000000 + host);
    g_assert_cmpint(bind(fd, (struct sockaddr *) &from, sizeof(from)), ==, 0);
    g_assert_cmpint(connect(fd, (struct sockaddr *) &to, sizeof(to)), ==, 0);
    if (*text)
        (void) send(fd, text, strlen(text), MSG_NOSIGNAL);
    return fd;
}

static gboolean
is_open(int fd)
{
    char c;

    return recv(fd, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

#define STRANGERS_MAX 800
#define HALF_HANDSHAKE "\x16\x03\x01\x02"

typedef struct {
    Fixture *f;
    const char *text; /* what they say */
    guint hosts;      /* from how many addresses, from the @first-th on */
    guint first;
    guint n;    /* connections at once */
    int stop;   /* atomic */
    int opened; /* atomic */
} Flood;

/* Opens anew what was closed, as fast as it can. */
static gpointer
flood_thread(gpointer data)
{
    Flood *flood = data;
    int fds[STRANGERS_MAX];

    memset(fds, -1, sizeof(fds));
    while (!g_atomic_int_get(&flood->stop)) {
        for (guint i = 0; i < flood->n && !g_atomic_int_get(&flood->stop); i++) {
            if (fds[i] >= 0 && is_open(fds[i]))
                continue;
            if (fds[i] >= 0)
                close(fds[i]);
            fds[i] = stranger(flood->f, flood->first + i % flood->hosts, flood->text);
            g_atomic_int_inc(&flood->opened);
        }
    }
    for (guint i = 0; i < flood->n; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    return NULL;
}

/* Returns when each of them was opened once. */
static GThread *
flood_begin(Flood *flood)
{
    GThread *thread = g_thread_new("flood", flood_thread, flood);

    while ((guint) g_atomic_int_get(&flood->opened) < flood->n)
        g_usleep(G_USEC_PER_SEC / 100);
    return thread;
}

static void
flood_end(Flood *flood, GThread *thread, double slowest)
{
    g_atomic_int_set(&flood->stop, 1);
    g_thread_join(thread);
    g_test_message("%d opened, slowest %.3f s", flood->opened, slowest);
}

/* Each on a connection of its own: the slowest of them, in seconds. */
static double
knock(Fixture *f, guint times)
{
    double slowest = 0;

    for (guint i = 0; i < times; i++) {
        g_autoptr(VrHttp) http = right_peer(f);
        g_autoptr(GError) error = NULL;
        gint64 from_us = g_get_monotonic_time();

        g_assert_true(vr_http_json(http, "GET", "/v1/things/x", NULL, 10, NULL, NULL, &error));
        g_assert_no_error(error);
        slowest = MAX(slowest, (double) (g_get_monotonic_time() - from_us) / G_USEC_PER_SEC);
    }
    return slowest;
}

static void
run_flood(Fixture *f, const char *text, guint n, guint first)
{
    Flood flood = {.f = f, .text = text, .hosts = 2, .first = first, .n = n};
    GThread *thread = flood_begin(&flood);
    double slowest = knock(f, 20);

    flood_end(&flood, thread, slowest);
    g_assert_cmpfloat(slowest, <, 10);
}

/* Connections that say nothing: as many as there is room for, one half of them from the peer's own
 * address; more, from two other addresses. */
static void
test_idle_strangers(Fixture *f, gconstpointer data)
{
    run_flood(f, "", 400, 1);
    run_flood(f, "", 800, 2);
}

/* The same that begin a handshake and leave it there. */
static void
test_half_handshakes(Fixture *f, gconstpointer data)
{
    run_flood(f, HALF_HANDSHAKE, 800, 2);
}

/* Half handshakes, one from each of many addresses: a peer that nobody knows yet gets its turn, and
 * once it is known it is before all of them. */
static void
test_many_addresses(Fixture *f, gconstpointer data)
{
    Flood flood = {.f = f, .text = HALF_HANDSHAKE, .hosts = 400, .first = 2, .n = 400};
    GThread *thread = flood_begin(&flood);
    double first, slowest;

    g_usleep(6 * G_USEC_PER_SEC);
    first = knock(f, 1);
    slowest = knock(f, 20);
    g_test_message("the first one took %.3f s", first);
    flood_end(&flood, thread, slowest);
    g_assert_cmpfloat(slowest, <, 3);
}

/* From more addresses than there is room for; a peer that was known before it began. */
static void
test_more_addresses(Fixture *f, gconstpointer data)
{
    Flood flood = {.f = f, .text = HALF_HANDSHAKE, .hosts = 790, .first = 2, .n = 790};
    double slowest = knock(f, 1);
    GThread *thread = flood_begin(&flood);

    slowest = knock(f, 20);
    flood_end(&flood, thread, slowest);
    g_assert_cmpfloat(slowest, <, 3);
}

/* Beside all others, a stranger that has the peer's own address. */
static void
test_same_address(Fixture *f, gconstpointer data)
{
    Flood others = {.f = f, .text = HALF_HANDSHAKE, .hosts = 100, .first = 2, .n = 400};
    Flood beside = {.f = f, .text = HALF_HANDSHAKE, .hosts = 1, .first = 1, .n = 20};
    double slowest = knock(f, 1);
    GThread *threads[] = {flood_begin(&others), flood_begin(&beside)};

    slowest = knock(f, 3);
    flood_end(&beside, threads[1], slowest);
    flood_end(&others, threads[0], slowest);
    g_assert_cmpfloat(slowest, <, 10);
}

static void
test_deadline(Fixture *f, gconstpointer data)
{
    int silent = stranger(f, 2, "");
    int slow = stranger(f, 3, HALF_HANDSHAKE);
    g_autoptr(VrHttp) known = right_peer(f);
    g_autofree char *first G_GNUC_UNUSED = get_member(known, "/v1/things/x", "id");
    gint64 from_us = g_get_monotonic_time();

    while ((is_open(silent) || is_open(slow)) &&
           g_get_monotonic_time() - from_us < 3 * VR_HTTP_GATE_DEADLINE_US)
        g_usleep(10000);
    g_assert_false(is_open(silent));
    g_assert_false(is_open(slow));
    g_assert_cmpint(g_get_monotonic_time() - from_us, >, VR_HTTP_GATE_DEADLINE_US / 2);
    close(silent);
    close(slow);
}

static gpointer
wait_call(gpointer data)
{
    g_autoptr(VrHttp) http = right_peer(data);
    GError *error = NULL;

    (void) vr_http_json(http, "GET", "/v1/wait", NULL, 0, NULL, NULL, &error);
    return error;
}

/* One peer's connections are limited; an idle one of its own makes room, another peer has its own.
 */
static void
test_peer_connections(Fixture *f, gconstpointer data)
{
    g_autoptr(VrHttp) idle = right_peer(f);
    g_autoptr(VrHttp) one_more = right_peer(f);
    g_autoptr(VrHttp) other = peer(f, f->server_id, vr_identity_fingerprint(f->server_id));
    g_autofree char *id G_GNUC_UNUSED = get_member(idle, "/v1/things/x", "id");
    g_autofree char *again = NULL;
    GThread *threads[4];

    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("wait", wait_call, f);
    while (g_atomic_int_get(&f->handled) < 1 + (int) G_N_ELEMENTS(threads))
        g_usleep(1000);
    assert_fails(one_more, "GET", "/v1/things/x", NULL, VR_ERROR_TRANSIENT, "too-many-connections");
    again = get_member(other, "/v1/things/y", "id");
    g_assert_cmpstr(again, ==, "y");
    g_clear_pointer(&f->tls, vr_http_server_free);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++) {
        GError *error = g_thread_join(threads[i]);

        g_clear_error(&error);
    }
}

typedef struct {
    guint asked, there; /* how often; how often it says yes before it says no */
} Watch;

static gboolean
is_there(gpointer data, GCancellable *cancel)
{
    Watch *watch = data;

    return ++watch->asked <= watch->there;
}

/* Whoever thinks for long is asked in between, and given up when it does not answer that. */
static void
test_hung_server(Fixture *f, gconstpointer data)
{
    g_autoptr(VrHttp) http = vr_http_new_unix(f->socket);
    g_autoptr(GError) error = NULL;
    Watch watch = {.there = 1};

    vr_http_watch(http, 10, is_there, &watch);
    g_assert_false(vr_http_json(http, "GET", "/v1/wait", NULL, 60, NULL, NULL, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_TRANSIENT);
    g_assert_cmpstr(vr_error_slug(error), ==, "peer-unreachable");
    g_assert_cmpuint(watch.asked, ==, 3);
    g_clear_error(&error);
    vr_http_watch(http, 0, NULL, NULL);
    g_assert_false(vr_http_json(http, "GET", "/v1/wait", NULL, 3, NULL, NULL, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_TIMEOUT);
    g_assert_cmpuint(watch.asked, ==, 3);
}

static void
test_identity(Fixture *f, gconstpointer data)
{
    g_autoptr(VrHttp) tls = right_peer(f);
    g_autoptr(VrHttp) local = vr_http_new_unix(f->socket);
    g_autofree char *peer_name = get_member(tls, "/v1/who", "who");
    g_autofree char *local_name = get_member(local, "/v1/who", "who");
    struct stat st;

    g_assert_cmpstr(peer_name, ==, vr_identity_fingerprint(f->client_id));
    g_assert_cmpstr(local_name, ==, "local");
    g_assert_cmpint(stat(f->socket, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
}

static void
test_wrong_server(Fixture *f, gconstpointer data)
{
    g_autoptr(VrHttp) http = peer(f, f->client_id, vr_identity_fingerprint(f->client_id));
    g_autofree char *body = g_strnfill(1000, ' ');
    VrHttpCall call = {
        .method = "PUT", .path = "/v1/bytes", .body = body, .body_len = 1000, .body_fd = -1};
    g_autoptr(GError) error = NULL;

    g_assert_false(vr_http_call(http, &call, NULL, NULL, &error));
    assert_slug(&error, VR_ERROR_AUTH, "peer-key-changed");
    g_assert_cmpint(g_atomic_int_get(&f->authorised), ==, 0);
    g_assert_cmpint(g_atomic_int_get(&f->handled), ==, 0);
}

static void
test_no_certificate(Fixture *f, gconstpointer data)
{
    g_autoptr(VrHttp) http = peer(f, NULL, vr_identity_fingerprint(f->server_id));
    g_autoptr(GError) error = NULL;

    g_assert_false(vr_http_json(http, "GET", "/v1/who", NULL, 0, NULL, NULL, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_TRANSIENT);
    g_assert_cmpint(g_atomic_int_get(&f->authorised), ==, 0);
}

static void
test_forbidden(Fixture *f, gconstpointer data)
{
    g_autoptr(VrHttp) http = right_peer(f);
    gsize len = BODY_MAX;
    g_autofree char *body = g_strnfill(len, ' ');
    VrHttpCall call = {
        .method = "PUT", .path = "/v1/bytes", .body = body, .body_len = len, .body_fd = -1};
    g_autoptr(GError) error = NULL;

    f->forbidden = vr_identity_fingerprint(f->client_id);
    g_assert_false(vr_http_call(http, &call, NULL, NULL, &error));
    assert_slug(&error, VR_ERROR_AUTH, "peer-unknown");
    assert_fails(http, "GET", "/v1/things/x", NULL, VR_ERROR_AUTH, "peer-unknown");
    g_assert_cmpint(g_atomic_int_get(&f->handled), ==, 0);
    f->forbidden = NULL;
    g_assert_true(vr_http_call(http, &call, NULL, NULL, &error));
}

/* A TLS client of another kind: highest version and whether it may send a certificate. */
static gboolean
handshake(Fixture *f, int version, gboolean read_answer, guint *ret_sessions)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    BIO *bio;
    SSL *ssl = NULL;
    gboolean ok;
    char buf[512];

    SSL_CTX_set_max_proto_version(context, version);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_use_certificate_file(context, vr_identity_cert_path(f->client_id), SSL_FILETYPE_PEM);
    SSL_CTX_use_PrivateKey_file(context, vr_identity_key_path(f->client_id), SSL_FILETYPE_PEM);
    bio = BIO_new_ssl_connect(context);
    BIO_get_ssl(bio, &ssl);
    BIO_set_conn_hostname(bio, f->address);
    ok = BIO_do_connect(bio) == 1;
    if (ok && read_answer) {
        static const char request[] =
            "GET /v1/who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

        ok = BIO_write(bio, request, sizeof(request) - 1) == (int) sizeof(request) - 1;
        while (BIO_read(bio, buf, sizeof(buf)) > 0)
            continue;
        *ret_sessions = (guint) SSL_CTX_sess_number(context);
        g_assert_false(SSL_session_reused(ssl));
        g_assert_false(SSL_SESSION_is_resumable(SSL_get_session(ssl)));
    }
    BIO_free_all(bio);
    SSL_CTX_free(context);
    return ok;
}

static void
test_tls(Fixture *f, gconstpointer data)
{
    guint sessions = 99;

    g_assert_true(handshake(f, TLS1_3_VERSION, TRUE, &sessions));
    g_assert_cmpuint(sessions, ==, 0);
    g_assert_false(handshake(f, TLS1_2_VERSION, FALSE, NULL));
    g_assert_false(handshake(f, TLS1_1_VERSION, FALSE, NULL));
}

/* Sends text to the UNIX socket and returns the first line of the answer. */
static char *
raw(Fixture *f, const char *text)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    char buf[4096];
    gsize len = 0;
    ssize_t n;

    g_strlcpy(address.sun_path, f->socket, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *) &address, sizeof(address)), ==, 0);
    g_assert_cmpint(send(fd, text, strlen(text), MSG_NOSIGNAL), ==, (int) strlen(text));
    shutdown(fd, SHUT_WR);
    while (len < sizeof(buf) - 1 && (n = read(fd, buf + len, sizeof(buf) - 1 - len)) > 0)
        len += (gsize) n;
    close(fd);
    buf[len] = '\0';
    return g_strndup(buf, strcspn(buf, "\r\n"));
}

static void
test_framing(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *text, *status;
    } cases[] = {
        {"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
         "200"},
        {"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: "
         "chunked\r\n\r\n0\r\n\r\n",
         "400"},
        {"POST /v1/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
         "chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
         "400"},
        {"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
         "400"},
        {"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: -2\r\n\r\n{}", "400"},
        {"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2x\r\n\r\n{}", "400"},
        {"nonsense\r\n\r\n", "400"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *line = raw(f, cases[i].text);

        g_test_message("%u: %s", i, line);
        if (g_str_equal(cases[i].status, "200"))
            g_assert_nonnull(strstr(line, " 200 "));
        else
            g_assert_null(strstr(line, " 200 "));
    }
    g_assert_cmpint(g_atomic_int_get(&f->handled), ==, 1);
}

static void
test_half_body(Fixture *f, gconstpointer data)
{
    g_autofree char *line =
        raw(f, "PUT /v1/bytes HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this");

    g_assert_null(strstr(line, " 200 "));
    g_assert_cmpint(g_atomic_int_get(&f->handled), ==, 0);
}

static void
test_unreachable(Fixture *f, gconstpointer data)
{
    g_autofree char *missing = g_build_filename(f->dir, "none.sock", NULL);
    g_autoptr(VrHttp) local = vr_http_new_unix(missing);
    g_autoptr(VrHttp) tls = right_peer(f);
    g_autoptr(GError) error = NULL;

    g_assert_false(vr_http_json(local, "GET", "/v1/who", NULL, 0, NULL, NULL, &error));
    assert_slug(&error, VR_ERROR_UNREACHABLE, "daemon-unreachable");
    g_clear_pointer(&f->tls, vr_http_server_free);
    g_assert_false(vr_http_json(tls, "GET", "/v1/who", NULL, 0, NULL, NULL, &error));
    g_assert_nonnull(strstr(error->message, f->address));
    assert_slug(&error, VR_ERROR_TRANSIENT, "peer-unreachable");
}

static gpointer
waiter(gpointer data)
{
    Fixture *f = data;
    g_autoptr(VrHttp) http = right_peer(f);

    (void) vr_http_json(http, "GET", "/v1/wait", NULL, 0, NULL, NULL, NULL);
    return NULL;
}

static void
test_stop(Fixture *f, gconstpointer data)
{
    GThread *thread = g_thread_new("waiter", waiter, f);

    while (g_atomic_int_get(&f->handled) == 0)
        g_thread_yield();
    g_clear_pointer(&f->tls, vr_http_server_free);
    g_thread_join(thread);
}

static void
test_cancel(Fixture *f, gconstpointer data)
{
    g_autoptr(VrHttp) http = right_peer(f);
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    g_autoptr(GError) error = NULL;

    g_cancellable_cancel(cancel);
    g_assert_false(vr_http_json(http, "GET", "/v1/who", NULL, 0, NULL, cancel, &error));
    assert_slug(&error, VR_ERROR_CANCELLED, "cancelled");
}

static void
test_listen(Fixture *f, gconstpointer data)
{
    g_autoptr(VrHttpServer) server = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_null(vr_http_server_new_tls(f->address, f->server_id, &error));
    assert_slug(&error, VR_ERROR_CONFLICT, "address-in-use");
    g_assert_null(vr_http_server_new_tls("nonsense", f->server_id, &error));
    assert_slug(&error, VR_ERROR_INVALID, "bad-address");
    g_assert_null(vr_http_server_new_unix(f->socket, NULL, &error));
    assert_slug(&error, VR_ERROR_CONFLICT, "socket-in-use");
    server = vr_http_server_new_tls(":0", f->server_id, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(vr_http_server_port(server), !=, 0);
}

static void
test_json(void)
{
    static const char *const good[] = {
        "{}",
        " [1, -2, 0.5e-3, true, false, null, \"\\u00e4\\ud83d\\ude00\"] ",
        "\"x\"",
        "0",
        "9223372036854775807",
        "{\"a\":{\"a\":1},\"b\":1}",
        "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
    };
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "[1 2]",
        "// c\n1",
        "/* c */ 1",
        "01",
        "+1",
        "1.",
        ".5",
        "0x10",
        "1e",
        "nul",
        "truex",
        "9223372036854775808",
        "-9223372036854775809",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\udc00\\ud800\"",
        "\"\\x\"",
        "\"a",
        "\"\t\"",
        "{\"a\":1,\"a\":2}",
        "{\"x\":[{\"a\":1,\"\\u0061\":2}]}",
        "[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]",
        "1 1",
        "\xff",
        "\"\xc0\x80\"",
        "NaN",
        "var x = 1;",
    };
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(JsonNode) node = vr_json_parse(good[i], strlen(good[i]), 1000, &error);

        g_test_message("%s", good[i]);
        g_assert_no_error(error);
        g_assert_nonnull(node);
    }
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(JsonNode) node = vr_json_parse(bad[i], strlen(bad[i]), 1000, &error);

        g_test_message("%s", bad[i]);
        g_assert_null(node);
        assert_slug(&error, VR_ERROR_INVALID, "bad-json");
    }
    g_assert_null(vr_json_parse("[1]\0 ", 5, 1000, &error));
    g_clear_error(&error);
    g_assert_null(vr_json_parse("[1,2]", 5, 4, &error));
    assert_slug(&error, VR_ERROR_INVALID, "bad-json");
}

static void
test_address(void)
{
    static const char *const bad[] = {"",       "h",      "h:",    "h:0",   "h:65536",
                                      ":1",     "a b:1",  "h@x:1", "h/x:1", "::1:1",
                                      "[::1:1", "[zz]:1", "-h:1",  "h:1x",  "[]:1"};
    g_autofree char *host = NULL;
    g_autofree char *v6 = NULL;
    guint16 port;

    g_assert_true(vr_address_parse("kvm-2.example:16540", FALSE, &host, &port, NULL));
    g_assert_cmpstr(host, ==, "kvm-2.example");
    g_assert_cmpuint(port, ==, 16540);
    g_assert_true(vr_address_parse("[fe80::1]:1", FALSE, &v6, &port, NULL));
    g_assert_cmpstr(v6, ==, "fe80::1");
    g_assert_true(vr_address_parse(":0", TRUE, NULL, NULL, NULL));
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("%s", bad[i]);
        g_assert_false(vr_address_parse(bad[i], FALSE, NULL, NULL, NULL));
    }
}

#define TRAILERS_MAX (32 * 1024 * 1024)

typedef struct {
    int fd; /* that listens */
    gsize sent;
} Babbler;

/* A short answer whose trailers have no end. */
static gpointer
babble(gpointer data)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n";
    g_autofree char *line = g_strdup_printf("X-Trailer: %0*d\r\n", 1000, 1);
    Babbler *self = data;
    int fd = accept(self->fd, NULL, NULL);
    gssize n = send(fd, head, sizeof head - 1, MSG_NOSIGNAL);

    while (n > 0 && self->sent < TRAILERS_MAX) {
        n = send(fd, line, strlen(line), MSG_NOSIGNAL);
        self->sent += n > 0 ? (gsize) n : 0;
    }
    close(fd);
    return NULL;
}

static void
test_trailers(Fixture *f, gconstpointer data)
{
    g_autofree char *dir = g_dir_make_tmp("vr-http-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "socket", NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    Babbler babbler = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    VrHttpCall call = {.method = "GET", .path = "/v1/status"};
    g_autoptr(VrHttp) client = vr_http_new_unix(path);
    g_autoptr(GBytes) body = NULL;
    g_autoptr(GError) error = NULL;
    GThread *thread;

    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    g_assert_cmpint(bind(babbler.fd, (struct sockaddr *) &address, sizeof address), ==, 0);
    g_assert_cmpint(listen(babbler.fd, 1), ==, 0);
    thread = g_thread_new("babbler", babble, &babbler);
    g_assert_false(vr_http_call(client, &call, &body, NULL, &error));
    g_assert_nonnull(error);
    g_clear_pointer(&client, vr_http_free);
    g_thread_join(thread);
    g_assert_cmpuint(babbler.sent, <, TRAILERS_MAX / 4);
    close(babbler.fd);
    g_assert_true(vr_remove_tree(dir, NULL));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vr_http_global_init();
#define ADD(name, func) g_test_add("/http/" name, Fixture, NULL, setup, func, teardown)
    ADD("routes", test_routes);
    ADD("errors", test_errors);
    ADD("bodies", test_bodies);
    ADD("limits", test_limits);
    ADD("file", test_file);
    ADD("admit", test_admit);
    ADD("idle-strangers", test_idle_strangers);
    ADD("half-handshakes", test_half_handshakes);
    ADD("many-addresses", test_many_addresses);
    ADD("more-addresses", test_more_addresses);
    ADD("same-address", test_same_address);
    ADD("deadline", test_deadline);
    ADD("trailers", test_trailers);
    ADD("peer-connections", test_peer_connections);
    ADD("hung-server", test_hung_server);
    ADD("identity", test_identity);
    ADD("wrong-server", test_wrong_server);
    ADD("no-certificate", test_no_certificate);
    ADD("forbidden", test_forbidden);
    ADD("tls", test_tls);
    ADD("framing", test_framing);
    ADD("half-body", test_half_body);
    ADD("unreachable", test_unreachable);
    ADD("stop", test_stop);
    ADD("cancel", test_cancel);
    ADD("listen", test_listen);
    g_test_add_func("/http/json", test_json);
    g_test_add_func("/http/address", test_address);
    return g_test_run();
}
