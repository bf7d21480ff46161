/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/error.h"
#include "policies/health.h"

#define S ((gint64) G_USEC_PER_SEC)

static VrHealthInput
healthy(void)
{
    return (VrHealthInput){
        .domain = "web",
        .peer = "siteb",
        .host = "sitea",
        .store = "main",
        .state = VR_PROTECTION_PROTECTED,
        .rpo_target_us = 120 * S,
        .rpo_us = 20 * S,
        .cycles_due_hour = 120,
        .app_age_us = VR_HEALTH_UNKNOWN,
        .protected_us = 86400 * S,
        .fence = VR_FENCE_ACTIVE,
        .store_percent = 50,
        .cert_days = 300,
    };
}

static gboolean
has(const GPtrArray *reasons, const char *code, VrHealth severity)
{
    for (guint i = 0; i < reasons->len; i++) {
        const VrHealthReason *reason = g_ptr_array_index(reasons, i);

        g_assert_nonnull(reason->message);
        g_assert_nonnull(reason->action);
        if (strcmp(reason->code, code) == 0)
            return reason->severity == severity;
    }
    return FALSE;
}

/* One reason, this one, and nothing else. */
static void
assert_only(const VrHealthInput *input, VrHealth severity, const char *code)
{
    g_autoptr(GPtrArray) reasons = NULL;

    g_assert_cmpint(vr_health_evaluate(input, &reasons), ==, severity);
    if (!code) {
        g_assert_cmpuint(reasons->len, ==, 0);
        return;
    }
    g_assert_true(has(reasons, code, severity));
    g_assert_cmpuint(reasons->len, ==, 1);
}

static void
test_ok(void)
{
    VrHealthInput in = healthy();

    assert_only(&in, VR_HEALTH_OK, NULL);
    g_assert_cmpint(vr_health_evaluate(&in, NULL), ==, VR_HEALTH_OK);
    in.store_percent = VR_HEALTH_UNKNOWN;
    in.cert_days = G_MAXINT;
    assert_only(&in, VR_HEALTH_OK, NULL);
    in.rpo_us = VR_HEALTH_UNKNOWN;
    in.state = VR_PROTECTION_INITIAL;
    assert_only(&in, VR_HEALTH_OK, NULL);
}

static void
test_damage(void)
{
    VrHealthInput in = healthy();
    g_autoptr(GPtrArray) reasons = NULL;
    const VrHealthReason *first;

    in.damaged_older = 2;
    assert_only(&in, VR_HEALTH_WARNING, "older-points-damaged");
    in.damaged_disk = "vdb";
    in.damaged_rp = 17;
    in.damaged_chunks = 3;
    g_assert_cmpint(vr_health_evaluate(&in, &reasons), ==, VR_HEALTH_CRITICAL);
    first = reasons->pdata[0];
    g_assert_cmpstr(first->code, ==, "replica-damaged");
    g_assert_nonnull(strstr(first->message, "recovery point 17"));
    g_assert_nonnull(strstr(first->message, "3 chunks of disk 'vdb'"));
}

static void
test_rpo(void)
{
    VrHealthInput in = healthy();

    in.rpo_us = in.rpo_target_us;
    assert_only(&in, VR_HEALTH_OK, NULL);
    in.rpo_us++;
    assert_only(&in, VR_HEALTH_WARNING, "rpo-over-target");
    in.rpo_us = 3 * in.rpo_target_us + 3;
    assert_only(&in, VR_HEALTH_CRITICAL, "rpo-far-over-target");
    in.rpo_us = G_MAXINT64;
    assert_only(&in, VR_HEALTH_CRITICAL, "rpo-far-over-target");
    in.idle_replicated = TRUE;
    assert_only(&in, VR_HEALTH_OK, NULL);
    in.idle_replicated = FALSE;
    in.state = VR_PROTECTION_DISABLING;
    assert_only(&in, VR_HEALTH_WARNING, "unprotect-unfinished");
    in.at_work = TRUE;
    assert_only(&in, VR_HEALTH_OK, NULL);
}

