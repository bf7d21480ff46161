/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/fence_cause.h"
#include "policies/fence_rule.h"

#define OLD "11111111111111111111111111111111"
#define NOW "22222222222222222222222222222222"
#define ALIEN "33333333333333333333333333333333"

static VrGeneration *
generation(void)
{
    g_autoptr(VrGeneration) old = vr_generation_new(OLD, "SHA256:a");

    return vr_generation_advance(old, NOW, "SHA256:b");
}

/* Every role, state and owner: whoever does not own it is fenced, and so is a source that leaves.
 */
static void
test_wanted(void)
{
    guint none = 0;

    for (guint i = 0; i < 4 * VR_PROTECTION_STATE_LAST; i++) {
        VrFenceFacts facts = {i & 1, (i & 2) != 0, (VrProtectionState) (i / 4)};
        gboolean leaving = !facts.target && (facts.state == VR_PROTECTION_FAILING_OVER ||
                                             facts.state == VR_PROTECTION_FAILED_OVER);
        VrFenceRecordState record;
        gboolean wanted = vr_fence_wanted(&facts, &record);

        g_assert_cmpint(wanted, ==, !facts.owner || leaving);
        if (wanted)
            g_assert_cmpint(record, ==,
                            facts.target ? VR_FENCE_RECORD_REPLICA : VR_FENCE_RECORD_FAILED_OVER);
        none += !wanted;
    }
    g_assert_cmpuint(none, ==, 2 * VR_PROTECTION_STATE_LAST - 2);
}

static void
test_step(void)
{
    const struct {
        gboolean target, owner;
        VrProtectionState state;
        gboolean stands;
        const char *id; /* NULL: not readable, or none */
        VrFenceRecordState record;
        VrFenceStep step;
    } rows[] = {
        {TRUE, FALSE, VR_PROTECTION_PROTECTED, FALSE, NULL, 0, VR_FENCE_WRITE},
        {TRUE, FALSE, VR_PROTECTION_PROTECTED, TRUE, NULL, 0, VR_FENCE_WRITE},
        {TRUE, FALSE, VR_PROTECTION_PROTECTED, TRUE, NOW, VR_FENCE_RECORD_REPLICA, VR_FENCE_RIGHT},
        {TRUE, FALSE, VR_PROTECTION_PROTECTED, TRUE, OLD, VR_FENCE_RECORD_REPLICA, VR_FENCE_WRITE},
        {TRUE, FALSE, VR_PROTECTION_PROTECTED, TRUE, NOW, VR_FENCE_RECORD_FAILED_OVER,
         VR_FENCE_WRITE},
        {FALSE, FALSE, VR_PROTECTION_FAILED_OVER, FALSE, NULL, 0, VR_FENCE_WRITE},
        /* the one of the shutdown names the generation that was left */
        {FALSE, FALSE, VR_PROTECTION_FAILED_OVER, TRUE, OLD, VR_FENCE_RECORD_FAILED_OVER,
         VR_FENCE_WRITE},
        /* evidence of what the database does not know stays */
        {FALSE, FALSE, VR_PROTECTION_FAILED_OVER, TRUE, ALIEN, VR_FENCE_RECORD_FAILED_OVER,
         VR_FENCE_RIGHT},
        {TRUE, FALSE, VR_PROTECTION_PROTECTED, TRUE, ALIEN, VR_FENCE_RECORD_FAILED_OVER,
         VR_FENCE_RIGHT},
        {FALSE, TRUE, VR_PROTECTION_PROTECTED, FALSE, NULL, 0, VR_FENCE_RIGHT},
        {FALSE, TRUE, VR_PROTECTION_PROTECTED, TRUE, NULL, 0, VR_FENCE_CONTRADICTS},
        {FALSE, TRUE, VR_PROTECTION_PROTECTED, TRUE, NOW, VR_FENCE_RECORD_FAILED_OVER,
         VR_FENCE_CONTRADICTS},
        {FALSE, TRUE, VR_PROTECTION_PROTECTED, TRUE, ALIEN, VR_FENCE_RECORD_FAILED_OVER,
         VR_FENCE_CONTRADICTS},
        {TRUE, TRUE, VR_PROTECTION_FAILED_OVER, TRUE, OLD, VR_FENCE_RECORD_REPLICA,
         VR_FENCE_CONTRADICTS},
    };
    g_autoptr(VrGeneration) mine = generation();

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        VrFenceFacts facts = {rows[i].target, rows[i].owner, rows[i].state};
        VrFenceRecord record = {rows[i].record, (char *) "siteb", 1, (char *) rows[i].id, NULL};

        g_test_message("row %u", i);
        g_assert_cmpint(vr_fence_step(&facts, mine, rows[i].stands, rows[i].id ? &record : NULL),
                        ==, rows[i].step);
    }
}

static void
assert_cause(const VrFenceCauseFacts *facts, const char *in_message, const char *in_action)
{
    g_autofree char *message = NULL;
    g_autofree char *action = NULL;

    vr_fence_cause(facts, &message, &action);
    g_assert_nonnull(strstr(message, "'sitea'"));
    g_assert_nonnull(strstr(message, in_message));
    g_assert_nonnull(strstr(action, in_action));
}

static void
test_cause(void)
{
    VrFenceCauseFacts facts = {.host = "sitea",
                               .hook = "/etc/hook",
                               .fence_dir = "/fence",
                               .service = "virtqemud",
                               .hook_changed_us = 5000000,
                               .service_since_us = 9000000};

    assert_cause(&facts, "there is no hook /etc/hook", "systemctl reload virtqemud");
    facts.exists = TRUE;
    assert_cause(&facts, "not executable", "chmod 755 /etc/hook && systemctl reload virtqemud");
    facts.executable = TRUE;
    assert_cause(&facts, "does not call the hook /etc/hook", "systemctl reload virtqemud");
    facts.hook_changed_us = 10000000;
    assert_cause(&facts, "runs since 1970-01-01T00:00:09", "systemctl reload virtqemud");
    facts.refused = TRUE;
    assert_cause(&facts, "has not answered in /fence", "journalctl -u virtqemud");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fence-rule/wanted", test_wanted);
    g_test_add_func("/fence-rule/step", test_step);
    g_test_add_func("/fence-rule/cause", test_cause);
    return g_test_run();
}
