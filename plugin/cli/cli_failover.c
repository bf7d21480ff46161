/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_commands.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_wait.h"

static void
say_result(VrCli *cli, const char *domain, JsonObject *job)
{
    const char *source = vr_cli_json_string(job, "root_source");
    const char *target = vr_cli_json_string(job, "root_target");
    g_autofree char *verified = vr_cli_json_time(vr_cli_json_member(job, "result"), "verified");
    double seconds = 0;

    vr_cli_say(cli, "Domain '%s' failed over", domain);
    if (vr_cli_json_number(job, "downtime_seconds", &seconds))
        vr_cli_say(cli, "Downtime: %.1f s", seconds);
    if (source && target)
        vr_cli_say(cli, "Roots: %s (%s), computed by both hosts at the commit",
                   g_str_equal(source, target) ? "equal" : "NOT equal", source);
    if (verified)
        vr_cli_say(cli, "Stored replica: read back and compared since %s", verified);
}

gboolean
vr_cli_failover(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *domain = vr_cli_args_text(args, "domain");
    g_autofree char *path = vr_cli_path("protections", domain, "failover", NULL);
    JsonObject *body = json_object_new();
    g_autoptr(JsonNode) job = NULL;

    json_object_set_string_member(body, "mode", "planned");
    json_object_set_boolean_member(body, "force", vr_cli_args_flag(args, "force"));
    if (vr_cli_args_flag(args, "no-verify"))
        json_object_set_boolean_member(body, "no_verify", TRUE);
    json_object_set_boolean_member(body, "reverse", !vr_cli_args_flag(args, "no-reverse"));
    if (!vr_cli_start_job(cli, args, path, body, &job, error))
        return FALSE;
    if (!job)
        return TRUE;
    if (cli->json)
        vr_cli_json_print(cli->out, job);
    else
        say_result(cli, domain, vr_cli_json_object(job));
    return TRUE;
}
