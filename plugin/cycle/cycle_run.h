/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/cycle/cycle.h"
#include "plugin/cycle/cycle_plan.h"
#include "storage/state/state_protection.h"

G_BEGIN_DECLS

/** SECTION: what the files of the cycle engine share: the manifests of a protection, and recording
 * a new base. */

/** One VrManifest a disk, in the order of @disks. (element-type VrManifest) (transfer full) */
GPtrArray *vr_cycle_manifests_open(VrApp *app, const char *uuid, GPtrArray *disks /* VrPlanDisk */,
                                   GError **error);

/** Opens by the identity text of VrProtection.disks. */
GPtrArray *vr_cycle_manifests_open_base(VrApp *app, const VrProtection *row, GError **error);

gboolean vr_cycle_manifests_apply(GPtrArray *manifests, GError **error);
gboolean vr_cycle_manifests_discard(GPtrArray *manifests, GError **error);

/**
 * vr_cycle_accept_rp:
 *
 * @rp, as the target told it, is what @commit asked for on top of the base in @row; its instant and
 * consistency are ours from then on: a target whose clock is behind stores an earlier instant.
 * Errors: INVALID "bad-message" (the RP of another cycle, or no number above the base: nothing is
 * known of ours), CORRUPT "root-differs".
 */
gboolean vr_cycle_accept_rp(const VrProtection *row, const VrCycleCommit *commit,
                            VrRecoveryPoint *rp, GError **error);

/** The base in @row, and nowhere else. */
void vr_cycle_set_base(VrProtection *row, const VrCycleJournal *journal, const VrRecoveryPoint *rp);

/**
 * vr_cycle_record:
 *
 * S11, first half: the new base in one transaction; the journal row says that the overlays belong
 * to it. @row is updated too. What the target committed (@rp) decides, @journal says which
 * checkpoint and disks belong to it.
 */
gboolean vr_cycle_record(VrApp *app, VrProtection *row, const VrCycleJournal *journal,
                         const VrRecoveryPoint *rp, GError **error);

/** S11, second half, repeatable while the journal row is there: overlays into the heads. */
gboolean vr_cycle_finish(VrApp *app, VrProtection *row, GError **error);

G_END_DECLS
