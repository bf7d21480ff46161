/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: which cycle may transfer next, when there are fewer slots than cycles (`max-transfers`).
 *
 * The cycles of a failover come first (somebody waits, perhaps with the guest off), then those that
 * an operator asked for, then scheduled ones, and transfers of whole disks last. The latter leave
 * one slot to the others, so that a long one never takes the interval from running deltas; with a
 * single slot it does by nature. One that has waited for VR_SLOT_PATIENCE_US goes before scheduled
 * ones, so that a host that is always busy still begins it.
 *
 * A peer that answers slowly, or not at all, holds what its cycles hold. So from VR_SLOT_SHARED
 * slots on, one peer's cycles leave one to those of the others, as soon as there are others; and
 * those of whole disks leave one of what their peer may have to its deltas. Pure; monotonic
 * microseconds.
 */

#define VR_SLOT_PATIENCE_US (10 * 60 * (gint64) G_USEC_PER_SEC)

#define VR_SLOT_SHARED 3u

typedef enum {
    VR_SLOT_SCHEDULED,
    VR_SLOT_SYNC,
    VR_SLOT_FAILOVER,
    VR_SLOT_LONG, /* initial replication, or whole disks are compared */
} VrSlotClass;

typedef struct {
    guint used;      /* of all classes */
    guint used_long; /* of these, LONG */
} VrSlotUse;

typedef struct {
    guint max; /* at least 1 */
    VrSlotUse all;
} VrSlots;

typedef struct {
    VrSlotClass class;
    gint64 since_us;
    VrSlotUse peer;  /* what cycles to the same peer have */
    gboolean rivals; /* this host replicates to other peers as well */
} VrSlotWaiter;

/** Whether it could begin now, if nobody else wanted to. */
gboolean vr_slots_admit(const VrSlots *self, const VrSlotWaiter *waiter);

/** The waiter that begins now; FALSE if none may. Of equals the one that waits longest. */
gboolean vr_slots_pick(const VrSlots *self, const VrSlotWaiter *waiters, guint n_waiters,
                       gint64 now_us, guint *ret_index);

G_END_DECLS
