/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/target_networks.h"
#include "qmp/domain/domain_model.h"

G_BEGIN_DECLS

/** SECTION: a peer's domain on this host: its capabilities asked, its networks mapped, its XML
 * written anew. */

typedef struct {
    GHashTable *disk_paths;  /* target -> path of our qcow2 image */
    GHashTable *attachments; /* "nvram", "kernel", ... -> path of our copy */
    const char *role;        /* "replica", "test" */
    const char *generation;  /* id */
    const char *name, *uuid; /* of the domain that is made: the protection's, never the message's */
} VrTargetFiles;

/** Everything that would keep the domain from running here, as findings. FALSE only if the host
 * cannot be asked. */
gboolean vr_target_check_domain(VrApp *app, const VrDomainModel *model,
                                const VrTargetNetworks *networks, VrFindings *findings,
                                GError **error);

/** The same without what can change at any moment: networks and free memory. */
gboolean vr_target_check_host(VrApp *app, const VrDomainModel *model, VrFindings *findings,
                              GError **error);

/** Whether a domain of this host has that UUID or that name: findings
 * "domain-exists-uuid", "domain-exists-name". FALSE only if libvirt cannot be asked. */
gboolean vr_target_check_taken(VrApp *app, const char *uuid, const char *name, VrFindings *findings,
                               GError **error);

/** XML to define here, attached to offered networks only; without @networks (nullable) to none.
 * (transfer full) Errors: REFUSED "network-not-offered". */
char *vr_target_domain_xml(VrApp *app, const VrDomainModel *model, const VrTargetNetworks *networks,
                           const VrTargetFiles *files, VrFindings *findings, GError **error);

G_END_DECLS
