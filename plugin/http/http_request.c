/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "plugin/http/http_server_private.h"
#include "policies/error.h"
#include "storage/util/json_util.h"

#define QUERY_MAX 16
#define BODY_DEFAULT_MAX ((guint64) 1024 * 1024)
#define MEMORY_DEFAULT ((guint64) 64 * 1024)
/* What a parsed value takes for the two bytes that it needs at least, and how many there can be. */
#define JSON_FACTOR 100
#define JSON_MOST ((guint64) VR_JSON_MAX_VALUES * 2)

typedef struct {
    GHashTable *query;
    gboolean bad;
} QueryScan;

static enum MHD_Result
collect_query(void *user, enum MHD_ValueKind kind G_GNUC_UNUSED, const char *key, const char *value)
{
    QueryScan *scan = user;
    g_autofree char *name = vr_http_decode(key, NULL);
    g_autofree char *text = vr_http_decode(value ? value : "", NULL);

    if (!name || !text || g_hash_table_contains(scan->query, name) ||
        g_hash_table_size(scan->query) >= QUERY_MAX) {
        scan->bad = TRUE;
        return MHD_NO;
    }
    g_hash_table_insert(scan->query, g_steal_pointer(&name), g_steal_pointer(&text));
    return MHD_YES;
}

static GHashTable *
read_query(struct MHD_Connection *mhd)
{
    QueryScan scan = {.query = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free)};

    MHD_get_connection_values(mhd, MHD_GET_ARGUMENT_KIND, collect_query, &scan);
    if (scan.bad)
        g_clear_pointer(&scan.query, g_hash_table_unref);
    return scan.query;
}

VrHttpRequest *
vr_http_request_new(VrHttpConnection *connection, struct MHD_Connection *mhd, const char *method,
                    const char *raw_path, VrHttpBudget *budget, GCancellable *cancel)
{
    VrHttpRequest *self = g_new0(VrHttpRequest, 1);

    self->connection = connection;
    self->method = g_strdup(method);
    self->path = g_strdup(raw_path);
    self->query = read_query(mhd);
    self->budget = budget;
    self->cancel = cancel;
    self->fd = -1;
    self->kept = g_new0(VrHttpKept, 1);
    return self;
}

void
vr_http_request_free(VrHttpRequest *self)
{
    if (!self)
        return;
    if (self->fd >= 0)
        close(self->fd);
    if (self->kept->data)
        self->kept->free_func(self->kept->data);
    g_free(self->kept);
    if (self->buffer)
        vr_http_budget_buffer_done(self->budget, self->buffer);
    if (self->payer)
        vr_http_budget_give(self->budget, self->payer, self->charge);
    g_free(self->payer);
    g_clear_pointer(&self->json, json_node_unref);
    g_clear_pointer(&self->query, g_hash_table_unref);
    g_clear_error(&self->failure);
    g_strfreev(self->params);
    g_free(self->method);
    g_free(self->path);
    g_free(self);
}

typedef struct {
    guint lengths;
    gboolean transfer_encoding;
    char *length; /* owned */
} FramingScan;

static enum MHD_Result
collect_framing(void *user, enum MHD_ValueKind kind G_GNUC_UNUSED, const char *key,
                const char *value)
{
    FramingScan *scan = user;

    if (g_ascii_strcasecmp(key, "Transfer-Encoding") == 0)
        scan->transfer_encoding = TRUE;
    if (g_ascii_strcasecmp(key, "Content-Length") == 0 && scan->lengths++ == 0)
        scan->length = g_strdup(value);
    return MHD_YES;
}

gboolean
vr_http_request_check_framing(VrHttpRequest *self, struct MHD_Connection *mhd, GError **error)
{
    FramingScan scan = {0};
    gboolean ok;

    MHD_get_connection_values(mhd, MHD_HEADER_KIND, collect_framing, &scan);
    ok = !scan.transfer_encoding && scan.lengths <= 1 &&
         (scan.lengths == 0 ||
          g_ascii_string_to_unsigned(scan.length, 10, 0, G_MAXINT64, &self->length, NULL));
    g_free(scan.length);
    if (!ok)
        vr_set_error(error, VR_ERROR_INVALID, "bad-framing", NULL,
                     "a request needs exactly one Content-Length and no Transfer-Encoding");
    return ok;
}

static gboolean
open_spool(VrHttpRequest *self, const char *dir, GError **error)
{
    g_autofree char *name = NULL;

    self->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (self->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        name = g_build_filename(dir, "upload-XXXXXX", NULL);
        self->fd = mkostemp(name, O_CLOEXEC);
        if (self->fd >= 0)
            unlink(name);
    }
    if (self->fd < 0) {
        vr_set_error_errno(error, errno, "cannot make a temporary file in '%s'", dir);
        return FALSE;
    }
    return TRUE;
}

gboolean
vr_http_request_check_length(const VrHttpRequest *self, GError **error)
{
    guint64 max = self->route->body_max ? self->route->body_max : BODY_DEFAULT_MAX;

    if (self->route->body == VR_HTTP_BODY_NONE)
        max = 0;
    if (self->length > max) {
        vr_set_error(error, VR_ERROR_INVALID, "body-too-large", NULL,
                     "a body of %" G_GUINT64_FORMAT " bytes is more than the %" G_GUINT64_FORMAT
                     " possible there",
                     self->length, max);
        return FALSE;
    }
    return TRUE;
}

