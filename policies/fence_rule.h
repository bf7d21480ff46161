/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/fence_record.h"
#include "policies/generation.h"
#include "policies/protection_state.h"

G_BEGIN_DECLS

/**
 * SECTION: which fence record must stand for a protection, and what becomes of the one that stands.
 *
 * The database says who owns the domain, the records only repeat it for the libvirt hook, so they
 * are made again from it. But a record that contradicts the database is never taken away for that
 * alone: the database may be the older of the two (restored, lost), and a record that stands costs
 * a start, one that is missing costs the data.
 */

/** What the proof that libvirt calls the hook has shown. */
typedef enum {
    VR_FENCE_UNKNOWN, /* not looked at since libvirt was connected, or it could not be seen */
    VR_FENCE_ACTIVE,
    VR_FENCE_INACTIVE,
} VrFenceState;

/** "unknown", "active", "inactive"; static. */
const char *vr_fence_state_name(VrFenceState state);

typedef struct {
    gboolean target; /* this host's role */
    gboolean owner;  /* the generation names this host */
    VrProtectionState state;
} VrFenceFacts;

/** FALSE: no record; the domain may start. Otherwise *ret_record is what its record must say. A
 * source fences itself from the beginning of a failover on: in between nobody but the failover
 * itself starts the domain. */
gboolean vr_fence_wanted(const VrFenceFacts *facts, VrFenceRecordState *ret_record);

typedef enum {
    VR_FENCE_RIGHT,       /* nothing to do */
    VR_FENCE_WRITE,       /* there is none, it cannot be read, or the database is the newer */
    VR_FENCE_CONTRADICTS, /* it stands, though the database says that the domain may start: keep it,
                             say so, and ask the other host */
} VrFenceStep;

/**
 * vr_fence_step:
 * @mine: what the database says
 * @stands: there is a record, whatever its state
 * @found: (nullable): what it says; NULL if there is none or it cannot be read
 *
 * A record with a generation that @mine does not know was written behind the database's back: it
 * is evidence and stays as it is as long as it fences at all.
 */
VrFenceStep vr_fence_step(const VrFenceFacts *facts, const VrGeneration *mine, gboolean stands,
                          const VrFenceRecord *found);

G_END_DECLS
