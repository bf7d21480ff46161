/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/**
 * SECTION: who changes what a protection is (pause, failover, unprotect, ...) has it for himself:
 * out of the schedule and its guard held; afterwards its state alone decides whether it is
 * scheduled. One that stays scheduled keeps its retries and its history. Any thread but the
 * scheduler's own.
 */

/**
 * vr_exclusive_begin:
 * @holder, @wait_ms: as for vr_guard_take()
 *
 * A scheduled cycle under way is cancelled and awaited; what it sent stays at the target. On
 * failure the protection is scheduled as before. Errors: CONFLICT "busy", CANCELLED.
 */
gboolean vr_exclusive_begin(VrApp *app, const char *uuid, const char *holder, gint64 wait_ms,
                            GCancellable *cancel, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** In the schedule if this host is its source and the state admits cycles now, else out of it,
 * also one that is gone; then the guard is released. One whose row cannot be read is scheduled: its
 * cycles look again. */
void vr_exclusive_end(VrApp *app, const char *uuid);

G_END_DECLS
