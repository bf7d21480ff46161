/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: which recovery points to drop.
 *
 * Whoever chooses the points' times chooses what is dropped, so they must be times of the host that
 * keeps them (when it stored the RP), never what a source says. Then nobody can push history out
 * by sending quickly: a second RP within an hour takes the place of the one before it, not of an
 * older hour's, and the cap takes points where they lie densest for their age, which are the
 * sender's latest ones.
 *
 * Kept are: the newest; the pinned; all not older than all_us; the last one of each of the newest
 * `hourly` hours and `daily` days (UTC) that have one. Hours and days are counted among those that
 * exist, and ages are measured from the newest RP (or from now, if that is earlier), so neither a
 * source that is silent nor a clock that is wrong empties the store.
 */

typedef struct {
    gint64 all_us;
    guint hourly;
    guint daily;
} VrRetentionRule;

typedef struct {
    guint64 number;
    gint64 time_us; /* wall clock of this host */
    gboolean pinned;
} VrRetentionPoint;

/* The wall clock and one that counts through suspend (CLOCK_BOOTTIME), read together; the earlier
 * pair must be of the same boot. */
typedef struct {
    gboolean have_last; /* FALSE: first pass since the daemon started */
    gint64 last_wall_us;
    gint64 last_boot_us;
    gint64 now_wall_us;
    gint64 now_boot_us;
} VrRetentionClock;

typedef struct {
    GArray *drop; /* guint64 numbers, ascending; owned */
    guint wanted; /* RPs the rule and the pins would keep */
    guint kept;   /* RPs that remain; may pass the cap only through pins */
} VrRetentionResult;

/**
 * vr_retention_select:
 * @points: the listed RPs, ascending by number
 * @max_layers: how many may remain, at least 1; unpinned ones are dropped beyond the rule to
 *   hold it, first those kept only by all_us, then hourly, then daily; where they lie densest for
 *   their age first
 *
 * On the first pass, and when the clocks disagree by over 10 minutes since the last one, only the
 * cap is applied. Selecting again from what remains, at the same time, drops nothing.
 */
void vr_retention_select(const VrRetentionPoint *points, guint n_points,
                         const VrRetentionRule *rule, const VrRetentionClock *clock,
                         guint max_layers, VrRetentionResult *ret_result);

/**
 * A rule that was longer and still holds for a while. The rule is what a source says, and it may
 * say something shorter at any time; what it said before goes on holding until the grace is over.
 */
typedef struct {
    VrRetentionRule keep;
    gint64 until_us; /* wall; 0: there is none */
} VrRetentionBefore;

/** TRUE if @rule keeps less than @than in any respect. */
gboolean vr_retention_rule_shorter(const VrRetentionRule *rule, const VrRetentionRule *than);

/** Keeps exactly what @rule keeps and, until its time, what @before keeps: each of the three parts
 * keeps the more the larger it is, so the larger of each is the union of both. */
VrRetentionRule vr_retention_rule_with(const VrRetentionRule *rule, const VrRetentionBefore *before,
                                       gint64 now_us);

/**
 * vr_retention_change:
 * @before: in: what held beside @rule; out: what holds beside @next
 * @grace_us: how long a rule that was longer still holds; 0: not at all
 *
 * However often the rule changes, nothing that was kept is dropped earlier for it: the longest of
 * each part stays, and its time only moves ahead.
 */
void vr_retention_change(VrRetentionBefore *before, const VrRetentionRule *rule,
                         const VrRetentionRule *next, gint64 grace_us, gint64 now_us);

void vr_retention_result_clear(VrRetentionResult *result);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrRetentionResult, vr_retention_result_clear)

G_END_DECLS
