/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A path is cut at its slashes first and every segment decoded once after that, so an encoded slash
 * cannot make or hide a segment; a decoded value with a slash, a character that is not safe to show
 * or a name of dots only is refused. */
#include <string.h>

#include "plugin/http/http_server_private.h"
#include "policies/display.h"
#include "policies/error.h"

#define PATH_MAX_LEN 1024
#define SEGMENTS_MAX 12

char *
vr_http_decode(const char *raw, const char *illegal)
{
    g_autofree char *text = g_uri_unescape_string(raw, illegal);

    if (!text || !g_utf8_validate(text, -1, NULL))
        return NULL;
    for (const char *p = text; *p; p = g_utf8_next_char(p)) {
        if (!vr_char_safe(g_utf8_get_char(p)))
            return NULL;
    }
    return g_steal_pointer(&text);
}

static char *
decode_segment(const char *raw)
{
    g_autofree char *text = vr_http_decode(raw, "/");

    if (!text || !*text || strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
        return NULL;
    return g_steal_pointer(&text);
}

static char **
decode_path(const char *raw_path)
{
    g_auto(GStrv) raw = NULL;
    g_auto(GStrv) segments = NULL;
    guint n;

    if (raw_path[0] != '/' || strnlen(raw_path, PATH_MAX_LEN + 1) > PATH_MAX_LEN)
        return NULL;
    raw = g_strsplit(raw_path + 1, "/", SEGMENTS_MAX + 1);
    n = g_strv_length(raw);
    if (n > SEGMENTS_MAX)
        return NULL;
    segments = g_new0(char *, n + 1);
    for (guint i = 0; i < n; i++) {
        segments[i] = decode_segment(raw[i]);
        if (!segments[i])
            return NULL;
    }
    return g_steal_pointer(&segments);
}

/* Number of literal segments if the pattern matches, else -1. @params (nullable) gets copies of the
 * values. */
static int
match(const char *pattern, char **segments, GPtrArray *params)
{
    g_auto(GStrv) parts = g_strsplit(pattern + 1, "/", -1);
    int literal = 0;

    if (g_strv_length(parts) != g_strv_length(segments))
        return -1;
    for (guint i = 0; parts[i]; i++) {
        if (parts[i][0] == '{') {
            if (params)
                g_ptr_array_add(params, g_strdup(segments[i]));
        } else if (strcmp(parts[i], segments[i]) != 0) {
            return -1;
        } else {
            literal++;
        }
    }
    return literal;
}

static gboolean
method_fits(const VrHttpRoute *route, const char *method)
{
    return strcmp(route->method, method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0);
}

const VrHttpRoute *
vr_http_route_find(GArray *tables, const char *method, const char *raw_path, gpointer *ret_data,
                   char ***ret_params, GError **error)
{
    g_auto(GStrv) segments = decode_path(raw_path);
    g_autoptr(GPtrArray) params = NULL;
    const VrHttpRoute *best = NULL;
    gboolean path_known = FALSE;
    int best_literal = -1;

    if (!segments) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-path", NULL,
                     "the path of the request is not understood");
        return NULL;
    }
    for (guint t = 0; t < tables->len; t++) {
        const VrHttpRouteTable *table = &g_array_index(tables, VrHttpRouteTable, t);

        for (guint i = 0; i < table->n; i++) {
            int literal = match(table->routes[i].pattern, segments, NULL);

            path_known = path_known || literal >= 0;
            if (literal > best_literal && method_fits(&table->routes[i], method)) {
                best = &table->routes[i];
                best_literal = literal;
                *ret_data = table->data;
            }
        }
    }
    if (!best && path_known)
        vr_set_error(error, VR_ERROR_INVALID, "method-not-allowed", NULL,
                     "%s is not possible there", method);
    else if (!best)
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-route",
                     "Check that both sides have the same version of virt-replica.",
                     "there is nothing at '%s'", raw_path);
    if (!best)
        return NULL;
    params = g_ptr_array_new();
    (void) match(best->pattern, segments, params);
    g_ptr_array_add(params, NULL);
    *ret_params = (char **) g_ptr_array_free(g_steal_pointer(&params), FALSE);
    return best;
}
