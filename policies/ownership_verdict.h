/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/fence_record.h"
#include "policies/generation.h"
#include "policies/protection_state.h"

G_BEGIN_DECLS

/**
 * SECTION: what this host makes of what the other host says about who owns a domain.
 *
 * A newer generation from the paired peer is not proof by itself: whoever has taken over the target
 * can invent one whose ancestors include ours, and production would be suspended by its word. So
 * nothing is recorded and nobody is suspended unless this host has evidence of its own that it gave
 * the domain up:
 *  - its row says that it was failed over (a planned failover ended here), or
 *  - its fence record says so, in the generation that the peer names or one the peer descends from.
 *    This record is written by this host alone, once it has shut the domain down for the other
 *    host, and survives a database that is lost or restored from before the failover.
 * That the database is old is no evidence: it may be as old as it should be.
 *
 * With evidence the word of both sides is the same, and the stale domain here is suspended (not
 * ended: what it holds is the operator's to look at). Without, both sides say `two-owners` and an
 * operator decides. While a failover is under way on either side there is nothing to judge: its job
 * decides, and the target is ahead for a moment.
 */

typedef struct {
    gboolean target;               /* role here */
    VrGenerationRelation relation; /* mine compared with the peer's */
    gboolean mine_here;            /* my generation names this host as owner */
    gboolean theirs_there;         /* the peer's names the peer */
    gboolean active_here;          /* there is a QEMU, suspended or not */
    gboolean active_there;         /* says the peer */
    gboolean runs_there;           /* and its processors run */
    gboolean moving;               /* either side is failing over */
    gboolean gave_up;              /* vr_ownership_gave_up() */
} VrOwnershipFacts;

typedef enum {
    VR_OWNERSHIP_AGREED,
    VR_OWNERSHIP_MOVING, /* judge later */
    VR_OWNERSHIP_LEARN,  /* the peer owns it and we know why: record that, suspend what runs here */
    VR_OWNERSHIP_STALE,  /* recorded already, but it runs here as well: suspend it */
    VR_OWNERSHIP_DISPUTED, /* say so on both sides and touch nothing */
} VrOwnershipVerdict;

/** Evidence of our own. @state: of the row here; @record: (nullable): the fence record here.
 * Replicas have never been given up by the host that holds them: FALSE for a target. */
gboolean vr_ownership_gave_up(gboolean target, VrProtectionState state, const VrFenceRecord *record,
                              const VrGeneration *theirs);

VrOwnershipVerdict vr_ownership_judge(const VrOwnershipFacts *facts);

/** For LEARN, STALE and DISPUTED: a sentence with all that is known of both sides, and what to do.
 * @suspended: the domain here was suspended by us. Both (transfer full). */
void vr_ownership_explain(const VrOwnershipFacts *facts, VrOwnershipVerdict verdict,
                          const char *domain, const char *host, const char *peer,
                          gboolean suspended, char **ret_message, char **ret_action);

G_END_DECLS
