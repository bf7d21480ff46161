/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/health.h"

#include <string.h>

#include "policies/attachment.h"
#include "policies/error.h"
#include "policies/units.h"

#define SECOND ((gint64) G_USEC_PER_SEC)
#define CERT_WARNING_DAYS 30
#define STORE_WARNING 85
#define MISSED_MIN 3 /* fewer are no share of anything */
#define STORE_CRITICAL 95

static void
reason_free(gpointer data)
{
    VrHealthReason *reason = data;

    g_free(reason->message);
    g_free(reason->action);
    g_free(reason->cause);
    g_free(reason);
}

static VrHealthReason *add(GPtrArray *reasons, VrHealth severity, const char *code,
                           const char *action, const char *format, ...) G_GNUC_PRINTF(5, 6);

static VrHealthReason *
add(GPtrArray *reasons, VrHealth severity, const char *code, const char *action, const char *format,
    ...)
{
    VrHealthReason *reason = g_new0(VrHealthReason, 1);
    va_list args;

    va_start(args, format);
    reason->message = g_strdup_vprintf(format, args);
    va_end(args);
    reason->severity = severity;
    reason->code = code;
    reason->action = g_strdup(action);
    g_ptr_array_add(reasons, reason);
    return reason;
}

/* "40 s", "12 min", "3.5 h": how old, for people. */
static char *
age(gint64 us)
{
    gint64 seconds = us / SECOND;

    if (seconds < 120)
        return g_strdup_printf("%" G_GINT64_FORMAT " s", seconds);
    if (seconds < 7200)
        return g_strdup_printf("%" G_GINT64_FORMAT " min", seconds / 60);
    return g_strdup_printf("%.1f h", (double) seconds / 3600);
}

/* States in which RPs are expected to come at the policy's pace. */
static gboolean
replicating(VrProtectionState state)
{
    return state == VR_PROTECTION_PROTECTED || state == VR_PROTECTION_RESYNC_NEEDED ||
           state == VR_PROTECTION_RESYNC || state == VR_PROTECTION_PAUSED;
}

static const char *
stored_on(const VrHealthInput *in)
{
    return in->is_target ? in->host : in->peer;
}

static void
judge_rpo(const VrHealthInput *in, GPtrArray *reasons)
{
    g_autofree char *rpo = NULL;
    g_autofree char *target = NULL;
    gboolean critical;

    if (!replicating(in->state) || in->idle_replicated || in->rpo_us == VR_HEALTH_UNKNOWN ||
        in->rpo_us <= in->rpo_target_us)
        return;
    rpo = age(in->rpo_us);
    target = age(in->rpo_target_us);
    critical = in->rpo_us / 3 > in->rpo_target_us;
    add(reasons, critical ? VR_HEALTH_CRITICAL : VR_HEALTH_WARNING,
        critical ? "rpo-far-over-target" : "rpo-over-target",
        "See the last cycle in info, and what holds it up.",
        "domain '%s': the newest recovery point on '%s' is %s old, the target is %s", in->domain,
        stored_on(in), rpo, target);
}

/* They failed; those that came late are not counted. While they still fail, cycle-failed says it.
 */
static void
judge_cycles(const VrHealthInput *in, GPtrArray *reasons)
{
    const char *why = in->past_failure ? in->past_failure->message : NULL;

    if (in->idle_replicated || in->last_error || in->state == VR_PROTECTION_PAUSED ||
        !replicating(in->state) || in->cycles_missed_hour < MISSED_MIN ||
        in->cycles_missed_hour * 5 <= in->cycles_due_hour)
        return;
    add(reasons, VR_HEALTH_WARNING, "cycles-missed",
        "No action is needed if they succeed now; if they fail again, remove the cause that is "
        "named.",
        "domain '%s': %u of %u cycles to '%s' failed in the last hour%s%s", in->domain,
        in->cycles_missed_hour, in->cycles_due_hour, in->peer, why ? ", the last of them: " : "",
        why ? why : "");
}

