/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "qmp/domain/domain_model.h"

G_BEGIN_DECLS

/**
 * vr_attachments_send:
 *
 * SECTION: files beside the disks (NVRAM, direct-boot kernel, initrd, dtb): read on the source,
 * sent unless the target has that content. Digests are remembered by device, inode, size and time
 * of change, so an unchanged file is not read again.
 *
 * @base: (nullable): the cycle that made the target's newest RP: what went along with it is there
 * @cycle: the open one. Returns what belongs to the RP: (element-type VrAttachment) (transfer
 * full). Errors: NOT_FOUND "attachment-missing" naming the file; INVALID "attachment-too-large";
 * TRANSIENT "attachment-changed"; those of the peer.
 */
GPtrArray *vr_attachments_send(VrPeerClient *peer, const char *uuid, const char *base,
                               const char *cycle, const VrDomainModel *model, GCancellable *cancel,
                               GError **error);

/** A cycle failed: what was sent may be gone there; ask again the next time. */
void vr_attachments_forget(void);

G_END_DECLS
