/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/**
 * SECTION: whether what made cycles fail is over: then the next one does not wait for its retry.
 *
 * Peers whose domains failed for something of theirs (away, database lost or older than its store)
 * are asked again and again, each in a thread of its own, so that one that hangs holds up its own
 * domains only.
 */

typedef struct _VrProbe VrProbe;

/** @app: borrowed until vr_probe_stop(). */
VrProbe *vr_probe_start(VrApp *app);
/** NULL is fine. */
void vr_probe_stop(VrProbe *self);

G_END_DECLS
