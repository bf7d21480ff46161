/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "qmp/domain_model.h"

G_BEGIN_DECLS

/** Entries of a network map in a message. */
#define VR_NETWORKS_SENT_MAX 500u

/** SECTION: a peer's domain on this host: its capabilities asked, its networks mapped, its XML
 * written anew. */

typedef struct {
    GHashTable *disk_paths;  /* target -> path of our qcow2 image */
    GHashTable *attachments; /* "nvram", "kernel", ... -> path of our copy */
    const char *generation;  /* id */
} VrTargetFiles;

/** Source network -> network here: this host's own map for @peer before what the source sent
 * (@sent, nullable). (transfer full) */
GHashTable *vr_target_networks(VrApp *app, const char *peer, JsonArray *sent, GError **error);

/** Everything that would keep the domain from running here, as findings. FALSE only if the host
 * cannot be asked. */
gboolean vr_target_check_domain(VrApp *app, const VrDomainModel *model, GHashTable *networks,
                                VrFindings *findings, GError **error);

/** XML to define here. (transfer full) */
char *vr_target_domain_xml(VrApp *app, const VrDomainModel *model, GHashTable *networks,
                           const VrTargetFiles *files, VrFindings *findings, GError **error);

G_END_DECLS
