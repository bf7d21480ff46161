/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/ownership_verdict.h"

#define OLD "11111111111111111111111111111111"
#define NOW "22222222222222222222222222222222"
#define NEXT "33333333333333333333333333333333"
#define ALIEN "44444444444444444444444444444444"

#define BITS 8

static VrOwnershipFacts
facts_of(guint i)
{
    return (VrOwnershipFacts){
        .relation = (VrGenerationRelation) (i >> BITS),
        .target = i & 1,
        .mine_here = (i & 2) != 0,
        .theirs_there = (i & 4) != 0,
        .active_here = (i & 8) != 0,
        .active_there = (i & 16) != 0,
        .runs_there = (i & 32) != 0,
        .moving = (i & 64) != 0,
        .gave_up = (i & 128) != 0,
    };
}

/* One is behind the other, and both name the same owner all the same. */
static gboolean
of_one_mind(const VrOwnershipFacts *facts)
{
    return (facts->relation == VR_GENERATION_BEHIND || facts->relation == VR_GENERATION_AHEAD) &&
           facts->mine_here != facts->theirs_there;
}

/* Over everything that can be: no word of the peer alone records or suspends anything. */
static void
test_never_by_word_alone(void)
{
    for (guint i = 0; i < VR_GENERATION_RELATION_LAST << BITS; i++) {
        VrOwnershipFacts facts = facts_of(i);
        VrOwnershipVerdict verdict = vr_ownership_judge(&facts);

        if (verdict == VR_OWNERSHIP_LEARN || verdict == VR_OWNERSHIP_STALE) {
            g_assert_true(facts.gave_up && facts.theirs_there && !facts.moving);
            g_assert_true(facts.relation == VR_GENERATION_BEHIND ||
                          (facts.relation == VR_GENERATION_SAME && !facts.mine_here));
        }
        if (verdict == VR_OWNERSHIP_AGREED && facts.relation != VR_GENERATION_SAME)
            g_assert_true(of_one_mind(&facts) &&
                          !(facts.mine_here ? facts.active_there : facts.active_here));
        if (facts.moving && facts.active_here && facts.active_there)
            g_assert_cmpint(verdict, ==, VR_OWNERSHIP_DISPUTED);
        else
            g_assert_cmpint(facts.moving, ==, verdict == VR_OWNERSHIP_MOVING);
    }
}

/* What one side says must be seen by the other one, but for a domain that only one of them can see
 * to be suspended. */
static void
test_mirrored(void)
{
    static const VrGenerationRelation mirror[] = {
        [VR_GENERATION_SAME] = VR_GENERATION_SAME,
        [VR_GENERATION_BEHIND] = VR_GENERATION_AHEAD,
        [VR_GENERATION_AHEAD] = VR_GENERATION_BEHIND,
        [VR_GENERATION_SPLIT_BRAIN] = VR_GENERATION_SPLIT_BRAIN,
        [VR_GENERATION_UNRELATED] = VR_GENERATION_UNRELATED,
    };

    for (guint i = 0; i < VR_GENERATION_RELATION_LAST << BITS; i++) {
        VrOwnershipFacts mine = facts_of(i);
        VrOwnershipFacts theirs = {
            .relation = mirror[mine.relation],
            .target = !mine.target,
            .mine_here = mine.theirs_there,
            .theirs_there = mine.mine_here,
            .active_here = mine.active_there,
            .active_there = mine.active_here,
            .runs_there = mine.active_here,
            .moving = mine.moving,
        };

        /* with the same generation both name one owner */
        if (mine.relation == VR_GENERATION_SAME && mine.mine_here == mine.theirs_there)
            continue;
        if (vr_ownership_judge(&mine) == VR_OWNERSHIP_AGREED)
            g_assert_cmpint(vr_ownership_judge(&theirs), ==, VR_OWNERSHIP_AGREED);
        else if (!mine.moving && !(vr_ownership_judge(&mine) == VR_OWNERSHIP_LEARN &&
                                   of_one_mind(&mine) && !mine.active_here))
            g_assert_cmpint(vr_ownership_judge(&theirs), ==, VR_OWNERSHIP_DISPUTED);
    }
}

