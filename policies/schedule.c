/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/schedule.h"

/* Never two starts of one protection closer than this, however late it is. */
#define SPACING_US ((gint64) G_USEC_PER_SEC)

#define WEIGHT_MAX_US (60 * (gint64) G_USEC_PER_SEC)

/* A cycle may take this much longer than the last one and still hold the RPO target. */
#define SLACK 1.5

static gint64
due_by_rpo(const VrScheduleInput *input)
{
    gint64 lead = (gint64) ((double) input->last_duration_us * SLACK);
    gint64 due = input->last_point_us + input->rpo_target_us - lead;

    return MAX(due, input->last_start_us + SPACING_US);
}

gint64
vr_schedule_next_due(const VrScheduleInput *input, gint64 now_us)
{
    gint64 due;

    if (input->running)
        return VR_SCHEDULE_NEVER;
    if (input->paused)
        return VR_SCHEDULE_NEVER;
    if (input->retry_at_us != VR_SCHEDULE_UNKNOWN)
        return input->retry_at_us;
    if (input->last_start_us == VR_SCHEDULE_UNKNOWN)
        return MIN(input->known_us, now_us);
    due = input->last_start_us + input->interval_us;
    if (input->last_point_us != VR_SCHEDULE_UNKNOWN)
        due = MIN(due, due_by_rpo(input));
    return due;
}

gboolean
vr_schedule_pick(const VrScheduleInput *inputs, guint n_inputs, gint64 now_us, guint *ret_index,
                 gint64 *ret_wake_us)
{
    gint64 wake = VR_SCHEDULE_NEVER;
    double best_urgency = -1;
    guint best = 0;

    for (guint i = 0; i < n_inputs; i++) {
        gint64 due = vr_schedule_next_due(&inputs[i], now_us);
        gint64 weight = CLAMP(inputs[i].interval_us, SPACING_US, WEIGHT_MAX_US);
        double urgency = (double) (now_us - due) / (double) weight;

        wake = MIN(wake, due);
        if (due <= now_us && urgency > best_urgency) {
            best = i;
            best_urgency = urgency;
        }
    }
    if (best_urgency < 0) {
        if (ret_wake_us)
            *ret_wake_us = wake;
        return FALSE;
    }
    if (ret_index)
        *ret_index = best;
    return TRUE;
}
