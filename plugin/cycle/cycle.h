/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "policies/slots.h"

G_BEGIN_DECLS

/**
 * SECTION: one cycle on the source, steps S1 to S13 of design.md section 4.
 *
 * Callers hold the protection's guard and run in a worker thread. What a crash leaves is in the
 * journal row; vr_cycle_recover() undoes or finishes it, and every cycle begins with that.
 */

typedef struct {
    VrSlotClass slot; /* how urgent; whole disks are LONG by themselves, but for a failover */
    gboolean final;   /* the last of a planned failover: the domain must be shut off */
    gboolean quiesce; /* ask the guest agent to freeze; without one the point is crash-consistent */
} VrCycleWanted;

typedef struct {
    guint64 number;
    gint64 point_us; /* monotonic: the instant it shows */
    VrConsistency consistency;
    char root[65];
    char not_frozen[256]; /* why it is not application-consistent though that was wanted; or "" */
    guint64 changed_bytes;
    gboolean domain_off; /* taken from a shut-off domain */
} VrCycleDone;

/**
 * vr_cycle_run:
 * @progress: zeroed counters for the caller to watch
 * @ret_done: (nullable)
 *
 * On failure the RPs, the base and its checkpoint are as before, and nothing of the attempt is left
 * on the guest's side; where that was not possible the journal stays and the next call begins with
 * it. Tracking that was lost is not an error: the cycle goes on as a comparison with what the
 * replica holds.
 */
gboolean vr_cycle_run(VrApp *app, const char *uuid, const VrCycleWanted *wanted,
                      VrCopyProgress *progress, GCancellable *cancel, VrCycleDone *ret_done,
                      GError **error);

/**
 * vr_cycle_recover:
 *
 * The guest is freed first (thaw, backup job, scratch), whether or not the target can be reached;
 * then, if a COMMIT may have got through, the target is asked. TRANSIENT if it cannot be: the
 * journal stays. Nothing to do is success.
 */
gboolean vr_cycle_recover(VrApp *app, const char *uuid, GCancellable *cancel, GError **error);

/** What the daemon of before may have left in the guest's domain: vr_cycle_recover(), then whatever
 * of ours no journal names. The caller holds the guard; no point of the domain is open. */
gboolean vr_cycle_clean(VrApp *app, const char *uuid, GCancellable *cancel, GError **error);

/** Ends readers of the images of @uuid because the domain wants to start. Any thread, does not
 * block. */
void vr_cycle_give_way(const char *uuid);

G_END_DECLS
