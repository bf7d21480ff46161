/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "qmp/domain/domain_model.h"

G_BEGIN_DECLS

/**
 * SECTION: which network of this host each network of a peer's domain becomes.
 *
 * The maps of both hosts choose among the networks that this host offers to that peer (peer-set
 * --networks), and among no others.
 */
#define VR_NETWORKS_SENT_MAX 500u

typedef struct _VrTargetNetworks VrTargetNetworks;

/** "networks" of a peer's message, nullable: at most VR_NETWORKS_SENT_MAX of {"source","target"},
 * texts. Borrowed. Errors: INVALID "bad-message". */
gboolean vr_target_networks_read(JsonObject *object, JsonArray **ret_sent, GError **error);

/** This host's own map for @peer (a fingerprint) before what the source sent (@sent, nullable:
 * [{"source","target"}], what is no name of a network is left out). (transfer full). NOT_FOUND
 * "no-such-peer".
 */
VrTargetNetworks *vr_target_networks(VrApp *app, const char *peer, JsonArray *sent, GError **error);
void vr_target_networks_free(VrTargetNetworks *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrTargetNetworks, vr_target_networks_free)

/** Findings for every interface of @model that could not be attached here: "network-not-mapped",
 * "network-not-offered" with the command that offers all it needs, "network-missing",
 * "network-inactive". FALSE only if libvirt cannot be asked. */
gboolean vr_target_networks_check(const VrTargetNetworks *self, VrApp *app,
                                  const VrDomainModel *model, VrFindings *findings, GError **error);

/** Source network -> network here, offered ones only; valid while @self lives. NULL with REFUSED
 * "network-not-offered" if an interface of @model is mapped to another one. */
GHashTable *vr_target_networks_table(const VrTargetNetworks *self, const VrDomainModel *model,
                                     GError **error);

G_END_DECLS
