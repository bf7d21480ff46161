/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/hour.h"

void
vr_hour_count(VrHour *self, gint64 now_us, gboolean failed)
{
    gint64 minute = now_us / G_TIME_SPAN_MINUTE;
    guint at = (guint) (minute % VR_HOUR_SLICES);

    if (self->slices[at].minute != minute) {
        self->slices[at].minute = minute;
        self->slices[at].ended = self->slices[at].failed = 0;
    }
    self->slices[at].ended++;
    self->slices[at].failed += failed ? 1 : 0;
}

void
vr_hour_sum(const VrHour *self, gint64 now_us, guint *ret_ended, guint *ret_failed)
{
    *ret_ended = *ret_failed = 0;
    for (guint i = 0; i < VR_HOUR_SLICES; i++) {
        if (now_us - self->slices[i].minute * G_TIME_SPAN_MINUTE >= G_TIME_SPAN_HOUR)
            continue;
        *ret_ended += self->slices[i].ended;
        *ret_failed += self->slices[i].failed;
    }
}