static void
test_warnings(void)
{
    VrHealthInput in = healthy();

    in.cycles_missed_hour = 24;
    assert_only(&in, VR_HEALTH_OK, NULL);
    in.cycles_missed_hour = 25;
    assert_only(&in, VR_HEALTH_WARNING, "cycles-missed");
    in = healthy();
    in.app_interval_us = 3600 * S;
    assert_only(&in, VR_HEALTH_WARNING, "no-app-point");
    in.app_age_us = 7200 * S;
    assert_only(&in, VR_HEALTH_OK, NULL);
    in = healthy();
    in.cert_days = 30;
    assert_only(&in, VR_HEALTH_WARNING, "certificate-expires");
    in = healthy();
    in.store_percent = 86;
    assert_only(&in, VR_HEALTH_WARNING, "store-filling");
    in.store_percent = 96;
    assert_only(&in, VR_HEALTH_CRITICAL, "store-full");
    in = healthy();
    in.fence = VR_FENCE_UNKNOWN;
    assert_only(&in, VR_HEALTH_OK, NULL); /* not looked at yet */
    in.fence_message = "libvirt does not answer";
    in.fence_action = "Look.";
    assert_only(&in, VR_HEALTH_WARNING, "fence-unknown");
    in = healthy();
    in.state = VR_PROTECTION_PAUSED;
    assert_only(&in, VR_HEALTH_WARNING, "paused");
    in.state = VR_PROTECTION_FAILED_OVER;
    assert_only(&in, VR_HEALTH_WARNING, "not-replicated");
}

static void
test_critical(void)
{
    g_autoptr(GError) error = vr_error_new(VR_ERROR_AUTH, "peer-unknown", "Pair again.", "no");
    VrHealthInput in = healthy();
    g_autoptr(GPtrArray) reasons = NULL;

    in.last_error = error;
    in.blocked = TRUE;
    assert_only(&in, VR_HEALTH_CRITICAL, "blocked");
    in = healthy();
    in.state = VR_PROTECTION_RESYNC_NEEDED;
    assert_only(&in, VR_HEALTH_CRITICAL, "resync-needed");
    in.resync_running = TRUE;
    assert_only(&in, VR_HEALTH_OK, NULL);
    in = healthy();
    in.fence = VR_FENCE_INACTIVE;
    in.fence_message = "the hook is not executable";
    in.fence_action = "Run: chmod.";
    assert_only(&in, VR_HEALTH_CRITICAL, "fence-inactive");
    in = healthy();
    in.record_message = "the record cannot be written";
    in.record_action = "Make room.";
    assert_only(&in, VR_HEALTH_CRITICAL, "fence-record");
    in = healthy();
    in.two_owners = "it runs here and there";
    in.two_owners_action = "Choose.";
    assert_only(&in, VR_HEALTH_CRITICAL, "two-owners");
    in.store_percent = 90;
    in.last_error = error;
    in.blocked = TRUE;
    in.fence = VR_FENCE_INACTIVE;
    in.fence_message = "the hook is not executable";
    in.fence_action = "Run: chmod.";
    g_assert_cmpint(vr_health_evaluate(&in, &reasons), ==, VR_HEALTH_CRITICAL);
    g_assert_cmpuint(reasons->len, ==, 4);
    g_assert_true(has(reasons, "two-owners", VR_HEALTH_CRITICAL));
    g_assert_cmpint(((VrHealthReason *) g_ptr_array_index(reasons, 1))->severity, ==,
                    VR_HEALTH_CRITICAL);
    g_assert_true(has(reasons, "blocked", VR_HEALTH_CRITICAL));
    g_assert_true(has(reasons, "fence-inactive", VR_HEALTH_CRITICAL));
    g_assert_cmpint(((VrHealthReason *) g_ptr_array_index(reasons, 3))->severity, ==,
                    VR_HEALTH_WARNING);
}