/* The body, what is made of it, and what the handler needs. */
static guint64
memory_needed(const VrHttpRequest *self)
{
    guint64 bytes = self->route->memory ? self->route->memory : MEMORY_DEFAULT;

    if (self->route->body == VR_HTTP_BODY_FILE)
        return bytes;
    bytes += self->length;
    if (self->route->body == VR_HTTP_BODY_JSON)
        bytes += self->length + MIN(self->length, JSON_MOST) * JSON_FACTOR;
    return bytes;
}

gboolean
vr_http_request_charge(VrHttpRequest *self, const char *payer, GError **error)
{
    if (!vr_http_budget_take(self->budget, payer, memory_needed(self), &self->charge, error))
        return FALSE;
    self->payer = g_strdup(payer);
    return TRUE;
}

gboolean
vr_http_request_open_body(VrHttpRequest *self, const char *spool_dir, GError **error)
{
    if (self->route->body == VR_HTTP_BODY_FILE)
        return open_spool(self, spool_dir ? spool_dir : g_get_tmp_dir(), error);
    if (self->route->body == VR_HTTP_BODY_NONE)
        return TRUE;
    self->buffer = vr_http_budget_buffer(self->budget);
    g_byte_array_set_size(self->buffer, (guint) self->length);
    g_byte_array_set_size(self->buffer, 0);
    return TRUE;
}

static gboolean
write_spool(VrHttpRequest *self, const char *data, gsize len, GError **error)
{
    while (len > 0) {
        ssize_t n = write(self->fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            vr_set_error_errno(error, errno, "cannot store the body of the request");
            return FALSE;
        }
        data += n;
        len -= (gsize) n;
    }
    return TRUE;
}

void
vr_http_request_take(VrHttpRequest *self, const char *data, gsize len)
{
    self->received += len;
    if (self->failure)
        return;
    if (self->received > self->length)
        vr_set_error(&self->failure, VR_ERROR_INVALID, "bad-framing", NULL,
                     "the body is longer than it was declared");
    else if (self->route->body == VR_HTTP_BODY_FILE)
        (void) write_spool(self, data, len, &self->failure);
    else
        g_byte_array_append(self->buffer, (const guint8 *) data, (guint) len);
}

gboolean
vr_http_request_close_body(VrHttpRequest *self, GError **error)
{
    if (self->received != self->length) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-framing", NULL,
                     "the body is shorter than it was declared");
        return FALSE;
    }
    if (self->fd >= 0 && lseek(self->fd, 0, SEEK_SET) < 0) {
        vr_set_error_errno(error, errno, "cannot rewind the body of the request");
        return FALSE;
    }
    if (self->route->body != VR_HTTP_BODY_JSON || self->received == 0)
        return TRUE;
    self->json = vr_json_parse((const char *) self->buffer->data, self->buffer->len,
                               self->buffer->len, error);
    return self->json != NULL;
}

const char *
vr_http_request_param(const VrHttpRequest *self, const char *name)
{
    const char *p = self->route->pattern;
    gsize len = strlen(name);

    for (guint i = 0; (p = strchr(p, '{')) != NULL; i++, p++) {
        if (strncmp(p + 1, name, len) == 0 && p[1 + len] == '}')
            return self->params[i];
    }
    g_return_val_if_reached(NULL);
}

const char *
vr_http_request_query(const VrHttpRequest *self, const char *name)
{
    return g_hash_table_lookup(self->query, name);
}

gboolean
vr_http_request_query_uint(const VrHttpRequest *self, const char *name, guint64 fallback,
                           guint64 max, guint64 *ret, GError **error)
{
    const char *text = vr_http_request_query(self, name);

    if (!text) {
        *ret = fallback;
        return TRUE;
    }
    if (g_ascii_string_to_unsigned(text, 10, 0, max, ret, NULL))
        return TRUE;
    vr_set_error(error, VR_ERROR_INVALID, "bad-query", NULL,
                 "'%s' in the query is not a number up to %" G_GUINT64_FORMAT, name, max);
    return FALSE;
}

gboolean
vr_http_request_query_flag(const VrHttpRequest *self, const char *name)
{
    const char *text = vr_http_request_query(self, name);

    return text && (strcmp(text, "1") == 0 || strcmp(text, "true") == 0);
}

JsonNode *
vr_http_request_json(const VrHttpRequest *self)
{
    return self->json;
}

JsonObject *
vr_http_request_object(const VrHttpRequest *self, GError **error)
{
    return vr_json_object(self->json, "the body of the request", error);
}

const guint8 *
vr_http_request_bytes(const VrHttpRequest *self, gsize *ret_len)
{
    *ret_len = self->buffer->len;
    return self->buffer->data;
}

int
vr_http_request_fd(const VrHttpRequest *self)
{
    return self->fd;
}

const char *
vr_http_request_peer(const VrHttpRequest *self)
{
    return self->connection->peer;
}

const char *
vr_http_request_remote(const VrHttpRequest *self)
{
    return self->connection->remote;
}

guint64
vr_http_request_length(const VrHttpRequest *self)
{
    return self->length;
}

void
vr_http_request_keep(const VrHttpRequest *self, gpointer data, GDestroyNotify free_func)
{
    g_return_if_fail(self->kept->data == NULL);
    *self->kept = (VrHttpKept){data, free_func};
}

gpointer
vr_http_request_kept(const VrHttpRequest *self)
{
    return self->kept->data;
}

GCancellable *
vr_http_request_cancel(const VrHttpRequest *self)
{
    return self->cancel;
}
