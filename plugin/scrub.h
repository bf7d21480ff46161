/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/**
 * SECTION: looks after the replicas that this host stores, in two threads of its own: one looks at
 * the start and every look-interval at each layer's file and header; the other reads, within
 * verify-rate and scrub-window, the content of layers that were not read within their policy's
 * verify-interval, one at a time. Takes no guard, and lets go of a replica that is to be closed.
 * What keeps it from its work is logged when it changes.
 */
typedef struct _VrScrub VrScrub;

/** @app: borrowed, outlives it. */
VrScrub *vr_scrub_start(VrApp *app);
/** NULL is fine. Ends a reading under way. */
void vr_scrub_stop(VrScrub *self);

G_END_DECLS
