/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: the steps of a cycle (design.md section 4), of failover and of merge, one enum.
 *
 * Each is a fault point: vr_fault_point(step) is called when the step has done its work, so "kill
 * at T5" means after the rename and before T6. Tests loop over `virt-replicad --list-faults`.
 */
typedef enum {
    VR_STEP_S1,  /* target asked for its head, cycle planned */
    VR_STEP_S2,  /* scratch reserved, names journaled */
    VR_STEP_S3,  /* guest file systems frozen (only when asked for) */
    VR_STEP_S4,  /* backup began, checkpoint created */
    VR_STEP_S5,  /* thawed */
    VR_STEP_S6,  /* NBD connected, block status read */
    VR_STEP_S7,  /* data read, digested, sent (also passed once after the first body) */
    VR_STEP_S8,  /* scratch synced, every NBD handle closed and joined */
    VR_STEP_S9,  /* backup job ended and gone */
    VR_STEP_S10, /* COMMIT answered by the target */
    VR_STEP_S11, /* base and manifest recorded durably */
    VR_STEP_S12, /* old checkpoint deleted */
    VR_STEP_S13, /* scratch and socket removed */
    VR_STEP_T1,  /* BEGIN accepted, incoming created */
    VR_STEP_T2,  /* a body of chunks stored */
    VR_STEP_T3,  /* COMMIT asked, ranges and root checked */
    VR_STEP_T4,  /* layer sealed and synced */
    VR_STEP_T5,  /* renamed into place, directories synced */
    VR_STEP_T6,  /* transaction committed */
    VR_STEP_T7,  /* answer about to be sent */
    VR_STEP_T8,  /* retention and merge done */
    VR_STEP_M1,  /* merge: the lower RP unlisted durably */
    VR_STEP_M2,  /* merge: the upper layer's data are in the lower one, too */
    VR_STEP_M3,  /* merge: the lower layer has the upper one's name and place */
    VR_STEP_M4,  /* merge: the lower RP's directory and row deleted */
    VR_STEP_F1,  /* planned failover: source shut down and fenced */
    VR_STEP_F2,  /* final cycle committed, roots equal */
    VR_STEP_F3,  /* fence written again; the next generation is about to be made */
    VR_STEP_B1,  /* boot: overlays, attachments and definition made on the target */
    VR_STEP_B2,  /* boot: started paused, the guest has not executed an instruction */
    VR_STEP_F4,  /* generation advanced on the target: the ownership commit point */
    VR_STEP_F5,  /* guest let go, seen running: it was started paused before F4 */
    VR_STEP_F6,  /* the source has recorded its new owner */
    VR_STEP_LAST
} VrStep;

/** "S1" ... ; static. */
const char *vr_step_name(VrStep step);

/** What the step has done, one line, for --list-faults; static. */
const char *vr_step_title(VrStep step);

/** FALSE if @name is no step. */
gboolean vr_step_from_name(const char *name, VrStep *ret_step);

G_END_DECLS
