/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/** A planned failover asked for on the target: the source does it; @job shows its steps and takes
 * over its result. */
gboolean vr_failover_follow(VrJob *job, VrApp *app, const VrProtection *row, VrPeerClient *peer,
                            GError **error);

G_END_DECLS
