/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/step.h"

static const struct {
    const char *name;
    const char *title;
} steps[VR_STEP_LAST] = {
    [VR_STEP_S1] = {"S1", "target asked for its head, cycle planned"},
    [VR_STEP_S2] = {"S2", "scratch reserved, names journaled"},
    [VR_STEP_S3] = {"S3", "guest file systems frozen (only when asked for)"},
    [VR_STEP_S4] = {"S4", "backup began, checkpoint created"},
    [VR_STEP_S5] = {"S5", "guest file systems thawed"},
    [VR_STEP_S6] = {"S6", "NBD connected, block status read"},
    [VR_STEP_S7] = {"S7", "data read, digested, sent (also once after the first body)"},
    [VR_STEP_S8] = {"S8", "scratch synced, every NBD handle closed and joined"},
    [VR_STEP_S9] = {"S9", "backup job ended and gone"},
    [VR_STEP_S10] = {"S10", "COMMIT answered by the target"},
    [VR_STEP_S11] = {"S11", "base and manifest recorded durably"},
    [VR_STEP_S12] = {"S12", "old checkpoint deleted"},
    [VR_STEP_S13] = {"S13", "scratch and socket removed"},
    [VR_STEP_T1] = {"T1", "BEGIN accepted, incoming created"},
    [VR_STEP_T2] = {"T2", "a body of chunks stored"},
    [VR_STEP_T3] = {"T3", "COMMIT asked, ranges and root checked"},
    [VR_STEP_T4] = {"T4", "layer sealed and synced"},
    [VR_STEP_T5] = {"T5", "layer renamed into place, directories synced"},
    [VR_STEP_T6] = {"T6", "recovery point committed in the state database"},
    [VR_STEP_T7] = {"T7", "answer about to be sent"},
    [VR_STEP_T8] = {"T8", "retention and merge done"},
    [VR_STEP_M1] = {"M1", "merge: the lower recovery point unlisted durably"},
    [VR_STEP_M2] = {"M2", "merge: the upper layer's data are in the lower one, too"},
    [VR_STEP_M3] = {"M3", "merge: the lower layer has the upper one's name and place"},
    [VR_STEP_M4] = {"M4", "merge: the lower recovery point's directory and row deleted"},
    [VR_STEP_F1] = {"F1", "planned failover: source shut down and fenced"},
    [VR_STEP_F2] = {"F2", "planned failover: final cycle committed, roots equal"},
    [VR_STEP_F3] = {"F3",
                    "planned failover: fence written again, the next generation about to be made"},
    [VR_STEP_B1] = {"B1", "boot: overlays, attachments and definition made on the target"},
    [VR_STEP_B2] = {"B2", "boot: the replica started, paused"},
    [VR_STEP_F4] = {"F4", "planned failover: generation advanced on the target"},
    [VR_STEP_F5] = {"F5", "planned failover: the replica's guest let go and seen running"},
    [VR_STEP_F6] = {"F6", "planned failover: the source has recorded its new owner"},
};

const char *
vr_step_name(VrStep step)
{
    g_return_val_if_fail(step < VR_STEP_LAST, "?");
    return steps[step].name;
}

const char *
vr_step_title(VrStep step)
{
    g_return_val_if_fail(step < VR_STEP_LAST, "?");
    return steps[step].title;
}

gboolean
vr_step_from_name(const char *name, VrStep *ret_step)
{
    for (guint i = 0; i < VR_STEP_LAST; i++) {
        if (g_strcmp0(steps[i].name, name) == 0) {
            *ret_step = (VrStep) i;
            return TRUE;
        }
    }
    return FALSE;
}
