/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/cycle/cycle.h"

G_BEGIN_DECLS

/** SECTION: cycles as the daemon runs them: engine, then what it means for schedule, health and
 * state. */

/** Waits for a slot, runs one cycle and records how it ended. The caller holds the guard. Between
 * the cycles of a failover the slot stays taken, up to the final one or to vr_exclusive_end(), so
 * that a guest that is off does not wait for another's transfer. Arguments as vr_cycle_run(). */
gboolean vr_replicate(VrApp *app, const char *uuid, const VrCycleWanted *wanted,
                      VrCopyProgress *progress, GCancellable *cancel, VrCycleDone *ret_done,
                      GError **error);

/** Whether scheduled cycles of it may run: this host is the source and the state admits them. */
gboolean vr_replicate_admitted(const VrProtection *row);

/** VrCycleFunc of the scheduler. One that is not to be replicated any more leaves the schedule. */
void vr_replicate_scheduled(gpointer app, const char *uuid, GCancellable *cancel);

/** Puts a source's protection under the scheduler, with the times of its policy. FALSE if that
 * cannot be read: new there, it is scheduled all the same, so that its cycles fail for all to see
 * and go on when the policy is mended. */
gboolean vr_replicate_schedule(VrApp *app, const VrProtection *row, GError **error);

G_END_DECLS
