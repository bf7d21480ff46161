/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/target_domain.h"

#include <string.h>

#include "qmp/domain/domain_ops.h"
#include "qmp/domain/domain_xml.h"
#include "qmp/domain/host_caps.h"

#define CONSOLE_LOG_DIR "/var/log/libvirt/qemu"

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

gboolean
vr_target_check_domain(VrApp *app, const VrDomainModel *model, const VrTargetNetworks *networks,
                       VrFindings *findings, GError **error)
{
    g_autoptr(VrHostCaps) caps = host_caps(app, model, error);
    guint64 memory = 0, free_memory = 0;

    if (caps == NULL || !vr_dom_host_memory(app->conn, &memory, error) ||
        !vr_dom_host_free_memory(app->conn, &free_memory, error))
        return FALSE;
    vr_host_caps_check(caps, model, memory, free_memory, findings);
    return vr_target_networks_check(networks, app, model, findings, error);
}

gboolean
vr_target_check_host(VrApp *app, const VrDomainModel *model, VrFindings *findings, GError **error)
{
    g_autoptr(VrHostCaps) caps = host_caps(app, model, error);
    guint64 memory = 0;

    if (caps == NULL || !vr_dom_host_memory(app->conn, &memory, error))
        return FALSE;
    vr_host_caps_check(caps, model, memory, 0, findings);
    return TRUE;
}

static const char *
path_of(const VrTargetFiles *files, VrAttachmentKind kind)
{
    return g_hash_table_lookup(files->attachments, vr_attachment_kind_name(kind));
}

gboolean
vr_target_check_taken(VrApp *app, const char *uuid, const char *name, VrFindings *findings,
                      GError **error)
{
    g_autoptr(GPtrArray) domains = vr_dom_list(app->conn, error);

    for (guint i = 0; domains != NULL && i < domains->len; i++) {
        const VrDomInfo *info = g_ptr_array_index(domains, i);

        if (strcmp(info->uuid, uuid) == 0)
            vr_findings_add(findings, VR_FINDING_ERROR, "domain-exists-uuid",
                            "Undefine it there; the replica has the same UUID.",
                            "host '%s' already has a domain '%s' with UUID %s", app->config->name,
                            info->name, info->uuid);
        else if (strcmp(info->name, name) == 0)
            vr_findings_add(findings, VR_FINDING_ERROR, "domain-exists-name",
                            "Rename one of them: virsh domrename.",
                            "host '%s' already has another domain named '%s'", app->config->name,
                            info->name);
    }
    return domains != NULL;
}

char *
vr_target_domain_xml(VrApp *app, const VrDomainModel *model, const VrTargetNetworks *networks,
                     const VrTargetFiles *files, VrFindings *findings, GError **error)
{
    GHashTable *table = networks ? vr_target_networks_table(networks, model, error) : NULL;
    g_autoptr(VrHostCaps) caps =
        table != NULL || networks == NULL ? host_caps(app, model, error) : NULL;
    VrDomainTarget target = {
        .caps = caps,
        .disk_paths = files->disk_paths,
        .networks = table,
        .nvram_path = path_of(files, VR_ATTACHMENT_NVRAM),
        .kernel_path = path_of(files, VR_ATTACHMENT_KERNEL),
        .initrd_path = path_of(files, VR_ATTACHMENT_INITRD),
        .dtb_path = path_of(files, VR_ATTACHMENT_DTB),
        .console_log_dir = CONSOLE_LOG_DIR,
        .libvirt_version = vr_conn_libvirt_version(app->conn),
        .role = files->role,
        .generation = files->generation,
        .name = files->name,
        .uuid = files->uuid,
    };

    return caps ? vr_domain_xml_for_target(model, &target, findings, error) : NULL;
}