static void
judge_app_points(const VrHealthInput *in, GPtrArray *reasons)
{
    gint64 since = in->app_age_us == VR_HEALTH_UNKNOWN ? in->protected_us : in->app_age_us;
    g_autofree char *shown = NULL;

    if (!replicating(in->state) || in->idle_replicated || in->app_interval_us == 0 ||
        since / 2 <= in->app_interval_us)
        return;
    shown = age(since);
    add(reasons, VR_HEALTH_WARNING, "no-app-point", "Check the guest agent in the domain.",
        "domain '%s': no application-consistent recovery point for %s", in->domain, shown);
}

/* What a failover waits for while the guest is off: errors with codes of their own. */
static const char *const failover_codes[] = {"hand-over-unanswered", "hand-over-waits",
                                             "failover-not-undone", "source-gave-up"};

static void
judge_failover(const VrHealthInput *in, GPtrArray *reasons)
{
    for (guint i = 0; in->last_error && i < G_N_ELEMENTS(failover_codes); i++) {
        if ((in->state == VR_PROTECTION_FAILING_OVER || in->state == VR_PROTECTION_FAILED_OVER) &&
            strcmp(vr_error_slug(in->last_error), failover_codes[i]) == 0)
            add(reasons, VR_HEALTH_CRITICAL, failover_codes[i], vr_error_action(in->last_error),
                "%s", in->last_error->message);
    }
}

gboolean
vr_health_since_error(const char *code)
{
    for (guint i = 0; i < G_N_ELEMENTS(failover_codes); i++) {
        if (strcmp(code, failover_codes[i]) == 0)
            return TRUE;
    }
    return strcmp(code, "blocked") == 0 || strcmp(code, "cycle-failed") == 0 ||
           strcmp(code, "quota-exceeded") == 0;
}

static void
judge_blocked(const VrHealthInput *in, GPtrArray *reasons)
{
    const char *action = vr_error_action(in->last_error);

    add(reasons, VR_HEALTH_CRITICAL, "blocked",
        action ? action : "Remove the cause, then run sync.",
        "domain '%s': replication from '%s' to '%s' is blocked: %s", in->domain, in->host, in->peer,
        in->last_error->message)
        ->cause = g_strdup(vr_error_slug(in->last_error));
}

/* It is tried again; what is full stays so until somebody makes room. */
static void
judge_failing(const VrHealthInput *in, GPtrArray *reasons)
{
    gboolean full = g_error_matches(in->last_error, VR_ERROR, VR_ERROR_NO_SPACE);
    gboolean quota = strcmp(vr_error_slug(in->last_error), "quota-exceeded") == 0;
    const char *action = vr_error_action(in->last_error);
    g_autofree char *next = in->next_attempt_us ? vr_time_format(in->next_attempt_us) : NULL;
    g_autofree char *times =
        in->attempts > 1 ? g_strdup_printf("%u times in a row", in->attempts) : g_strdup("once");
    VrHealthReason *reason;

    reason = add(reasons, full && !quota ? VR_HEALTH_CRITICAL : VR_HEALTH_WARNING,
                 quota ? "quota-exceeded" : "cycle-failed",
                 action ? action : "No action is needed if it passes: it is tried again by itself.",
                 "domain '%s': replication from '%s' to '%s' has failed %s, next attempt %s: %s",
                 in->domain, in->host, in->peer, times, next ? next : "not planned",
                 in->last_error->message);
    reason->cause = g_strdup(vr_error_slug(in->last_error));
    reason->attempts = MAX(in->attempts, 1);
    reason->next_attempt_us = in->next_attempt_us;
}

/* States in which the last error is that of a cycle. */
static gboolean
cycles_run(VrProtectionState state)
{
    return state == VR_PROTECTION_INITIAL || (replicating(state) && state != VR_PROTECTION_PAUSED);
}

