/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/**
 * SECTION: whether what made cycles fail is over: then the next one does not wait for its retry.
 *
 * Every peer of a protection is asked every 3 s whether it is there (plugin/peer/peer_contact.h),
 * and, where cycles failed for something of it (database lost or older than its store, no room),
 * whether that is over; each in a thread of its own, so that one that hangs holds up its own
 * domains only. Space on this host, and another program's job in a domain, are looked at as well.
 */

typedef struct _VrProbe VrProbe;

/** @app: borrowed until vr_probe_stop(). */
VrProbe *vr_probe_start(VrApp *app);
/** NULL is fine. */
void vr_probe_stop(VrProbe *self);

G_END_DECLS
