/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/slots.h"

static gboolean
fits(const VrSlotUse *use, guint max, VrSlotClass class)
{
    return use->used < max && (class != VR_SLOT_LONG || use->used_long < MAX(max - 1, 1));
}

gboolean
vr_slots_admit(const VrSlots *self, const VrSlotWaiter *waiter)
{
    gboolean shared = waiter->rivals && self->max >= VR_SLOT_SHARED;

    return fits(&self->all, self->max, waiter->class) &&
           fits(&waiter->peer, shared ? self->max - 1 : self->max, waiter->class);
}

/* Lower goes first. */
static guint
rank(const VrSlotWaiter *waiter, gint64 now_us)
{
    switch (waiter->class) {
    case VR_SLOT_FAILOVER:
        return 0;
    case VR_SLOT_SYNC:
        return 1;
    case VR_SLOT_SCHEDULED:
        return 3;
    case VR_SLOT_LONG:
        return now_us - waiter->since_us >= VR_SLOT_PATIENCE_US ? 2 : 4;
    }
    return 4;
}

gboolean
vr_slots_pick(const VrSlots *self, const VrSlotWaiter *waiters, guint n_waiters, gint64 now_us,
              guint *ret_index)
{
    const VrSlotWaiter *best = NULL;

    for (guint i = 0; i < n_waiters; i++) {
        const VrSlotWaiter *waiter = &waiters[i];
        gint order;

        if (!vr_slots_admit(self, waiter))
            continue;
        order = best ? (gint) rank(waiter, now_us) - (gint) rank(best, now_us) : -1;
        if (order < 0 || (order == 0 && waiter->since_us < best->since_us))
            best = waiter;
    }
    if (best == NULL)
        return FALSE;
    *ret_index = (guint) (best - waiters);
    return TRUE;
}
