/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The peer's certificate is not checked against any authority: its key is pinned. libcurl (OpenSSL)
 * compares the digest of the key at the end of the handshake, before it sends the request. Idle
 * connections are dropped sooner than the server drops them, so that a request is hardly ever sent
 * into a connection that is just being closed. */
#include "storage/wire/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/wire/error_json.h"
#include "storage/util/json_util.h"
#include "storage/wire/token.h"

#define CONNECT_TIMEOUT_S 10L
#define SILENCE_S 30L
#define IDLE_S 50L
#define NOT_THERE_MAX 2u
#define ANSWER_MAX ((gsize) (1024 * 1024))
#define HEADERS_MAX                                                                                \
    ((gsize) (64 * 1024)) /* trailers as well, which libcurl keeps without a limit */
/* Of the daemon of this host, which lists 10,000 recovery points in one answer. */
#define OWN_ANSWER_MAX (16 * ANSWER_MAX)
#define OWN_MAX_VALUES (1024u * 1024)

struct _VrHttp {
    CURL *curl;
    char *base; /* owned; "https://HOST:PORT" */
    char *name; /* owned; the peer's, NULL: no peer */
    char *peer; /* owned; "peer 'NAME' (ADDRESS)" or "daemon behind 'PATH'" for messages */
    gboolean unix_socket;
    guint watch_ms;
    VrHttpThereFunc is_there; /* nullable */
    gpointer is_there_data;   /* borrowed */
    char why[CURL_ERROR_SIZE];
};

typedef struct {
    VrHttp *http;
    const VrHttpCall *call;
    gint64 moved_us, asked_us; /* monotonic: bytes went or came; it was asked, or they did */
    curl_off_t moved;          /* bytes, both ways */
    guint not_there;           /* times in a row */
    gsize sent;
    GByteArray *answer;
    gsize answer_max;
    gsize headers; /* bytes, trailers included */
    gboolean too_large;
    int read_errno;
    GCancellable *cancel;
} Transfer;

void
vr_http_global_init(void)
{
    static gsize done = 0;

    if (g_once_init_enter(&done)) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        g_once_init_leave(&done, 1);
    }
}

static gboolean
bad_address(GError **error, const char *address)
{
    vr_set_error(error, VR_ERROR_INVALID, "bad-address", "Write it as HOST:PORT or [IPV6]:PORT.",
                 "'%s' is not an address with a port", address);
    return FALSE;
}

/* Digits only, so that nothing is left to errno. */
static gboolean
parse_port(const char *text, guint64 min, guint64 *ret_port)
{
    gsize digits = strspn(text, "0123456789");

    if (digits == 0 || digits > 5 || text[digits] != '\0')
        return FALSE;
    *ret_port = g_ascii_strtoull(text, NULL, 10);
    return *ret_port >= min && *ret_port <= G_MAXUINT16;
}

