/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/retention.h"

#define HOUR_US (3600 * (gint64) G_USEC_PER_SEC)
#define DAY_US (24 * HOUR_US)
#define JUMP_US (10 * 60 * (gint64) G_USEC_PER_SEC)

/* Why a point stays, the strongest reason. The cap takes from the weakest upwards. */
typedef enum {
    KEEP_NOT,
    KEEP_ALL,
    KEEP_HOURLY,
    KEEP_DAILY,
    KEEP_ALWAYS,
} Keep;

static gint64
floor_div(gint64 value, gint64 by)
{
    gint64 quotient = value / by;

    return value % by < 0 ? quotient - 1 : quotient;
}

/* The last point of each of the newest @count buckets of @width. */
static void
keep_buckets(const VrRetentionPoint *points, guint n_points, gint64 width, guint count, Keep reason,
             Keep *keep)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);

    for (guint i = n_points; i-- > 0 && g_hash_table_size(seen) < count;) {
        gint64 bucket = floor_div(points[i].time_us, width);

        if (g_hash_table_add(seen, g_memdup2(&bucket, sizeof(bucket))))
            keep[i] = MAX(keep[i], reason);
    }
}

static void
apply_rule(const VrRetentionPoint *points, guint n_points, const VrRetentionRule *rule,
           gint64 now_us, Keep *keep)
{
    gint64 cutoff = MIN(now_us, points[n_points - 1].time_us) - rule->all_us;

    for (guint i = 0; i < n_points; i++) {
        if (rule->all_us > 0 && points[i].time_us >= cutoff)
            keep[i] = KEEP_ALL;
    }
    keep_buckets(points, n_points, HOUR_US, rule->hourly, KEEP_HOURLY, keep);
    keep_buckets(points, n_points, DAY_US, rule->daily, KEEP_DAILY, keep);
    for (guint i = 0; i < n_points; i++) {
        if (points[i].pinned)
            keep[i] = KEEP_ALWAYS;
    }
    keep[n_points - 1] = KEEP_ALWAYS;
}

static guint
count_kept(const Keep *keep, guint n_points)
{
    guint kept = 0;

    for (guint i = 0; i < n_points; i++)
        kept += keep[i] != KEEP_NOT;
    return kept;
}

/* The gap that would be left, relative to the age: small where points lie dense or are old. */
static double
loss(const VrRetentionPoint *points, guint n_points, guint before, guint i, guint after)
{
    gint64 gap = MAX(points[after].time_us - points[before].time_us, 0);
    gint64 age = MAX(points[n_points - 1].time_us - points[i].time_us, 1);

    return (double) gap / (double) age;
}

/* The point the cap takes next, or n_points if only pinned ones and the newest are left. */
static guint
cheapest(const VrRetentionPoint *points, guint n_points, const Keep *keep)
{
    guint best = n_points;
    double best_loss = 0;
    guint before = n_points;

    for (guint i = 0; i + 1 < n_points; i++) {
        guint after = i + 1;
        double this_loss;

        if (keep[i] == KEEP_NOT)
            continue;
        while (keep[after] == KEEP_NOT)
            after++;
        this_loss = loss(points, n_points, before < n_points ? before : i, i, after);
        before = i;
        if (keep[i] == KEEP_ALWAYS)
            continue;
        if (best == n_points || keep[i] < keep[best] ||
            (keep[i] == keep[best] && this_loss < best_loss)) {
            best = i;
            best_loss = this_loss;
        }
    }
    return best;
}

static void
apply_cap(const VrRetentionPoint *points, guint n_points, guint max_layers, Keep *keep)
{
    for (guint kept = count_kept(keep, n_points); kept > max_layers; kept--) {
        guint victim = cheapest(points, n_points, keep);

        if (victim == n_points)
            return;
        keep[victim] = KEEP_NOT;
    }
}

static gboolean
jumped(const VrRetentionClock *clock)
{
    gint64 wall = clock->now_wall_us - clock->last_wall_us;
    gint64 boot = clock->now_boot_us - clock->last_boot_us;

    return clock->have_last && ABS(wall - boot) > JUMP_US;
}

void
vr_retention_select(const VrRetentionPoint *points, guint n_points, const VrRetentionRule *rule,
                    const VrRetentionClock *clock, guint max_layers, VrRetentionResult *ret_result)
{
    g_autofree Keep *keep = g_new0(Keep, n_points + 1);

    g_return_if_fail(max_layers > 0);
    *ret_result = (VrRetentionResult){.drop = g_array_new(FALSE, FALSE, sizeof(guint64))};
    if (n_points == 0)
        return;
    apply_rule(points, n_points, rule, clock->now_wall_us, keep);
    ret_result->wanted = count_kept(keep, n_points);
    if (jumped(clock) || !clock->have_last) {
        /* What the rule would drop is the first to go if the cap asks for it. */
        for (guint i = 0; i < n_points; i++)
            keep[i] = MAX(keep[i], KEEP_ALL);
    }
    apply_cap(points, n_points, max_layers, keep);
    ret_result->kept = count_kept(keep, n_points);
    for (guint i = 0; i < n_points; i++) {
        if (keep[i] == KEEP_NOT)
            g_array_append_val(ret_result->drop, points[i].number);
    }
}

gboolean
vr_retention_rule_shorter(const VrRetentionRule *rule, const VrRetentionRule *than)
{
    return rule->all_us < than->all_us || rule->hourly < than->hourly || rule->daily < than->daily;
}

VrRetentionRule
vr_retention_rule_with(const VrRetentionRule *rule, const VrRetentionBefore *before, gint64 now_us)
{
    if (before->until_us <= now_us)
        return *rule;
    return (VrRetentionRule){
        .all_us = MAX(rule->all_us, before->keep.all_us),
        .hourly = MAX(rule->hourly, before->keep.hourly),
        .daily = MAX(rule->daily, before->keep.daily),
    };
}

void
vr_retention_change(VrRetentionBefore *before, const VrRetentionRule *rule,
                    const VrRetentionRule *next, gint64 grace_us, gint64 now_us)
{
    const VrRetentionRule longest = vr_retention_rule_with(rule, before, now_us);
    gint64 until_us = before->until_us > now_us ? before->until_us : 0;

    if (grace_us <= 0 || !vr_retention_rule_shorter(next, &longest)) {
        *before = (VrRetentionBefore){.until_us = 0};
        return;
    }
    if (vr_retention_rule_shorter(next, rule))
        until_us = MAX(until_us, grace_us > G_MAXINT64 - now_us ? G_MAXINT64 : now_us + grace_us);
    *before = (VrRetentionBefore){.keep = longest, .until_us = until_us};
}

void
vr_retention_result_clear(VrRetentionResult *result)
{
    g_clear_pointer(&result->drop, g_array_unref);
}