static void
judge_error(const VrHealthInput *in, GPtrArray *reasons)
{
    judge_failover(in, reasons);
    if (!in->last_error || in->is_target || !cycles_run(in->state))
        return;
    if (in->blocked)
        judge_blocked(in, reasons);
    else if (!in->peer_silent || !vr_error_is_peer_away(in->last_error))
        judge_failing(in, reasons);
}

/* It runs on as before: nothing else tells that it was to be moved. */
static void
judge_failed_failover(const VrHealthInput *in, GPtrArray *reasons)
{
    const char *action = in->failover ? vr_error_action(in->failover) : NULL;

    if (!in->failover || !replicating(in->state))
        return;
    add(reasons, VR_HEALTH_WARNING, "failover-failed",
        action ? action : "Remove the cause, then run the failover again.",
        "domain '%s': its last failover from host '%s' to host '%s' failed (job %" G_GINT64_FORMAT
        "): %s",
        in->domain, in->is_target ? in->peer : in->host, stored_on(in), in->failover_job,
        in->failover->message)
        ->cause = g_strdup(vr_error_slug(in->failover));
}

/* What it waits for is told at once, also before there is anything to replicate. */
static void
judge_job(const VrHealthInput *in, GPtrArray *reasons)
{
    const char *action = in->job_waits ? vr_error_action(in->job_waits) : NULL;

    if (!in->job_waits || (in->last_error && cycles_run(in->state)))
        return;
    add(reasons, VR_HEALTH_WARNING, "job-waits",
        action ? action : "No action is needed if it passes: it is tried again by itself.",
        "domain '%s': its %s on host '%s' waits: %s", in->domain, in->job_kind, in->host,
        in->job_waits->message)
        ->cause = g_strdup(vr_error_slug(in->job_waits));
}

/* The job that began it has failed, and no other goes on with it. */
static void
judge_broken_off(const VrHealthInput *in, GPtrArray *reasons)
{
    gboolean ends = in->state == VR_PROTECTION_DISABLING;

    if (in->at_work)
        return;
    add(reasons, VR_HEALTH_WARNING, ends ? "unprotect-unfinished" : "protect-unfinished",
        ends ? "Run unprotect again; with --force if the other host is gone for good."
             : "Run protect again, or unprotect.",
        "domain '%s': the %s of its protection on host '%s' was begun and has not been finished; "
        "it is not replicated",
        in->domain, ends ? "end" : "beginning", in->host);
}

static void
judge_state(const VrHealthInput *in, GPtrArray *reasons)
{
    switch (in->state) {
    case VR_PROTECTION_RESYNC_NEEDED:
        if (!in->resync_running)
            add(reasons, VR_HEALTH_CRITICAL, "resync-needed",
                "Wait for the next cycle, or run sync: either does it.",
                "domain '%s': change tracking on '%s' was lost and the resync is not running",
                in->domain, in->host);
        return;
    case VR_PROTECTION_PAUSED:
        add(reasons, VR_HEALTH_WARNING, "paused", "Run resume when it should go on.",
            "domain '%s': replication to '%s' is paused by an operator", in->domain, stored_on(in));
        return;
    case VR_PROTECTION_FAILED_OVER:
    case VR_PROTECTION_COMMITTED:
        add(reasons, VR_HEALTH_WARNING, "not-replicated",
            "Back it up by other means until its replication can be reversed.",
            "domain '%s' was failed over from host '%s' to host '%s' and is not replicated now",
            in->domain, in->is_target ? in->peer : in->host, stored_on(in));
        return;
    case VR_PROTECTION_ENABLING:
    case VR_PROTECTION_DISABLING:
        judge_broken_off(in, reasons);
        return;
    case VR_PROTECTION_INITIAL:
    case VR_PROTECTION_PROTECTED:
    case VR_PROTECTION_RESYNC:
    case VR_PROTECTION_FAILING_OVER:
    case VR_PROTECTION_REVERSING:
    case VR_PROTECTION_STATE_LAST:
        return;
    }
}