static const VrHealthReason *
only_reason(const VrHealthInput *input, GPtrArray **ret_reasons)
{
    (void) vr_health_evaluate(input, ret_reasons);
    g_assert_cmpuint((*ret_reasons)->len, ==, 1);
    return (*ret_reasons)->pdata[0];
}

/* Never ok while the last cycle failed; with its cause, and when it is tried again. */
static void
test_failing(void)
{
    g_autoptr(GError) away = vr_error_new(VR_ERROR_TRANSIENT, "peer-unreachable", NULL, "refused");
    g_autoptr(GError) full =
        vr_error_new(VR_ERROR_NO_SPACE, "store-full", "Make room.", "store 'main' is full");
    g_autoptr(GError) quota = vr_error_new(VR_ERROR_NO_SPACE, "quota-exceeded", "Ask.", "too much");
    g_autoptr(GPtrArray) reasons = NULL;
    g_autoptr(GPtrArray) of_full = NULL;
    const VrHealthReason *reason;
    VrHealthInput in = healthy();

    in.last_error = away;
    in.attempts = 3;
    in.next_attempt_us = 1800000000 * (gint64) G_USEC_PER_SEC;
    reason = only_reason(&in, &reasons);
    g_assert_cmpint(reason->severity, ==, VR_HEALTH_WARNING);
    g_assert_cmpstr(reason->code, ==, "cycle-failed");
    g_assert_cmpstr(reason->cause, ==, "peer-unreachable");
    g_assert_cmpuint(reason->attempts, ==, 3);
    g_assert_nonnull(strstr(reason->message, "refused"));
    g_assert_nonnull(strstr(reason->message, "2027-01-15T08:00:00"));
    in.state = VR_PROTECTION_INITIAL;
    assert_only(&in, VR_HEALTH_WARNING, "cycle-failed");
    in.state = VR_PROTECTION_PROTECTED;
    in.peer_silent = "refused"; /* that says it all */
    assert_only(&in, VR_HEALTH_WARNING, "peer-unreachable");
    in.peer_silent = NULL;
    in.last_error = full;
    reason = only_reason(&in, &of_full);
    g_assert_cmpint(reason->severity, ==, VR_HEALTH_CRITICAL);
    g_assert_cmpstr(reason->action, ==, "Make room.");
    in.last_error = quota;
    assert_only(&in, VR_HEALTH_WARNING, "quota-exceeded");
    in.is_target = TRUE; /* what is recorded there is not a cycle's */
    assert_only(&in, VR_HEALTH_OK, NULL);
}

/* What is in the past names its cause, and no advice for something else. */
static void
test_failed_before(void)
{
    g_autoptr(GError) busy = vr_error_new(VR_ERROR_CONFLICT, "domain-busy", NULL, "another job");
    g_autoptr(GPtrArray) reasons = NULL;
    const VrHealthReason *reason;
    VrHealthInput in = healthy();

    in.cycles_missed_hour = 60;
    in.past_failure = busy;
    reason = only_reason(&in, &reasons);
    g_assert_cmpstr(reason->code, ==, "cycles-missed");
    g_assert_nonnull(strstr(reason->message, "another job"));
    g_assert_null(strstr(reason->action, "interval"));
    in.last_error = busy;
    assert_only(&in, VR_HEALTH_WARNING, "cycle-failed");
}

