/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/**
 * vr_protection_push:
 *
 * SECTION: what the target must know of a protection: name, policy, network map, excluded disks,
 * generation. Sent when it differs from what was sent last by this process; creates the protection
 * there. Blocks.
 *
 * @xml: the domain's definition, for its check there.
 * Errors: those of the target's check and of the connection.
 */
gboolean vr_protection_push(VrApp *app, const VrProtection *row, const char *xml,
                            GCancellable *cancel, GError **error);

/** The next push is not skipped. */
void vr_protection_push_forget(const char *uuid);

/** The map of this host's networks to those of @peer: [{"source","target","test"}]. (transfer full)
 */
JsonArray *vr_netmap_json(VrApp *app, const char *peer, GError **error);

G_END_DECLS
