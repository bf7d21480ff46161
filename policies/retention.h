/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: which recovery points to drop.
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
    gint64 time_us; /* wall clock */
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

void vr_retention_result_clear(VrRetentionResult *result);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrRetentionResult, vr_retention_result_clear)

G_END_DECLS
