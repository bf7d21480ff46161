/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/health.h"

#include <string.h>

#include "policies/error.h"

#define SECOND ((gint64) G_USEC_PER_SEC)
#define CERT_WARNING_DAYS 30
#define STORE_WARNING 85
#define STORE_CRITICAL 95

static void
reason_free(gpointer data)
{
    VrHealthReason *reason = data;

    g_free(reason->message);
    g_free(reason->action);
    g_free(reason);
}

static void G_GNUC_PRINTF(5, 6) add(GPtrArray *reasons, VrHealth severity, const char *code,
                                    const char *action, const char *format, ...)
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
           state == VR_PROTECTION_RESYNC || state == VR_PROTECTION_PAUSED ||
           state == VR_PROTECTION_ERROR;
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
        "See job-list for the cycles and what holds them up.",
        "domain '%s': the newest recovery point on '%s' is %s old, the target is %s", in->domain,
        in->peer, rpo, target);
}

static void
judge_cycles(const VrHealthInput *in, GPtrArray *reasons)
{
    if (in->idle_replicated || in->state == VR_PROTECTION_PAUSED)
        return;
    if (replicating(in->state) && in->cycles_due_hour > 0 &&
        in->cycles_missed_hour * 5 > in->cycles_due_hour)
        add(reasons, VR_HEALTH_WARNING, "cycles-missed",
            "Lengthen the policy's interval, or see job-list for what is slow.",
            "domain '%s': %u of %u cycles to '%s' were missed in the last hour", in->domain,
            in->cycles_missed_hour, in->cycles_due_hour, in->peer);
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

static void
judge_error(const VrHealthInput *in, GPtrArray *reasons)
{
    const char *action;

    if (in->last_error && strcmp(vr_error_slug(in->last_error), "quota-exceeded") == 0)
        add(reasons, VR_HEALTH_WARNING, "quota-exceeded", vr_error_action(in->last_error), "%s",
            in->last_error->message);
    if (!in->last_error || !(in->blocked || in->state == VR_PROTECTION_ERROR))
        return;
    action = vr_error_action(in->last_error);
    if (!action)
        action = in->state == VR_PROTECTION_ERROR ? "Remove the cause, then run resume."
                                                  : "Remove the cause, then run sync.";
    add(reasons, VR_HEALTH_CRITICAL, "blocked", action,
        "domain '%s': replication from '%s' to '%s' is blocked: %s", in->domain, in->host, in->peer,
        in->last_error->message);
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
            "domain '%s': replication to '%s' is paused by an operator", in->domain, in->peer);
        return;
    case VR_PROTECTION_FAILED_OVER:
    case VR_PROTECTION_COMMITTED:
        add(reasons, VR_HEALTH_WARNING, "not-replicated",
            "Back it up by other means until its replication can be reversed.",
            "domain '%s' was failed over between '%s' and '%s' and is not replicated now",
            in->domain, in->host, in->peer);
        return;
    case VR_PROTECTION_ERROR:
        if (!in->last_error)
            add(reasons, VR_HEALTH_CRITICAL, "blocked", "Remove the cause, then run resume.",
                "domain '%s': replication from '%s' to '%s' is blocked", in->domain, in->host,
                in->peer);
        return;
    case VR_PROTECTION_ENABLING:
    case VR_PROTECTION_INITIAL:
    case VR_PROTECTION_PROTECTED:
    case VR_PROTECTION_RESYNC:
    case VR_PROTECTION_FAILING_OVER:
    case VR_PROTECTION_REVERSING:
    case VR_PROTECTION_DISABLING:
    case VR_PROTECTION_STATE_LAST:
        return;
    }
}

static void
judge_host(const VrHealthInput *in, GPtrArray *reasons)
{
    if (!in->fence_active)
        add(reasons, VR_HEALTH_WARNING, "fence-inactive",
            "Run 'systemctl reload libvirtd' (or virtqemud), then look at 'virt-replica status'.",
            "host '%s': libvirt does not call the virt-replica hook, so domain '%s' is not kept "
            "from running on two hosts",
            in->host, in->domain);
    if (in->store_percent > STORE_WARNING)
        add(reasons, in->store_percent > STORE_CRITICAL ? VR_HEALTH_CRITICAL : VR_HEALTH_WARNING,
            in->store_percent > STORE_CRITICAL ? "store-full" : "store-filling",
            "Free space there, or keep fewer recovery points.",
            "domain '%s': the file system of store '%s' is %d %% full", in->domain,
            in->store ? in->store : "?", in->store_percent);
    if (in->cert_days <= CERT_WARNING_DAYS)
        add(reasons, VR_HEALTH_WARNING, "certificate-expires", "Pair the two hosts again.",
            "hosts '%s' and '%s': a certificate expires in %d days", in->host, in->peer,
            MAX(in->cert_days, 0));
    if (in->clock_jumped)
        add(reasons, VR_HEALTH_WARNING, "clock-jumped", "Check the clock of this host.",
            "host '%s': the clock was moved by over 10 minutes; no recovery points of domain '%s' "
            "expire until it is steady",
            in->host, in->domain);
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

    if (input->two_owners)
        add(reasons, VR_HEALTH_CRITICAL, "two-owners",
            "Choose the side whose data counts; the other side's data is kept.",
            "domain '%s': hosts '%s' and '%s' both went on as its owner", input->domain,
            input->host, input->peer);
    judge_state(input, reasons);
    judge_error(input, reasons);
    judge_rpo(input, reasons);
    judge_cycles(input, reasons);
    judge_app_points(input, reasons);
    judge_host(input, reasons);
    g_ptr_array_sort(reasons, worst_first);
    if (reasons->len > 0)
        worst = ((VrHealthReason *) g_ptr_array_index(reasons, 0))->severity;
    if (ret_reasons)
        *ret_reasons = g_steal_pointer(&reasons);
    return worst;
}