static void
test_rows(void)
{
    const struct {
        VrOwnershipFacts facts;
        VrOwnershipVerdict verdict;
    } rows[] = {
        /* replicating; and the replica's host sees the same */
        {{.relation = VR_GENERATION_SAME, .mine_here = TRUE, .active_here = TRUE},
         VR_OWNERSHIP_AGREED},
        {{.relation = VR_GENERATION_SAME,
          .target = TRUE,
          .theirs_there = TRUE,
          .active_there = TRUE,
          .runs_there = TRUE},
         VR_OWNERSHIP_AGREED},
        /* somebody started the replica by hand: nobody gave anything up */
        {{.relation = VR_GENERATION_SAME,
          .target = TRUE,
          .theirs_there = TRUE,
          .active_here = TRUE,
          .active_there = TRUE,
          .runs_there = TRUE},
         VR_OWNERSHIP_DISPUTED},
        /* the source was started again behind a failover */
        {{.relation = VR_GENERATION_SAME,
          .theirs_there = TRUE,
          .active_here = TRUE,
          .active_there = TRUE,
          .runs_there = TRUE,
          .gave_up = TRUE},
         VR_OWNERSHIP_STALE},
        /* the same, but the owner does not run it: a person has a reason */
        {{.relation = VR_GENERATION_SAME,
          .theirs_there = TRUE,
          .active_here = TRUE,
          .gave_up = TRUE},
         VR_OWNERSHIP_DISPUTED},
        /* an old database, the fence still stands */
        {{.relation = VR_GENERATION_BEHIND,
          .mine_here = TRUE,
          .theirs_there = TRUE,
          .active_there = TRUE,
          .runs_there = TRUE,
          .gave_up = TRUE},
         VR_OWNERSHIP_LEARN},
        /* an old database without a fence, or a target that has made it up */
        {{.relation = VR_GENERATION_BEHIND,
          .mine_here = TRUE,
          .theirs_there = TRUE,
          .active_here = TRUE,
          .active_there = TRUE,
          .runs_there = TRUE},
         VR_OWNERSHIP_DISPUTED},
        /* the target's database is old */
        {{.relation = VR_GENERATION_BEHIND, .target = TRUE, .gave_up = TRUE},
         VR_OWNERSHIP_DISPUTED},
        /* out of step, but both name the same one, and it runs on no other */
        {{.relation = VR_GENERATION_AHEAD, .mine_here = TRUE}, VR_OWNERSHIP_AGREED},
        {{.relation = VR_GENERATION_BEHIND, .target = TRUE, .theirs_there = TRUE},
         VR_OWNERSHIP_AGREED},
        {{.relation = VR_GENERATION_AHEAD, .mine_here = TRUE, .active_there = TRUE},
         VR_OWNERSHIP_DISPUTED},
        {{.relation = VR_GENERATION_SPLIT_BRAIN, .gave_up = TRUE}, VR_OWNERSHIP_DISPUTED},
        {{.relation = VR_GENERATION_UNRELATED, .gave_up = TRUE}, VR_OWNERSHIP_DISPUTED},
        {{.relation = VR_GENERATION_AHEAD, .moving = TRUE}, VR_OWNERSHIP_MOVING},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_test_message("row %u", i);
        g_assert_cmpint(vr_ownership_judge(&rows[i].facts), ==, rows[i].verdict);
    }
}

static void
test_gave_up(void)
{
    g_autoptr(VrGeneration) first = vr_generation_new(OLD, "SHA256:a");
    g_autoptr(VrGeneration) now = vr_generation_advance(first, NOW, "SHA256:a");
    g_autoptr(VrGeneration) next = vr_generation_advance(now, NEXT, "SHA256:b");
    VrFenceRecord record = {VR_FENCE_RECORD_FAILED_OVER, (char *) "b", 1, (char *) NEXT, NULL};

    g_assert_false(vr_ownership_gave_up(FALSE, VR_PROTECTION_PROTECTED, NULL, next));
    g_assert_true(vr_ownership_gave_up(FALSE, VR_PROTECTION_FAILED_OVER, NULL, next));
    g_assert_true(vr_ownership_gave_up(FALSE, VR_PROTECTION_PROTECTED, &record, next));
    g_assert_false(vr_ownership_gave_up(TRUE, VR_PROTECTION_FAILED_OVER, &record, next));
    record.generation = (char *) NOW;
    g_assert_true(vr_ownership_gave_up(FALSE, VR_PROTECTION_PAUSED, &record, next));
    record.generation = (char *) ALIEN;
    g_assert_false(vr_ownership_gave_up(FALSE, VR_PROTECTION_PROTECTED, &record, next));
    record.generation = (char *) NEXT;
    record.state = VR_FENCE_RECORD_REPLICA;
    g_assert_false(vr_ownership_gave_up(FALSE, VR_PROTECTION_PROTECTED, &record, next));
}

static void
test_explain(void)
{
    for (guint i = 0; i < VR_GENERATION_RELATION_LAST << BITS; i++) {
        VrOwnershipFacts facts = facts_of(i);
        VrOwnershipVerdict verdict = vr_ownership_judge(&facts);
        g_autofree char *message = NULL;
        g_autofree char *action = NULL;

        if (verdict == VR_OWNERSHIP_AGREED || verdict == VR_OWNERSHIP_MOVING)
            continue;
        vr_ownership_explain(&facts, verdict, "web", "sitea", "siteb", TRUE, &message, &action);
        g_assert_nonnull(strstr(message, "'web'"));
        g_assert_nonnull(strstr(message, "'sitea'"));
        g_assert_nonnull(strstr(message, "'siteb'"));
        g_assert_nonnull(strstr(action, "virsh destroy web"));
        g_assert_cmpint(strstr(message, "suspended") != NULL, ==, verdict != VR_OWNERSHIP_DISPUTED);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ownership-verdict/never-by-word-alone", test_never_by_word_alone);
    g_test_add_func("/ownership-verdict/mirrored", test_mirrored);
    g_test_add_func("/ownership-verdict/rows", test_rows);
    g_test_add_func("/ownership-verdict/gave-up", test_gave_up);
    g_test_add_func("/ownership-verdict/explain", test_explain);
    return g_test_run();
}
