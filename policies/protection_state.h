/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: the states of a protection and its legal transitions (design.md section 5). Pure; the
 *  only way to another state is vr_protection_next(). */

typedef enum {
    VR_PROTECTION_ENABLING,      /* checked and created on both sides */
    VR_PROTECTION_INITIAL,       /* initial replication: no RP yet */
    VR_PROTECTION_PROTECTED,     /* delta cycles run */
    VR_PROTECTION_RESYNC_NEEDED, /* tracking lost; old RPs stand */
    VR_PROTECTION_RESYNC,        /* everything is compared */
    VR_PROTECTION_PAUSED,        /* by an operator */
    VR_PROTECTION_FAILING_OVER,  /* a failover job runs; no scheduled cycles */
    VR_PROTECTION_FAILED_OVER,   /* the target owns the workload */
    VR_PROTECTION_COMMITTED,     /* failover accepted */
    VR_PROTECTION_REVERSING,     /* the old source becomes the target */
    VR_PROTECTION_DISABLING,     /* unprotect runs, or must be repeated */
    VR_PROTECTION_STATE_LAST
} VrProtectionState;

typedef enum {
    VR_EVENT_CREATED,       /* enabling is complete */
    VR_EVENT_INITIAL_DONE,  /* first RP committed */
    VR_EVENT_TRACKING_LOST, /* no usable bitmap: compare everything */
    VR_EVENT_RESYNC_STARTED,
    VR_EVENT_RESYNC_DONE,    /* its RP is committed */
    VR_EVENT_RESYNC_STOPPED, /* failed or cancelled */
    VR_EVENT_PAUSED,
    VR_EVENT_RESUMED,         /* there is an RP */
    VR_EVENT_RESUMED_INITIAL, /* there is none yet */
    VR_EVENT_FAILOVER_STARTED,
    VR_EVENT_FAILOVER_UNDONE, /* before the generation advanced: all as before */
    VR_EVENT_FAILOVER_DONE,   /* the generation has advanced */
    VR_EVENT_UNPROTECT_STARTED,
    VR_EVENT_FOUND_BEHIND, /* the other host was found to be the owner, with proof of our own */
    VR_EVENT_ABANDONED,    /* an operator ends it, whatever the peer may say */
    VR_EVENT_LAST
} VrProtectionEvent;

/** What may be asked for; each state admits some. Queries are always admitted. */
typedef enum {
    VR_OPERATION_CYCLE, /* a scheduled cycle: the kind follows from the state */
    VR_OPERATION_SYNC,
    VR_OPERATION_PAUSE,
    VR_OPERATION_RESUME,
    VR_OPERATION_CHANGE, /* of its policy, of the disks that are left out */
    VR_OPERATION_PLANNED_FAILOVER,
    VR_OPERATION_UNPROTECT,
    VR_OPERATION_LAST
} VrOperation;

/** "resync-needed" ...; static. For the wire and the database. */
const char *vr_protection_state_name(VrProtectionState state);
gboolean vr_protection_state_from_name(const char *name, VrProtectionState *ret_state);

const char *vr_protection_event_name(VrProtectionEvent event);
const char *vr_operation_name(VrOperation operation);

/** Errors: REFUSED, naming the state and the events it knows. */
gboolean vr_protection_next(VrProtectionState state, VrProtectionEvent event,
                            VrProtectionState *ret_state, GError **error);

/** Errors: REFUSED, naming the state and the operations it admits. */
gboolean vr_protection_admits(VrProtectionState state, VrOperation operation, GError **error);

G_END_DECLS
