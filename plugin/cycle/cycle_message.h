/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/cycle/cycle_plan.h"
#include "storage/wire/cycle.h"
#include "storage/state/state_protection.h"

G_BEGIN_DECLS

/** SECTION: BEGIN and COMMIT of a cycle, made from its plan. No I/O. */

/** Errors: CORRUPT if the row's generation cannot be read. (transfer full) */
VrCycleBegin *vr_cycle_begin_message(const char *cycle, const VrCyclePlan *plan,
                                     const VrProtection *row, GError **error);

/**
 * vr_cycle_commit_message:
 * @manifests: (element-type VrManifest): in the order of the plan's disks; the root is theirs
 * @attachments: (element-type VrAttachment) (transfer full)
 */
VrCycleCommit *vr_cycle_commit_message(const char *cycle, const VrCyclePlan *plan,
                                       GPtrArray *manifests, GPtrArray *attachments, gint64 time_us,
                                       VrConsistency consistency);

G_END_DECLS
