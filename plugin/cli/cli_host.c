/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_commands.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_table.h"

static char *
libvirt_text(JsonObject *status)
{
    JsonObject *libvirt = vr_cli_json_member(status, "libvirt");
    g_autofree char *uri = vr_cli_json_text(libvirt, "uri");
    g_autofree char *version = vr_cli_json_text(libvirt, "version");
    g_autofree char *qemu = vr_cli_json_text(libvirt, "qemu_version");

    if (!libvirt)
        return NULL;
    if (!vr_cli_json_bool(libvirt, "connected"))
        return g_strdup_printf("%s, not connected", uri ? uri : "-");
    return g_strdup_printf("%s, libvirt %s, QEMU %s", uri ? uri : "-", version ? version : "-",
                           qemu ? qemu : "-");
}

static void
print_notices(VrCli *cli, JsonObject *status)
{
    g_autoptr(GPtrArray) notices = vr_cli_json_member_objects(status, "notices");

    for (guint i = 0; i < notices->len; i++) {
        JsonObject *notice = g_ptr_array_index(notices, i);

        vr_cli_take_pair(cli->out, "Notice", vr_cli_json_text(notice, "message"));
        vr_cli_take_pair(cli->out, "", vr_cli_json_text(notice, "action"));
    }
}

gboolean
vr_cli_status(VrCli *cli, const VrCliArgs *args G_GNUC_UNUSED, GError **error)
{
    g_autofree char *path = vr_cli_path("status", NULL);
    g_autoptr(JsonNode) answer = NULL;
    JsonObject *status = NULL;

    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (!answer)
        return TRUE;
    status = vr_cli_json_object(answer);
    vr_cli_take_pair(cli->out, "Name", vr_cli_json_text(status, "name"));
    vr_cli_take_pair(cli->out, "Version", vr_cli_json_text(status, "version"));
    vr_cli_take_pair(cli->out, "Address", vr_cli_json_text(status, "address"));
    vr_cli_take_pair(cli->out, "Fingerprint", vr_cli_json_text(status, "fingerprint"));
    vr_cli_take_pair(cli->out, "Hypervisor", libvirt_text(status));
    vr_cli_take_pair(cli->out, "Fence", vr_cli_json_text(status, "fence"));
    vr_cli_take_pair(cli->out, "Protections", vr_cli_json_text(status, "protections"));
    vr_cli_take_pair(cli->out, "Running jobs", vr_cli_json_text(status, "jobs_running"));
    vr_cli_take_pair(cli->out, "Uptime", vr_cli_json_interval(status, "uptime_seconds"));
    print_notices(cli, status);
    return TRUE;
}
