/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_commands.h"
#include "plugin/cli/cli_json.h"

gboolean
vr_cli_policy_set(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *domain = vr_cli_args_text(args, "domain");
    const char *policy = vr_cli_args_text(args, "policy");
    g_autofree char *path = vr_cli_path("protections", domain, "policy", NULL);
    JsonObject *body = json_object_new();

    vr_cli_json_set(body, "policy", policy);
    if (!vr_cli_do(cli, "POST", path, body, error))
        return FALSE;
    vr_cli_say(cli, "Domain '%s' follows policy '%s'", domain, policy);
    return TRUE;
}

static gboolean
set_disk(VrCli *cli, const VrCliArgs *args, gboolean excluded, GError **error)
{
    const char *domain = vr_cli_args_text(args, "domain");
    const char *disk = vr_cli_args_text(args, "disk");
    g_autofree char *path = vr_cli_path("protections", domain, "disks", NULL);
    JsonObject *body = json_object_new();

    vr_cli_json_set(body, "disk", disk);
    json_object_set_boolean_member(body, "excluded", excluded);
    if (!vr_cli_do(cli, "POST", path, body, error))
        return FALSE;
    vr_cli_say(cli, "Disk '%s' of domain '%s' is %s from the next recovery point on", disk, domain,
               excluded ? "left out" : "replicated");
    return TRUE;
}

gboolean
vr_cli_disk_exclude(VrCli *cli, const VrCliArgs *args, GError **error)
{
    return set_disk(cli, args, TRUE, error);
}

gboolean
vr_cli_disk_include(VrCli *cli, const VrCliArgs *args, GError **error)
{
    return set_disk(cli, args, FALSE, error);
}