gboolean
vr_address_parse(const char *address, gboolean host_optional, char **ret_host, guint16 *ret_port,
                 GError **error)
{
    const char *colon = strrchr(address, ':');
    g_autofree char *host = NULL;
    guint64 port;
    gsize len;

    if (!colon || !parse_port(colon + 1, host_optional ? 0 : 1, &port))
        return bad_address(error, address);
    host = g_strndup(address, (gsize) (colon - address));
    len = strlen(host);
    if (host[0] == '[' && len > 2 && host[len - 1] == ']') {
        host[len - 1] = '\0';
        memmove(host, host + 1, len - 1);
        if (strspn(host, "0123456789abcdefABCDEF:.") != strlen(host))
            return bad_address(error, address);
    } else if (strspn(host, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-_") !=
                   len ||
               host[0] == '-' || len > 253 || (len == 0 && !host_optional)) {
        return bad_address(error, address);
    }
    if (ret_host)
        *ret_host = g_steal_pointer(&host);
    if (ret_port)
        *ret_port = (guint16) port;
    return TRUE;
}

/* A peer that vanished without a word is noticed within SILENCE_S, also while we wait for a long
 * answer. */
static int
tune_socket(void *data G_GNUC_UNUSED, curl_socket_t fd, curlsocktype purpose G_GNUC_UNUSED)
{
    int timeout_ms = (int) SILENCE_S * 1000;
    int one = 1, idle = 10, interval = 5;

    (void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    (void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
    return CURL_SOCKOPT_OK;
}

static size_t
on_header(char *data G_GNUC_UNUSED, size_t size G_GNUC_UNUSED, size_t n, void *user)
{
    Transfer *transfer = user;

    transfer->headers += n;
    transfer->too_large = transfer->too_large || transfer->headers > HEADERS_MAX;
    return transfer->too_large ? 0 : n;
}

static size_t
on_answer(char *data, size_t size G_GNUC_UNUSED, size_t n, void *user)
{
    Transfer *transfer = user;

    if (transfer->answer->len + n > transfer->answer_max) {
        transfer->too_large = TRUE;
        return 0;
    }
    g_byte_array_append(transfer->answer, (const guint8 *) data, (guint) n);
    return n;
}

static size_t
on_body(char *buf, size_t size, size_t n, void *user)
{
    Transfer *transfer = user;
    const VrHttpCall *call = transfer->call;
    gsize len = MIN(size * n, call->body_len - transfer->sent);
    ssize_t got = (ssize_t) len;

    if (call->body) {
        memcpy(buf, (const char *) call->body + transfer->sent, len);
    } else if (len > 0) {
        do {
            got = pread(call->body_fd, buf, len, (off_t) transfer->sent);
        } while (got < 0 && errno == EINTR);
        if (got <= 0) {
            transfer->read_errno = got < 0 ? errno : EIO;
            return CURL_READFUNC_ABORT;
        }
    }
    transfer->sent += (gsize) got;
    return (size_t) got;
}

static int
on_seek(void *user, curl_off_t offset, int origin)
{
    Transfer *transfer = user;

    if (origin != SEEK_SET || offset < 0 || (gsize) offset > transfer->call->body_len)
        return CURL_SEEKFUNC_CANTSEEK;
    transfer->sent = (gsize) offset;
    return CURL_SEEKFUNC_OK;
}

static gboolean
gave_up(const Transfer *transfer)
{
    return transfer->not_there >= NOT_THERE_MAX;
}

static void
watch(Transfer *transfer, curl_off_t moved)
{
    VrHttp *http = transfer->http;
    gint64 now_us = g_get_monotonic_time();

    if (moved != transfer->moved) {
        transfer->moved = moved;
        transfer->moved_us = transfer->asked_us = now_us;
        transfer->not_there = 0;
    }
    if (http->is_there == NULL || !transfer->call->quiet_peer ||
        now_us - transfer->asked_us < (gint64) http->watch_ms * 1000)
        return;
    transfer->not_there =
        http->is_there(http->is_there_data, transfer->cancel) ? 0 : transfer->not_there + 1;
    transfer->asked_us = g_get_monotonic_time();
}

static int
on_progress(void *user, curl_off_t dl_total G_GNUC_UNUSED, curl_off_t dl,
            curl_off_t ul_total G_GNUC_UNUSED, curl_off_t ul)
{
    Transfer *transfer = user;

    watch(transfer, dl + ul);
    return gave_up(transfer) || g_cancellable_is_cancelled(transfer->cancel) ? 1 : 0;
}

static VrHttp *
new_handle(void)
{
    VrHttp *self = g_new0(VrHttp, 1);

    vr_http_global_init();
    self->curl = curl_easy_init();
    if (!self->curl)
        g_error("libcurl cannot make a handle");
    curl_easy_setopt(self->curl, CURLOPT_ERRORBUFFER, self->why);
    curl_easy_setopt(self->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(self->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(self->curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(self->curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(self->curl, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(self->curl, CURLOPT_UPLOAD_BUFFERSIZE, 256L * 1024);
    curl_easy_setopt(self->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    curl_easy_setopt(self->curl, CURLOPT_MAXAGE_CONN, IDLE_S);
    curl_easy_setopt(self->curl, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(self->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(self->curl, CURLOPT_READFUNCTION, on_body);
    curl_easy_setopt(self->curl, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(self->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(self->curl, CURLOPT_NOPROGRESS, 0L);
    return self;
}

/* "sha256//" and base64 of the 32 bytes that @fingerprint writes in hex. (transfer full) */
static char *
pin_of(const char *fingerprint)
{
    guint8 digest[32];
    g_autofree char *base64 = NULL;

    for (guint i = 0; i < sizeof(digest); i++)
        digest[i] = (guint8) (g_ascii_xdigit_value(fingerprint[2 * i]) << 4 |
                              g_ascii_xdigit_value(fingerprint[2 * i + 1]));
    base64 = g_base64_encode(digest, sizeof(digest));
    return g_strconcat("sha256//", base64, NULL);
}

VrHttp *
vr_http_new_peer(const char *name, const char *address, const char *fingerprint,
                 const char *cert_path, const char *key_path, GError **error)
{
    g_autofree char *pin = NULL;
    VrHttp *self;

    if (!vr_address_parse(address, FALSE, NULL, NULL, error))
        return NULL;
    if (!vr_fingerprint_valid(fingerprint)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-fingerprint", NULL,
                     "'%s' is not a key fingerprint", fingerprint);
        return NULL;
    }
    pin = pin_of(fingerprint);
    self = new_handle();
    self->base = g_strconcat("https://", address, NULL);
    self->name = g_strdup(name);
    self->peer = g_strdup_printf("peer '%s' (%s)", name, address);
    curl_easy_setopt(self->curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(self->curl, CURLOPT_SSLVERSION,
                     (long) CURL_SSLVERSION_TLSv1_3 | (long) CURL_SSLVERSION_MAX_TLSv1_3);
    curl_easy_setopt(self->curl, CURLOPT_TLS13_CIPHERS,
                     "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384");
    curl_easy_setopt(self->curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(self->curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(self->curl, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    curl_easy_setopt(self->curl, CURLOPT_SSL_ENABLE_ALPN, 0L);
    curl_easy_setopt(self->curl, CURLOPT_PINNEDPUBLICKEY, pin);
    curl_easy_setopt(self->curl, CURLOPT_SSLCERT, cert_path);
    curl_easy_setopt(self->curl, CURLOPT_SSLKEY, key_path);
    curl_easy_setopt(self->curl, CURLOPT_SOCKOPTFUNCTION, tune_socket);
    return self;
}

VrHttp *
vr_http_new_unix(const char *socket_path)
{
    VrHttp *self = new_handle();

    self->unix_socket = TRUE;
    self->base = g_strdup("http://localhost");
    self->peer = g_strdup_printf("the daemon behind '%s'", socket_path);
    curl_easy_setopt(self->curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(self->curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
    return self;
}

void
vr_http_free(VrHttp *self)
{
    if (!self)
        return;
    curl_easy_cleanup(self->curl);
    g_free(self->base);
    g_free(self->name);
    g_free(self->peer);
    g_free(self);
}

void
vr_http_watch(VrHttp *self, guint period_ms, VrHttpThereFunc func, gpointer data)
{
    self->watch_ms = period_ms;
    self->is_there = func;
    self->is_there_data = data;
}

static void
set_method(VrHttp *self, const VrHttpCall *call)
{
    /* HTTPGET first: it undoes NOBODY and UPLOAD of the call before. */
    curl_easy_setopt(self->curl, CURLOPT_CUSTOMREQUEST, NULL);
    curl_easy_setopt(self->curl, CURLOPT_HTTPGET, 1L);
    if (strcmp(call->method, "HEAD") == 0) {
        curl_easy_setopt(self->curl, CURLOPT_NOBODY, 1L);
        return;
    }
    if (call->body_len > 0) {
        curl_easy_setopt(self->curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(self->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t) call->body_len);
    }
    curl_easy_setopt(self->curl, CURLOPT_CUSTOMREQUEST, call->method);
}

static void
set_timeouts(VrHttp *self, const VrHttpCall *call)
{
    curl_easy_setopt(self->curl, CURLOPT_TIMEOUT, (long) call->timeout_s);
    curl_easy_setopt(self->curl, CURLOPT_LOW_SPEED_LIMIT, call->quiet_peer ? 0L : 1L);
    curl_easy_setopt(self->curl, CURLOPT_LOW_SPEED_TIME, call->quiet_peer ? 0L : SILENCE_S);
}

static void
set_curl_error(VrHttp *self, const Transfer *transfer, CURLcode code, GError **error)
{
    const char *why = self->why[0] ? self->why : curl_easy_strerror(code);
    curl_off_t total_us = 0;
    long errnum = 0;

    curl_easy_getinfo(self->curl, CURLINFO_TOTAL_TIME_T, &total_us);
    curl_easy_getinfo(self->curl, CURLINFO_OS_ERRNO, &errnum);
    if (g_cancellable_is_cancelled(transfer->cancel))
        vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "request to %s cancelled",
                     self->peer);
    else if (transfer->too_large)
        vr_set_error(error, VR_ERROR_INVALID, "answer-too-large", NULL,
                     "%s sent an answer of more than %" G_GSIZE_FORMAT " bytes", self->peer,
                     transfer->answer_max);
    else if (gave_up(transfer))
        vr_set_error(error, VR_ERROR_TRANSIENT, "peer-unreachable",
                     "Check that virt-replicad runs there and is not stopped.",
                     "%s has said nothing for %d s, and does not answer when asked whether it is "
                     "there",
                     self->peer,
                     (int) ((g_get_monotonic_time() - transfer->moved_us) / G_USEC_PER_SEC));
    else if (transfer->read_errno)
        vr_set_error_errno(error, transfer->read_errno, "cannot read the file to send to %s",
                           self->peer);
    else if (code == CURLE_SSL_PINNEDPUBKEYNOTMATCH)
        vr_set_error(error, VR_ERROR_AUTH, "peer-key-changed",
                     "Find out who answers there; if the host was installed anew, remove the peer "
                     "and pair again.",
                     "%s does not have the key that was pinned", self->peer);
    else if (self->unix_socket && code == CURLE_COULDNT_CONNECT && errnum == EACCES)
        vr_set_error(error, VR_ERROR_AUTH, "permission-denied",
                     "Become root or a member of the group 'libvirt'.",
                     "no permission to talk to %s", self->peer);
    else if (self->unix_socket && code == CURLE_OPERATION_TIMEDOUT)
        vr_set_error(error, VR_ERROR_TIMEOUT, "daemon-timeout",
                     "It may wait for another host: see 'virt-replica list' and its log.",
                     "%s did not answer in time", self->peer);
    else if (self->unix_socket)
        vr_set_error(error, VR_ERROR_UNREACHABLE, "daemon-unreachable",
                     "Start the service virt-replicad, or name its socket with -c.",
                     "cannot reach %s: %s", self->peer, errnum ? g_strerror((int) errnum) : why);
    else if (code == CURLE_OPERATION_TIMEDOUT && transfer->call->timeout_s > 0 &&
             total_us >= (curl_off_t) transfer->call->timeout_s * 990000)
        vr_set_error(error, VR_ERROR_TRANSIENT, "peer-timeout",
                     "Look at the load and the log of that host.", "%s did not answer within %u s",
                     self->peer, transfer->call->timeout_s);
    else if (code == CURLE_SSL_CERTPROBLEM)
        vr_set_error(error, VR_ERROR_INTERNAL, "bad-identity",
                     "Check the files of this host's key.",
                     "cannot use this host's certificate: %s", why);
    else
        vr_set_error(
            error, VR_ERROR_TRANSIENT, "peer-unreachable",
            "Check that virt-replicad runs there and that the network lets its port through.",
            "cannot reach %s: %s", self->peer, why);
}

static VrError
code_of_status(long status)
{
    switch (status) {
    case 403:
        return VR_ERROR_AUTH;
    case 404:
        return VR_ERROR_NOT_FOUND;
    case 409:
        return VR_ERROR_REFUSED;
    case 507:
        return VR_ERROR_NO_SPACE;
    default:
        return status >= 500 ? VR_ERROR_TRANSIENT : VR_ERROR_INVALID;
    }
}

static GError *
said_there(const VrHttp *self, JsonObject *object)
{
    return self->unix_socket ? vr_error_from_json_object(object)
                             : vr_error_from_peer(object, self->name, self->peer);
}

static void
set_remote_error(VrHttp *self, long status, const GByteArray *answer, GError **error)
{
    g_autoptr(JsonNode) node = answer->len > 0 ? vr_json_parse((const char *) answer->data,
                                                               answer->len, VR_JSON_MAX_BYTES, NULL)
                                               : NULL;
    JsonNode *inner = NULL;

    if (node && JSON_NODE_HOLDS_OBJECT(node))
        inner = json_object_get_member(json_node_get_object(node), "error");
    if (inner && JSON_NODE_HOLDS_OBJECT(inner))
        g_propagate_error(error, said_there(self, json_node_get_object(inner)));
    else
        vr_set_error(error, code_of_status(status), "http-error", NULL,
                     "%s answered with status %ld", self->peer, status);
}

gboolean
vr_http_call(VrHttp *self, const VrHttpCall *call, GBytes **ret_body, GCancellable *cancel,
             GError **error)
{
    g_autofree char *url = g_strconcat(self->base, call->path, NULL);
    g_autofree char *type = g_strconcat(
        "Content-Type: ", call->content_type ? call->content_type : "application/octet-stream",
        NULL);
    g_autoptr(GByteArray) answer = g_byte_array_new();
    Transfer transfer = {.http = self, .call = call, .answer = answer, .cancel = cancel};
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    long status = 0;
    CURLcode code;

    if (call->body_len > 0)
        headers = curl_slist_append(headers, type);
    transfer.moved_us = transfer.asked_us = g_get_monotonic_time();
    transfer.answer_max = call->answer_max ? call->answer_max : ANSWER_MAX;
    self->why[0] = '\0';
    set_method(self, call);
    set_timeouts(self, call);
    curl_easy_setopt(self->curl, CURLOPT_URL, url);
    curl_easy_setopt(self->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(self->curl, CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(self->curl, CURLOPT_HEADERDATA, &transfer);
    curl_easy_setopt(self->curl, CURLOPT_READDATA, &transfer);
    curl_easy_setopt(self->curl, CURLOPT_SEEKDATA, &transfer);
    curl_easy_setopt(self->curl, CURLOPT_XFERINFODATA, &transfer);
    code = curl_easy_perform(self->curl);
    curl_easy_setopt(self->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    if (code != CURLE_OK) {
        set_curl_error(self, &transfer, code, error);
        return FALSE;
    }
    curl_easy_getinfo(self->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || status > 299) {
        set_remote_error(self, status, answer, error);
        return FALSE;
    }
    if (ret_body)
        *ret_body = g_byte_array_free_to_bytes(g_steal_pointer(&answer));
    return TRUE;
}

gboolean
vr_http_json(VrHttp *self, const char *method, const char *path, JsonNode *body, guint timeout_s,
             JsonNode **ret_answer, GCancellable *cancel, GError **error)
{
    g_autofree char *text = body ? vr_json_to_text(body) : NULL;
    g_autoptr(GBytes) answer = NULL;
    g_autoptr(JsonNode) node = NULL;
    gsize answer_max = self->unix_socket ? OWN_ANSWER_MAX : ANSWER_MAX;
    VrHttpCall call = {
        .method = method,
        .path = path,
        .content_type = "application/json",
        .body = text,
        .body_len = text ? strlen(text) : 0,
        .body_fd = -1,
        .answer_max = answer_max,
        .timeout_s = timeout_s,
        .quiet_peer = timeout_s > 0,
    };

    if (!vr_http_call(self, &call, &answer, cancel, error))
        return FALSE;
    if (g_bytes_get_size(answer) > 0) {
        node = vr_json_parse_large(g_bytes_get_data(answer, NULL), g_bytes_get_size(answer),
                                   answer_max,
                                   self->unix_socket ? OWN_MAX_VALUES : VR_JSON_MAX_VALUES, error);
        if (!node) {
            g_prefix_error(error, "answer of %s: ", self->peer);
            return FALSE;
        }
    }
    if (ret_answer)
        *ret_answer = g_steal_pointer(&node);
    return TRUE;
}
