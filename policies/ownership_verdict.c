/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/ownership_verdict.h"

gboolean
vr_ownership_gave_up(gboolean target, VrProtectionState state, const VrFenceRecord *record,
                     const VrGeneration *theirs)
{
    if (target)
        return FALSE;
    if (state == VR_PROTECTION_FAILED_OVER || state == VR_PROTECTION_COMMITTED)
        return TRUE;
    return record && record->state == VR_FENCE_RECORD_FAILED_OVER &&
           vr_generation_knows(theirs, record->generation);
}

/* Both have the same generation: only a domain that runs on the wrong side is to be seen. */
static VrOwnershipVerdict
judge_same(const VrOwnershipFacts *facts)
{
    if (facts->mine_here)
        return facts->active_there ? VR_OWNERSHIP_DISPUTED : VR_OWNERSHIP_AGREED;
    if (!facts->active_here)
        return VR_OWNERSHIP_AGREED;
    return facts->gave_up && facts->theirs_there && facts->runs_there ? VR_OWNERSHIP_STALE
                                                                      : VR_OWNERSHIP_DISPUTED;
}

VrOwnershipVerdict
vr_ownership_judge(const VrOwnershipFacts *facts)
{
    /* While it moves it runs on one of them at most: to say so hides no second one. */
    if (facts->moving)
        return facts->active_here && facts->active_there ? VR_OWNERSHIP_DISPUTED
                                                         : VR_OWNERSHIP_MOVING;
    switch (facts->relation) {
    case VR_GENERATION_SAME:
        return judge_same(facts);
    case VR_GENERATION_BEHIND:
        if (facts->gave_up && facts->theirs_there)
            return VR_OWNERSHIP_LEARN;
        /* fall through */
    case VR_GENERATION_AHEAD:
        /* out of step, but of one mind, and it runs nowhere else */
        if (facts->mine_here != facts->theirs_there &&
            !(facts->mine_here ? facts->active_there : facts->active_here))
            return VR_OWNERSHIP_AGREED;
        break;
    case VR_GENERATION_SPLIT_BRAIN:
    case VR_GENERATION_UNRELATED:
    case VR_GENERATION_RELATION_LAST:
        break;
    }
    return VR_OWNERSHIP_DISPUTED;
}

static const char *
runs(gboolean active)
{
    return active ? "it runs" : "it does not run";
}

/* What the two generations have to do with each other, in words. */
static const char *
relation_text(VrGenerationRelation relation)
{
    switch (relation) {
    case VR_GENERATION_SAME:
        return "both name the same owner";
    case VR_GENERATION_BEHIND:
        return "the other host names a newer generation that follows the one here";
    case VR_GENERATION_AHEAD:
        return "the other host names an older generation than this one";
    case VR_GENERATION_SPLIT_BRAIN:
        return "both went on from a common generation on their own";
    case VR_GENERATION_UNRELATED:
    case VR_GENERATION_RELATION_LAST:
        break;
    }
    return "their generations have nothing in common";
}

void
vr_ownership_explain(const VrOwnershipFacts *facts, VrOwnershipVerdict verdict, const char *domain,
                     const char *host, const char *peer, gboolean suspended, char **ret_message,
                     char **ret_action)
{
    if (verdict == VR_OWNERSHIP_LEARN || verdict == VR_OWNERSHIP_STALE) {
        *ret_message = g_strdup_printf(
            "domain '%s' was given up by host '%s' and is owned by '%s', but there is a running "
            "one on '%s' as well%s",
            domain, host, peer, host, suspended ? "; that one was suspended" : "");
        *ret_action = g_strdup_printf("Save from it what counts, then run on '%s': virsh destroy "
                                      "%s",
                                      host, domain);
        return;
    }
    *ret_message = g_strdup_printf(
        "domain '%s' has two owners: '%s' takes '%s' for the owner (%s here), '%s' takes '%s' for "
        "it (%s there); %s",
        domain, host, facts->mine_here ? host : peer, runs(facts->active_here), peer,
        facts->theirs_there ? peer : host, runs(facts->active_there),
        relation_text(facts->relation));
    *ret_action = g_strdup_printf(
        "Find out on which of the two hosts the data counts; on the other one run 'virsh destroy "
        "%s' and leave it off. Nothing is stopped and nothing is replicated until then.",
        domain);
}
