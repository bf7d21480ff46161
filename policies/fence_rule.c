/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/fence_rule.h"

#include <string.h>

const char *
vr_fence_state_name(VrFenceState state)
{
    switch (state) {
    case VR_FENCE_UNKNOWN:
        return "unknown";
    case VR_FENCE_ACTIVE:
        return "active";
    case VR_FENCE_INACTIVE:
        return "inactive";
    }
    return "?";
}

gboolean
vr_fence_wanted(const VrFenceFacts *facts, VrFenceRecordState *ret_record)
{
    if (facts->target) {
        *ret_record = VR_FENCE_RECORD_REPLICA;
        return !facts->owner;
    }
    *ret_record = VR_FENCE_RECORD_FAILED_OVER;
    return !facts->owner || facts->state == VR_PROTECTION_FAILING_OVER ||
           facts->state == VR_PROTECTION_FAILED_OVER;
}

VrFenceStep
vr_fence_step(const VrFenceFacts *facts, const VrGeneration *mine, gboolean stands,
              const VrFenceRecord *found)
{
    VrFenceRecordState wanted;

    if (!vr_fence_wanted(facts, &wanted))
        return stands ? VR_FENCE_CONTRADICTS : VR_FENCE_RIGHT;
    if (!found)
        return VR_FENCE_WRITE;
    if (!vr_generation_knows(mine, found->generation))
        return VR_FENCE_RIGHT;
    return found->state == wanted && strcmp(found->generation, vr_generation_id(mine)) == 0
               ? VR_FENCE_RIGHT
               : VR_FENCE_WRITE;
}
