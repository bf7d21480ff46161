/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/domain/domain_model.h"

G_BEGIN_DECLS

/**
 * vr_domain_check_protectable:
 * @model: of a domain of this host
 * @exclude: (nullable): NULL-terminated targets of disks that are not to be replicated
 * @qemu_version: as virConnectGetVersion() gives it: 7002022 for 7.2.22
 *
 * Whether this version can replicate the domain's disks, from the source's side; the model's own
 * findings are not repeated. Pure; any thread.
 *
 * Errors: "no-disks", "exclude-unknown", "disk-empty", "disk-not-qcow2", "disk-iothread",
 * "disk-read-only", "disk-shareable", "disk-lun", "disk-network", "disk-transient",
 * "disk-encrypted", "nvram-format". Warnings: "disk-excluded", "media-ejected",
 * "tpm-state-not-replicated".
 */
void vr_domain_check_protectable(const VrDomainModel *model, const char *const *exclude,
                                 gulong qemu_version, VrFindings *findings);

/** Hard disks that are not in @exclude, in the domain's order: VrDomainDisk, borrowed from @model.
 *  (transfer container) */
GPtrArray *vr_domain_replicated_disks(const VrDomainModel *model, const char *const *exclude);

G_END_DECLS
