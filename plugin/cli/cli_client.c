/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_client.h"

#include "plugin/cli/cli_format.h"
#include "plugin/cli/cli_json.h"

#include "plugin/cli/cli_json.h"
#include "storage/wire/http.h"

#define ANSWER_TIMEOUT_S 120

struct VrCliClient {
    VrHttp *http; /* owned */
};

static VrHttp *
connection(VrCli *cli)
{
    if (!cli->client) {
        cli->client = g_new0(VrCliClient, 1);
        cli->client->http = vr_http_new_unix(cli->socket);
    }
    return cli->client->http;
}

void
vr_cli_client_free(VrCliClient *self)
{
    if (!self)
        return;
    vr_http_free(self->http);
    g_free(self);
}

char *
vr_cli_path(const char *first, ...)
{
    GString *path = g_string_new("/v1");
    va_list args;

    va_start(args, first);
    for (const char *part = first; part; part = va_arg(args, const char *)) {
        g_string_append_c(path, '/');
        g_string_append_uri_escaped(path, part, NULL, FALSE);
    }
    va_end(args);
    return g_string_free(path, FALSE);
}

char *
vr_cli_query(char *path, const char *key, const char *value)
{
    g_autofree char *old = path;
    g_autofree char *escaped = value ? g_uri_escape_string(value, NULL, FALSE) : NULL;

    if (!value)
        return g_steal_pointer(&old);
    return g_strdup_printf("%s%c%s=%s", old, strchr(old, '?') ? '&' : '?', key, escaped);
}

gboolean
vr_cli_request(VrCli *cli, const char *method, const char *path, JsonObject *body,
               JsonNode **ret_answer, GError **error)
{
    g_autoptr(JsonNode) node = body ? vr_cli_json_node(body) : NULL;

    return vr_http_json(connection(cli), method, path, node, ANSWER_TIMEOUT_S, ret_answer, NULL,
                        error);
}

gboolean
vr_cli_do(VrCli *cli, const char *method, const char *path, JsonObject *body, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;

    if (!vr_cli_request(cli, method, path, body, &answer, error))
        return FALSE;
    if (cli->json)
        vr_cli_json_print(cli->out, answer);
    return TRUE;
}

gboolean
vr_cli_fetch(VrCli *cli, const char *path, JsonNode **ret_answer, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;

    if (!vr_cli_request(cli, "GET", path, NULL, &answer, error))
        return FALSE;
    if (!cli->json && answer) {
        *ret_answer = g_steal_pointer(&answer);
        return TRUE;
    }
    if (cli->json)
        vr_cli_json_print(cli->out, answer);
    *ret_answer = NULL;
    return TRUE;
}

void
vr_cli_warn(VrCli *cli, JsonObject *answer)
{
    g_autoptr(GPtrArray) warnings = vr_cli_json_member_objects(answer, "warnings");

    for (guint i = 0; !cli->json && i < warnings->len; i++) {
        JsonObject *warning = g_ptr_array_index(warnings, i);
        g_autofree char *message = vr_cli_escape(vr_cli_json_string(warning, "message") ?: "-");
        g_autofree char *action = vr_cli_escape(vr_cli_json_string(warning, "action") ?: "");

        fprintf(cli->err, "warning: %s\n", message);
        if (*action)
            fprintf(cli->err, "%s\n", action);
    }
}
