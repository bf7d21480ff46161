/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/** SECTION: a protection as the API shows it: keys of design.md section 8 (`list`, `info`), health
 * included. Blocks. */

/** (transfer full) */
JsonNode *vr_protection_view(VrApp *app, const VrProtection *row);

/** RPs as `rp-list` shows them, oldest first; of a source the target is asked. (transfer full) */
JsonNode *vr_recovery_points_view(VrApp *app, const VrProtection *row, GCancellable *cancel,
                                  GError **error);

G_END_DECLS