/* One that is not active keeps nobody from running the domain on two hosts. */
static void
judge_fence(const VrHealthInput *in, GPtrArray *reasons)
{
    if (in->two_owners)
        add(reasons, VR_HEALTH_CRITICAL, "two-owners", in->two_owners_action, "%s", in->two_owners);
    if (in->fence_message && in->fence == VR_FENCE_INACTIVE)
        add(reasons, VR_HEALTH_CRITICAL, "fence-inactive", in->fence_action,
            "domain '%s' is not kept from running on two hosts: %s", in->domain, in->fence_message);
    if (in->fence_message && in->fence == VR_FENCE_UNKNOWN)
        add(reasons, VR_HEALTH_WARNING, "fence-unknown", in->fence_action,
            "domain '%s' may not be kept from running on two hosts: %s", in->domain,
            in->fence_message);
    if (in->record_message)
        add(reasons, VR_HEALTH_CRITICAL, "fence-record", in->record_action, "%s",
            in->record_message);
}

/* Neither old nor paused: nothing is expected to come. Its end is what must be known in time. */
static void
judge_kept(const VrHealthInput *in, GPtrArray *reasons)
{
    g_autofree char *when = vr_time_format(in->kept_until_us);

    if (when)
        add(reasons, VR_HEALTH_WARNING, "kept-until",
            "Protect it again on its source to keep it, or unprotect it here to drop it now.",
            "domain '%s': its replication from host '%s' was ended; the replica on '%s' is dropped "
            "on %s",
            in->domain, in->peer, in->host, when);
    else
        add(reasons, VR_HEALTH_OK, "kept",
            "Protect it again on its source, or unprotect it here to drop it.",
            "domain '%s': its replication from host '%s' was ended; the replica on '%s' is kept",
            in->domain, in->peer, in->host);
}

/* None of its recovery points can be had, so nothing else is known of it. */
static void
judge_replica(const VrHealthInput *in, GPtrArray *reasons)
{
    const char *action = in->replica_error ? vr_error_action(in->replica_error) : NULL;

    if (in->replica_error)
        add(reasons, VR_HEALTH_CRITICAL, "replica-unusable",
            action ? action : "Remove the cause; it is tried again by itself.",
            "domain '%s': its replica on host '%s' cannot be used: %s", in->domain, in->host,
            in->replica_error->message);
}

static gboolean
beside_disks(const char *name)
{
    return vr_attachment_name_known(name) || strcmp(name, "definition") == 0;
}

static void
judge_damage(const VrHealthInput *in, GPtrArray *reasons)
{
    if (in->damaged_disk)
        add(reasons, VR_HEALTH_CRITICAL, "replica-damaged",
            in->state == VR_PROTECTION_PAUSED
                ? "Run resume on the source: the next cycle sends again what is damaged."
                : "Wait for the next cycle, or run sync on the source: what is damaged is sent "
                  "again. If it stays, look at the store's disk, then run verify.",
            "domain '%s': recovery point %" G_GUINT64_FORMAT " in the store of host '%s' is "
            "damaged: %" G_GUINT64_FORMAT " %s '%s' are not what was proven",
            in->domain, in->damaged_rp, stored_on(in), in->damaged_chunks,
            beside_disks(in->damaged_disk) ? "parts of" : "chunks of disk", in->damaged_disk);
    if (in->damaged_older > 0)
        add(reasons, VR_HEALTH_WARNING, "older-points-damaged",
            "No action is needed for the newest one: these are not used and go with retention. See "
            "which they are in rp-list, and look at the store's disk.",
            "domain '%s': older recovery points on host '%s' are damaged: %u", in->domain, in->host,
            in->damaged_older);
}

