/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_commands.h"
#include "plugin/cli/cli_format.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_request.h"
#include "plugin/cli/cli_table.h"

#define EXIT_REFUSED 5

JsonObject *
vr_cli_replica_request(const VrCliArgs *args)
{
    JsonObject *body = json_object_new();
    JsonArray *exclude = json_array_new();
    const GPtrArray *disks = vr_cli_args_list(args, "exclude-disk");

    json_object_set_string_member(body, "domain", vr_cli_args_text(args, "domain"));
    json_object_set_string_member(body, "peer", vr_cli_args_text(args, "to"));
    vr_cli_json_set(body, "store", vr_cli_args_text(args, "store"));
    for (guint i = 0; disks && i < disks->len; i++)
        json_array_add_string_element(exclude, g_ptr_array_index(disks, i));
    json_object_set_array_member(body, "exclude", exclude);
    return body;
}

static void
print_findings(VrCli *cli, GPtrArray *findings)
{
    g_autoptr(VrCliTable) table = vr_cli_table_new("Severity", "Code", "Message", NULL);

    for (guint i = 0; i < findings->len; i++) {
        JsonObject *finding = g_ptr_array_index(findings, i);

        vr_cli_table_take(table, vr_cli_json_text(finding, "severity"));
        vr_cli_table_take(table, vr_cli_json_text(finding, "code"));
        vr_cli_table_take(table, vr_cli_json_text(finding, "message"));
    }
    vr_cli_table_print(table, cli->out, cli->quiet);
    for (guint i = 0; i < findings->len; i++) {
        JsonObject *finding = g_ptr_array_index(findings, i);
        g_autofree char *code = vr_cli_escape(vr_cli_json_string(finding, "code") ?: "-");
        g_autofree char *action = vr_cli_escape(vr_cli_json_string(finding, "action") ?: "");

        if (*action)
            fprintf(cli->out, " %s: %s\n", code, action);
    }
}

gboolean
vr_cli_check(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *domain = vr_cli_args_text(args, "domain");
    const char *peer = vr_cli_args_text(args, "to");
    g_autofree char *path = vr_cli_path("check", NULL);
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GPtrArray) findings = NULL;
    gboolean ok = FALSE;

    if (!vr_cli_request(cli, "POST", path, vr_cli_replica_request(args), &answer, error))
        return FALSE;
    ok = vr_cli_json_bool(vr_cli_json_object(answer), "ok");
    cli->exit_status = ok ? 0 : EXIT_REFUSED;
    if (cli->json) {
        vr_cli_json_print(cli->out, answer);
        return TRUE;
    }
    findings = vr_cli_json_member_objects(vr_cli_json_object(answer), "findings");
    if (findings->len)
        print_findings(cli, findings);
    if (ok)
        vr_cli_say(cli, "Domain '%s' can be protected on '%s'", domain, peer);
    else
        vr_cli_complain(cli, "domain '%s' cannot be protected on '%s'", domain, peer);
    return TRUE;
}
