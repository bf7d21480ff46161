/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: when the next cycle of a protection is due. All times are microseconds of one monotonic
 *  clock, so a changed wall clock neither delays nor doubles a cycle. */

#define VR_SCHEDULE_NEVER G_MAXINT64
#define VR_SCHEDULE_UNKNOWN ((gint64) -1)

typedef struct {
    gint64 interval_us;
    gint64 rpo_target_us;
    gint64 known_us;         /* since when it is to be replicated */
    gint64 last_start_us;    /* of the last attempt; UNKNOWN: none since then */
    gint64 last_point_us;    /* the instant the newest RP shows; UNKNOWN */
    gint64 last_duration_us; /* from that instant to its commit; 0 unknown */
    gint64 retry_at_us;      /* vr_retry_due(): NEVER while blocked; UNKNOWN without a failure */
    gboolean paused;
    gboolean running; /* a mutating job holds the protection */
} VrScheduleInput;

/**
 * vr_schedule_next_due:
 *
 * The start of the last attempt plus the interval, or earlier where otherwise the RPO target would
 * pass before the next commit; while failing, the retry time. May lie in the past: overdue. NEVER
 * while paused, running or blocked. One that was never tried is due since it is known, so that it
 * gets its turn beside others that are overdue.
 */
gint64 vr_schedule_next_due(const VrScheduleInput *input, gint64 now_us);

/**
 * vr_schedule_pick:
 *
 * Among those that are due, the one most overdue relative to its interval, but no interval counts
 * for more than a minute, so that a long one is not starved by short ones on a busy host. FALSE if
 * none is due; *ret_wake_us is then when the first will be (or NEVER). Either output may be NULL.
 */
gboolean vr_schedule_pick(const VrScheduleInput *inputs, guint n_inputs, gint64 now_us,
                          guint *ret_index, gint64 *ret_wake_us);

G_END_DECLS
