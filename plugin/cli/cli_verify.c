/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_commands.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_wait.h"

/* Older content that this recovery point does not show. */
static void
say_bad_below(VrCli *cli, JsonObject *job)
{
    gint64 bad = vr_cli_json_int(job, "layers_bad", 0);
    gint64 unreadable = vr_cli_json_int(job, "layers_unreadable", 0);

    if (bad + unreadable > 0)
        vr_cli_say(cli,
                   "Damaged below it: %" G_GINT64_FORMAT " layers, in parts that it does not show; "
                   "older recovery points do: see rp-list",
                   bad + unreadable);
}

/* What was compared, and with what: more than "good" would say. */
static void
say_result(VrCli *cli, const char *domain, JsonObject *job)
{
    g_autofree char *rp = vr_cli_json_text(job, "rp");
    g_autofree char *layers = vr_cli_json_text(job, "layers_read");
    g_autofree char *bytes = vr_cli_json_size(job, "bytes_compared");
    g_autofree char *verified = vr_cli_json_time(job, "verified");

    vr_cli_say(cli, "Domain '%s': recovery point %s is good", domain, rp ? rp : "-");
    vr_cli_say(cli, "Compared: %s in %s layers with the digests of their commit",
               bytes ? bytes : "-", layers ? layers : "-");
    if (verified)
        vr_cli_say(cli, "Verified: all of it since %s", verified);
    say_bad_below(cli, job);
}

gboolean
vr_cli_verify(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *domain = vr_cli_args_text(args, "domain");
    g_autofree char *path = vr_cli_path("protections", domain, "verify", NULL);
    JsonObject *body = json_object_new();
    g_autoptr(JsonNode) job = NULL;

    if (vr_cli_args_text(args, "rp"))
        json_object_set_int_member(body, "number", vr_cli_args_number(args, "rp"));
    if (!vr_cli_start_job(cli, args, path, body, &job, error))
        return FALSE;
    if (!job)
        return TRUE;
    if (cli->json)
        vr_cli_json_print(cli->out, job);
    else
        say_result(cli, domain, vr_cli_json_member(vr_cli_json_object(job), "result"));
    return TRUE;
}
