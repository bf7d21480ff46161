/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/target_domain.h"

#include "policies/network_map.h"
#include "qmp/domain_ops.h"
#include "qmp/domain_xml.h"
#include "qmp/host_caps.h"
#include "storage/json_util.h"

#define CONSOLE_LOG_DIR "/var/log/libvirt/qemu"

GHashTable *
vr_target_networks(VrApp *app, const char *peer, JsonArray *sent, GError **error)
{
    g_autoptr(GPtrArray) own = vr_state_netmap_list(app->state, peer, error);
    GHashTable *map;

    if (own == NULL)
        return NULL;
    map = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (guint i = 0; sent != NULL && i < json_array_get_length(sent); i++) {
        JsonObject *entry = vr_json_object_at(sent, i);
        const char *source = vr_json_text_in(entry, "source", NULL);
        const char *target = vr_json_text_in(entry, "target", NULL);

        if (vr_network_name_valid(source) && vr_network_name_valid(target))
            g_hash_table_replace(map, g_strdup(source), g_strdup(target));
    }
    for (guint i = 0; i < own->len; i++) {
        const VrNetmapRow *row = g_ptr_array_index(own, i);

        g_hash_table_replace(map, g_strdup(row->source), g_strdup(row->target));
    }
    return map;
}

/* Capabilities as they apply to @model; without the domain part where libvirt does not know the
 * machine type. */
static VrHostCaps *
host_caps(VrApp *app, const VrDomainModel *model, GError **error)
{
    g_autofree char *host = vr_dom_capabilities(app->conn, error);
    g_autoptr(VrHostCaps) first = host ? vr_host_caps_parse(host, NULL, error) : NULL;
    g_autofree char *domain = NULL;

    if (first == NULL)
        return NULL;
    domain = vr_dom_domain_capabilities(app->conn, vr_host_caps_emulator(first, model->arch),
                                        model->arch, model->machine,
                                        vr_host_caps_virt_type(first, model), NULL);
    return vr_host_caps_parse(host, domain, error);
}

static gboolean
check_network(VrApp *app, const char *source, GHashTable *networks, VrFindings *findings,
              GError **error)
{
    const char *target = g_hash_table_lookup(networks, source);
    gboolean exists, active;

    if (target == NULL) {
        g_autofree char *action = g_strdup_printf(
            "On the source: virt-replica netmap-set %s '%s' NETWORK", app->config->name, source);

        vr_findings_add(findings, VR_FINDING_ERROR, "network-not-mapped", action,
                        "network '%s' of the domain is not mapped to a network of host '%s'",
                        source, app->config->name);
        return TRUE;
    }
    if (!vr_dom_network_exists(app->conn, target, &exists, &active, error))
        return FALSE;
    if (!exists)
        vr_findings_add(findings, VR_FINDING_ERROR, "network-missing",
                        "Define it there, or map to another network with netmap-set.",
                        "network '%s' is mapped to '%s', which host '%s' does not have", source,
                        target, app->config->name);
    else if (!active)
        vr_findings_add(findings, VR_FINDING_ERROR, "network-inactive",
                        "Start it there: virsh net-start.",
                        "network '%s' of host '%s' is not active", target, app->config->name);
    return TRUE;
}

gboolean
vr_target_check_domain(VrApp *app, const VrDomainModel *model, GHashTable *networks,
                       VrFindings *findings, GError **error)
{
    g_autoptr(VrHostCaps) caps = host_caps(app, model, error);
    guint64 free_memory = 0;

    if (caps == NULL || !vr_dom_host_free_memory(app->conn, &free_memory, error))
        return FALSE;
    vr_host_caps_check(caps, model, free_memory, findings);
    for (guint i = 0; i < model->interfaces->len; i++) {
        const VrDomainInterface *nic = g_ptr_array_index(model->interfaces, i);

        if (!check_network(app, nic->network, networks, findings, error))
            return FALSE;
    }
    return TRUE;
}

static const char *
path_of(const VrTargetFiles *files, VrAttachmentKind kind)
{
    return g_hash_table_lookup(files->attachments, vr_attachment_kind_name(kind));
}

char *
vr_target_domain_xml(VrApp *app, const VrDomainModel *model, GHashTable *networks,
                     const VrTargetFiles *files, VrFindings *findings, GError **error)
{
    g_autoptr(VrHostCaps) caps = host_caps(app, model, error);
    VrDomainTarget target = {
        .caps = caps,
        .disk_paths = files->disk_paths,
        .networks = networks,
        .nvram_path = path_of(files, VR_ATTACHMENT_NVRAM),
        .kernel_path = path_of(files, VR_ATTACHMENT_KERNEL),
        .initrd_path = path_of(files, VR_ATTACHMENT_INITRD),
        .dtb_path = path_of(files, VR_ATTACHMENT_DTB),
        .console_log_dir = CONSOLE_LOG_DIR,
        .libvirt_version = vr_conn_libvirt_version(app->conn),
        .role = "replica",
        .generation = files->generation,
    };

    return caps ? vr_domain_xml_for_target(model, &target, findings, error) : NULL;
}
