/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: what a failed cycle means for the next one (design.md section 6). Times are
 * microseconds of a monotonic clock; the struct is plain data, {0} is "no failure". */

#define VR_RETRY_UNSURE_TRIES 5 /* of what nobody knows the cause of */

typedef struct {
    guint failures; /* in a row */
    guint unsure;   /* the last so many of them for causes that nobody knows */
    gboolean blocked;
    gint64 due_us; /* when failures > 0 and not blocked */
} VrRetry;

/** Delay behind the @failures-th failure in a row (from 1): 1, 2, 4, 8, 10 minutes, then 30; plus
 * up to 10 % by @random (0 to G_MAXUINT32, uniform). */
gint64 vr_retry_delay_us(guint failures, guint32 random);

/** What nobody knows the cause of is blocked when it was so for the fifth time in a row. After
 * "scratch-full" the delays are 5 s longer each time, up to a minute. */
void vr_retry_failed(VrRetry *self, const GError *error, gint64 now_us, guint32 random);

/** A cycle succeeded. */
void vr_retry_reset(VrRetry *self);

/** The cause is seen to be gone, or an operator acted: due now. The count stays until a success, so
 *  that a cause that flaps does not bring back the short delays. */
void vr_retry_cause_gone(VrRetry *self, gint64 now_us);

/** For VrScheduleInput.retry_at_us. */
gint64 vr_retry_due(const VrRetry *self);

G_END_DECLS