static void
judge_load(const VrHealthInput *in, GPtrArray *reasons)
{
    g_autofree char *late = age(in->late_us);

    if (in->late_us > 0)
        add(reasons, VR_HEALTH_WARNING, "host-overloaded",
            "Lengthen the intervals of the policies, or protect fewer domains on this host.",
            "domain '%s': host '%s' is overloaded: its replication cycles begin up to %s late",
            in->domain, in->host, late);
}

static void
judge_policy(const VrHealthInput *in, GPtrArray *reasons)
{
    if (in->policy_problem)
        add(reasons, VR_HEALTH_WARNING, "policy-refused",
            "Correct the file; it is read within a second.",
            "domain '%s': its policy's file on host '%s' is refused and what was in force before "
            "stays so: %s",
            in->domain, in->host, in->policy_problem->message);
}

/* Whom nothing can be done without, on either side. */
static void
judge_neighbours(const VrHealthInput *in, GPtrArray *reasons)
{
    if (in->libvirt_away)
        add(reasons, VR_HEALTH_WARNING, "libvirt-unreachable",
            "Check that libvirtd or virtqemud runs; everything goes on by itself then.",
            "domain '%s': libvirt of host '%s' does not answer: %s", in->domain, in->host,
            in->libvirt_away);
    if (in->peer_silent)
        add(reasons, VR_HEALTH_WARNING, "peer-unreachable",
            "Check the other host, its virt-replicad and the network; all goes on by itself then.",
            "domain '%s': host '%s' does not answer: %s", in->domain, in->peer, in->peer_silent);
}

static void
judge_host(const VrHealthInput *in, GPtrArray *reasons)
{
    if (in->store_percent > STORE_WARNING)
        add(reasons, in->store_percent > STORE_CRITICAL ? VR_HEALTH_CRITICAL : VR_HEALTH_WARNING,
            in->store_percent > STORE_CRITICAL ? "store-full" : "store-filling",
            "Free space there, or keep fewer recovery points.",
            "domain '%s': the file system of store '%s' on host '%s' is %d %% full", in->domain,
            in->store ? in->store : "?", stored_on(in), in->store_percent);
    if (in->cert_days <= CERT_WARNING_DAYS)
        add(reasons, VR_HEALTH_WARNING, "certificate-expires", "Pair the two hosts again.",
            "hosts '%s' and '%s': a certificate expires in %d days", in->host, in->peer,
            MAX(in->cert_days, 0));
}

static gint
worst_first(gconstpointer a, gconstpointer b)
{
    const VrHealthReason *x = *(VrHealthReason *const *) a;
    const VrHealthReason *y = *(VrHealthReason *const *) b;

    return (gint) y->severity - (gint) x->severity;
}

const char *
vr_health_name(VrHealth health)
{
    switch (health) {
    case VR_HEALTH_OK:
        return "ok";
    case VR_HEALTH_WARNING:
        return "warning";
    case VR_HEALTH_CRITICAL:
        return "critical";
    }
    return "?";
}

VrHealth
vr_health_evaluate(const VrHealthInput *input, GPtrArray **ret_reasons)
{
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(reason_free);
    VrHealth worst = VR_HEALTH_OK;

    judge_fence(input, reasons);
    judge_replica(input, reasons);
    judge_damage(input, reasons);
    if (input->kept_until_us != 0) {
        judge_kept(input, reasons);
    } else {
        judge_state(input, reasons);
        judge_error(input, reasons);
        judge_job(input, reasons);
        judge_failed_failover(input, reasons);
        judge_rpo(input, reasons);
        judge_cycles(input, reasons);
        judge_app_points(input, reasons);
    }
    judge_policy(input, reasons);
    judge_load(input, reasons);
    judge_neighbours(input, reasons);
    judge_host(input, reasons);
    g_ptr_array_sort(reasons, worst_first);
    if (reasons->len > 0)
        worst = ((VrHealthReason *) g_ptr_array_index(reasons, 0))->severity;
    if (ret_reasons)
        *ret_reasons = g_steal_pointer(&reasons);
    return worst;
}
