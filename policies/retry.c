/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/retry.h"

#include <string.h>

#include "policies/error.h"
#include "policies/schedule.h"

#define MINUTE_US (60 * (gint64) G_USEC_PER_SEC)
#define SCRATCH_STEP_US (5 * (gint64) G_USEC_PER_SEC)

gint64
vr_retry_delay_us(guint failures, guint32 random)
{
    static const gint64 minutes[] = {1, 2, 4, 8, 10};
    guint index = MAX(failures, 1) - 1;
    gint64 delay = (index < G_N_ELEMENTS(minutes) ? minutes[index] : 30) * MINUTE_US;

    return delay + (gint64) ((double) delay * 0.1 * ((double) random / (double) G_MAXUINT32));
}

/* What was copied is on the target already, so that less is left; each minute more the guest writes
 * more that has to fit. */
static gint64
delay_us(const VrRetry *self, const GError *error, guint32 random)
{
    if (strcmp(vr_error_slug(error), "scratch-full") == 0)
        return MIN(self->failures * SCRATCH_STEP_US, MINUTE_US);
    return vr_retry_delay_us(self->failures, random);
}

void
vr_retry_failed(VrRetry *self, const GError *error, gint64 now_us, guint32 random)
{
    VrRetryClass class = vr_error_retry_class(error);

    if (class == VR_RETRY_IGNORED)
        return;
    if (self->failures < G_MAXUINT)
        self->failures++;
    self->unsure = class == VR_RETRY_UNSURE ? self->unsure + 1 : 0;
    self->blocked = class == VR_RETRY_BLOCKED || self->unsure >= VR_RETRY_UNSURE_TRIES;
    self->due_us = now_us + delay_us(self, error, random);
}

void
vr_retry_reset(VrRetry *self)
{
    *self = (VrRetry){.failures = 0};
}

void
vr_retry_cause_gone(VrRetry *self, gint64 now_us)
{
    self->blocked = FALSE;
    self->due_us = now_us;
}

gint64
vr_retry_due(const VrRetry *self)
{
    if (self->failures == 0)
        return VR_SCHEDULE_UNKNOWN;
    return self->blocked ? VR_SCHEDULE_NEVER : self->due_us;
}