static void
test_surroundings(void)
{
    g_autoptr(GError) waits = vr_error_new(VR_ERROR_TRANSIENT, "peer-timeout", NULL, "no answer");
    VrHealthInput in = healthy();

    in.libvirt_away = "connection lost";
    assert_only(&in, VR_HEALTH_WARNING, "libvirt-unreachable");
    in.is_target = TRUE;
    assert_only(&in, VR_HEALTH_WARNING, "libvirt-unreachable");
    in = healthy();
    in.is_target = TRUE;
    in.peer_silent = "no route to host";
    assert_only(&in, VR_HEALTH_WARNING, "peer-unreachable");
    in = healthy();
    in.failover = waits;
    in.failover_job = 7;
    assert_only(&in, VR_HEALTH_WARNING, "failover-failed");
    in.state = VR_PROTECTION_FAILED_OVER;
    assert_only(&in, VR_HEALTH_WARNING, "not-replicated");
    in = healthy();
    in.late_us = 57 * S;
    assert_only(&in, VR_HEALTH_WARNING, "host-overloaded");
    in = healthy();
    in.state = VR_PROTECTION_ENABLING;
    in.at_work = TRUE;
    in.job_waits = waits;
    in.job_kind = "protect";
    assert_only(&in, VR_HEALTH_WARNING, "job-waits");
}

/* Nothing can be done with it here before somebody acts; what to do is the error's to say. */
static void
test_unusable(void)
{
    g_autoptr(GError) error = vr_error_new(VR_ERROR_CORRUPT, "state-older-than-store",
                                           "Run store-scan.", "the database is older");
    g_autoptr(GPtrArray) reasons = NULL;
    VrHealthInput in = healthy();
    const VrHealthReason *reason;

    in.replica_error = error;
    assert_only(&in, VR_HEALTH_CRITICAL, "replica-unusable");
    (void) vr_health_evaluate(&in, &reasons);
    reason = g_ptr_array_index(reasons, 0);
    g_assert_cmpstr(reason->action, ==, "Run store-scan.");
    g_assert_nonnull(strstr(reason->message, "the database is older"));
}

/* What an action tells people to do can be done today. */
static void
test_damage_action(void)
{
    g_autoptr(GPtrArray) reasons = NULL;
    VrHealthInput in = healthy();

    in.damaged_disk = "vda";
    in.damaged_rp = 7;
    in.damaged_chunks = 2;
    in.damaged_older = 1;
    (void) vr_health_evaluate(&in, &reasons);
    g_assert_cmpuint(reasons->len, ==, 2);
    for (guint i = 0; i < reasons->len; i++)
        g_assert_null(strstr(((VrHealthReason *) reasons->pdata[i])->action, "force"));
}

/* A replica whose source ended replication is neither old nor paused; its end is what counts. */
static void
test_kept(void)
{
    VrHealthInput in = healthy();

    in.state = VR_PROTECTION_PAUSED;
    in.rpo_us = 1000 * in.rpo_target_us;
    in.kept_until_us = 1800000000 * (gint64) G_USEC_PER_SEC;
    assert_only(&in, VR_HEALTH_WARNING, "kept-until");
    in.kept_until_us = G_MAXINT64;
    assert_only(&in, VR_HEALTH_OK, "kept");
}

static void
test_names(void)
{
    g_assert_cmpstr(vr_health_name(VR_HEALTH_OK), ==, "ok");
    g_assert_cmpstr(vr_health_name(VR_HEALTH_WARNING), ==, "warning");
    g_assert_cmpstr(vr_health_name(VR_HEALTH_CRITICAL), ==, "critical");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/health/ok", test_ok);
    g_test_add_func("/health/rpo", test_rpo);
    g_test_add_func("/health/damage", test_damage);
    g_test_add_func("/health/warnings", test_warnings);
    g_test_add_func("/health/critical", test_critical);
    g_test_add_func("/health/failing", test_failing);
    g_test_add_func("/health/failed-before", test_failed_before);
    g_test_add_func("/health/surroundings", test_surroundings);
    g_test_add_func("/health/unusable", test_unusable);
    g_test_add_func("/health/damage-action", test_damage_action);
    g_test_add_func("/health/kept", test_kept);
    g_test_add_func("/health/names", test_names);
    return g_test_run();
}
