/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/retention.h"

#define S ((gint64) G_USEC_PER_SEC)
#define HOUR (3600 * S)
#define DAY (24 * HOUR)
#define START (20000 * DAY)

static VrRetentionClock
steady(gint64 now)
{
    return (VrRetentionClock){TRUE, now - 60 * S, 1000 * S, now, 1060 * S};
}

static gboolean
dropped(const VrRetentionResult *result, guint64 number)
{
    for (guint i = 0; i < result->drop->len; i++) {
        if (g_array_index(result->drop, guint64, i) == number)
            return TRUE;
    }
    return FALSE;
}

/* Takes the dropped ones out of @points. */
static void
apply(GArray *points, const VrRetentionResult *result)
{
    for (guint i = points->len; i-- > 0;) {
        if (dropped(result, g_array_index(points, VrRetentionPoint, i).number))
            g_array_remove_index(points, i);
    }
}

static void
select_from(const GArray *points, const VrRetentionRule *rule, const VrRetentionClock *clock,
            guint max_layers, VrRetentionResult *result)
{
    vr_retention_select((const VrRetentionPoint *) (gconstpointer) points->data, points->len, rule,
                        clock, max_layers, result);
}

static void
test_few(void)
{
    const VrRetentionRule rule = {0, 0, 0};
    const VrRetentionClock clock = steady(START + HOUR);
    const VrRetentionPoint points[] = {{3, START, FALSE},
                                       {5, START + S, TRUE},
                                       {6, START + 2 * S, FALSE},
                                       {9, START + 3 * S, FALSE}};
    g_auto(VrRetentionResult) none = {0};
    g_auto(VrRetentionResult) one = {0};
    g_auto(VrRetentionResult) four = {0};

    vr_retention_select(NULL, 0, &rule, &clock, 128, &none);
    g_assert_cmpuint(none.drop->len, ==, 0);
    vr_retention_select(points, 1, &rule, &clock, 1, &one);
    g_assert_cmpuint(one.drop->len, ==, 0);
    vr_retention_select(points, 4, &rule, &clock, 128, &four);
    g_assert_cmpuint(four.drop->len, ==, 2);
    g_assert_cmpuint(g_array_index(four.drop, guint64, 0), ==, 3);
    g_assert_cmpuint(g_array_index(four.drop, guint64, 1), ==, 6);
    g_assert_cmpuint(four.wanted, ==, 2);
    g_assert_cmpuint(four.kept, ==, 2);
}

/* Ten days, an RP every 5 minutes, a pass behind each: what remains is what the rule says. */
static void
test_ten_days(void)
{
    const VrRetentionRule rule = {HOUR, 24, 7};
    g_autoptr(GArray) points = g_array_new(FALSE, FALSE, sizeof(VrRetentionPoint));
    guint within_hour = 0;
    gint64 now = START;

    for (guint64 n = 1; n <= 10 * 288; n++) {
        VrRetentionPoint point = {n, START + (gint64) n * 300 * S, FALSE};
        VrRetentionClock clock = steady(point.time_us);
        g_auto(VrRetentionResult) result = {0};

        g_array_append_val(points, point);
        select_from(points, &rule, &clock, 128, &result);
        apply(points, &result);
        now = point.time_us;
    }
    for (guint i = 0; i < points->len; i++)
        within_hour += g_array_index(points, VrRetentionPoint, i).time_us >= now - HOUR;
    g_assert_cmpuint(within_hour, ==, 13);
    g_assert_cmpuint(points->len, >=, 13 + 22 + 6 - 2);
    g_assert_cmpuint(points->len, <=, 13 + 24 + 7);
    g_assert_cmpint(g_array_index(points, VrRetentionPoint, 0).time_us, <=, now - 5 * DAY);
}

static void
test_one_second_for_a_day(void)
{
    const VrRetentionRule rule = {HOUR, 24, 7};
    g_autoptr(GArray) points = g_array_new(FALSE, FALSE, sizeof(VrRetentionPoint));
    gint64 now = START;
    guint hours = 0;
    gint64 last_hour = -1;

    for (guint64 n = 1; n <= 30000; n++) {
        VrRetentionPoint point = {n, START + (gint64) n * S, FALSE};
        VrRetentionClock clock = steady(point.time_us);
        g_auto(VrRetentionResult) result = {0};

        g_array_append_val(points, point);
        select_from(points, &rule, &clock, 128, &result);
        g_assert_cmpuint(result.kept, ==, MIN(n, 128));
        g_assert_cmpuint(result.wanted, >=, result.kept);
        apply(points, &result);
        now = point.time_us;
    }
    g_assert_cmpuint(points->len, ==, 128);
    for (guint i = 0; i < points->len; i++) {
        gint64 hour = g_array_index(points, VrRetentionPoint, i).time_us / HOUR;

        hours += hour != last_hour;
        last_hour = hour;
    }
    g_assert_cmpuint(hours, ==, 30000 / 3600 + 1);
    /* Within keep-all no hole is much larger than the age behind it. */
    for (guint i = 1; i < points->len; i++) {
        gint64 a = g_array_index(points, VrRetentionPoint, i - 1).time_us;
        gint64 b = g_array_index(points, VrRetentionPoint, i).time_us;

        if (a > now - HOUR)
            g_assert_cmpint(b - a, <=, 2 * S + (now - a) / 4);
    }
}

static void
test_clock_jump(void)
{
    const VrRetentionRule rule = {HOUR, 2, 1};
    const gint64 jumps[] = {365 * DAY, -DAY, 11 * 60 * S, -11 * 60 * S};
    VrRetentionPoint points[50];

    for (guint i = 0; i < 50; i++)
        points[i] = (VrRetentionPoint){i + 1, START + i * HOUR, FALSE};
    for (gsize i = 0; i < G_N_ELEMENTS(jumps); i++) {
        gint64 now = points[49].time_us + 60 * S;
        VrRetentionClock clock = {TRUE, now - 60 * S, 0, now + jumps[i], 60 * S};
        VrRetentionClock first = {.have_last = FALSE, .now_wall_us = now + jumps[i]};
        g_auto(VrRetentionResult) free_hand = {0};
        g_auto(VrRetentionResult) capped = {0};
        g_auto(VrRetentionResult) first_pass = {0};

        vr_retention_select(points, 50, &rule, &clock, 128, &free_hand);
        g_assert_cmpuint(free_hand.drop->len, ==, 0);
        vr_retention_select(points, 50, &rule, &clock, 40, &capped);
        g_assert_cmpuint(capped.drop->len, ==, 10);
        g_assert_false(dropped(&capped, 50));
        vr_retention_select(points, 50, &rule, &first, 128, &first_pass);
        g_assert_cmpuint(first_pass.drop->len, ==, 0);
    }
}

/* The wall clock runs a year ahead and nobody notices: hours and days that exist stay. */
static void
test_unnoticed_jump(void)
{
    const VrRetentionRule rule = {HOUR, 24, 7};
    g_autoptr(GArray) points = g_array_new(FALSE, FALSE, sizeof(VrRetentionPoint));
    g_auto(VrRetentionResult) result = {0};
    VrRetentionPoint ahead = {101, START + 400 * DAY, FALSE};
    VrRetentionClock clock = steady(ahead.time_us);

    for (guint i = 0; i < 100; i++) {
        VrRetentionPoint point = {i + 1, START + i * HOUR, FALSE};

        g_array_append_val(points, point);
    }
    g_array_append_val(points, ahead);
    select_from(points, &rule, &clock, 128, &result);
    g_assert_cmpuint(result.kept, >=, 24);
}

static void
test_all_pinned(void)
{
    const VrRetentionRule rule = {HOUR, 24, 7};
    VrRetentionClock clock = steady(START + DAY);
    VrRetentionPoint points[20];
    g_auto(VrRetentionResult) result = {0};

    for (guint i = 0; i < 20; i++)
        points[i] = (VrRetentionPoint){i + 1, START + i * S, TRUE};
    vr_retention_select(points, 20, &rule, &clock, 8, &result);
    g_assert_cmpuint(result.drop->len, ==, 0);
    g_assert_cmpuint(result.kept, ==, 20);
}

static void
check_properties(const GArray *points, const VrRetentionRule *rule, const VrRetentionClock *clock,
                 guint cap)
{
    g_auto(VrRetentionResult) result = {0};
    g_auto(VrRetentionResult) again = {0};
    g_autoptr(GArray) rest = g_array_copy((GArray *) points);
    guint fixed = 0;

    select_from(points, rule, clock, cap, &result);
    g_assert_cmpuint(result.kept + result.drop->len, ==, points->len);
    for (guint i = 0; i < points->len; i++) {
        const VrRetentionPoint *point = &g_array_index(points, VrRetentionPoint, i);

        if (!point->pinned && i + 1 < points->len)
            continue;
        fixed++;
        g_assert_false(dropped(&result, point->number));
    }
    g_assert_cmpuint(result.kept, <=, MAX(cap, fixed));
    for (guint i = 1; i < result.drop->len; i++)
        g_assert_cmpuint(g_array_index(result.drop, guint64, i - 1), <,
                         g_array_index(result.drop, guint64, i));
    apply(rest, &result);
    select_from(rest, rule, clock, cap, &again);
    g_assert_cmpuint(again.drop->len, ==, 0);
}

static void
test_properties(void)
{
    for (guint run = 0; run < 2000; run++) {
        g_autoptr(GArray) points = g_array_new(FALSE, FALSE, sizeof(VrRetentionPoint));
        VrRetentionRule rule = {g_test_rand_int_range(0, 5) * HOUR,
                                (guint) g_test_rand_int_range(0, 30),
                                (guint) g_test_rand_int_range(0, 10)};
        guint n = (guint) g_test_rand_int_range(1, 120);
        gint64 time = START;
        VrRetentionClock clock;

        for (guint i = 0; i < n; i++) {
            VrRetentionPoint point = {i * 3 + 1, time, g_test_rand_int_range(0, 12) == 0};

            /* Now and then the clock steps back. */
            time += g_test_rand_int_range(-300, 7200) * S * (run % 3 == 0 ? 20 : 1);
            g_array_append_val(points, point);
        }
        clock = steady(time + g_test_rand_int_range(-7200, 7200) * S);
        clock.have_last = run % 10 != 0;
        check_properties(points, &rule, &clock, (guint) g_test_rand_int_range(1, 130));
    }
}

/* Whoever may send RPs sends as many as it can: the history of before stays. */
static void
test_flood(void)
{
    const VrRetentionRule rule = {DAY, 24, 7};
    g_autoptr(GArray) points = g_array_new(FALSE, FALSE, sizeof(VrRetentionPoint));

    for (guint64 n = 1; n <= 5; n++) {
        VrRetentionPoint point = {n, START + (gint64) n * HOUR, FALSE};

        g_array_append_val(points, point);
    }
    for (guint64 n = 6; n <= 4000; n++) {
        VrRetentionPoint point = {n, START + 6 * HOUR + (gint64) n * S, FALSE};
        VrRetentionClock clock = steady(point.time_us);
        g_auto(VrRetentionResult) result = {0};

        g_array_append_val(points, point);
        select_from(points, &rule, &clock, 128, &result);
        apply(points, &result);
        for (guint64 i = 0; i < 5; i++)
            g_assert_cmpuint(g_array_index(points, VrRetentionPoint, i).number, ==, i + 1);
    }
    g_assert_cmpuint(points->len, ==, 128);
}

static void
assert_rule(const VrRetentionRule *rule, gint64 all_us, guint hourly, guint daily)
{
    g_assert_cmpint(rule->all_us, ==, all_us);
    g_assert_cmpuint(rule->hourly, ==, hourly);
    g_assert_cmpuint(rule->daily, ==, daily);
}

static void
test_shorter_rule(void)
{
    const VrRetentionRule long_rule = {DAY, 24, 7};
    const VrRetentionRule short_rule = {S, 0, 0};
    const VrRetentionRule mixed = {2 * DAY, 12, 7};
    VrRetentionBefore before = {.until_us = 0};
    VrRetentionRule now;

    g_assert_false(vr_retention_rule_shorter(&long_rule, &long_rule));
    g_assert_true(vr_retention_rule_shorter(&mixed, &long_rule));
    g_assert_true(vr_retention_rule_shorter(&long_rule, &mixed));

    vr_retention_change(&before, &short_rule, &long_rule, DAY, START); /* a longer one: at once */
    g_assert_cmpint(before.until_us, ==, 0);
    vr_retention_change(&before, &long_rule, &short_rule, 7 * DAY, START);
    g_assert_cmpint(before.until_us, ==, START + 7 * DAY);
    now = vr_retention_rule_with(&short_rule, &before, START + 7 * DAY - 1);
    assert_rule(&now, DAY, 24, 7);
    now = vr_retention_rule_with(&short_rule, &before, START + 7 * DAY);
    assert_rule(&now, S, 0, 0);

    /* The same again, and a detour over another one, end nothing earlier. */
    vr_retention_change(&before, &short_rule, &short_rule, 7 * DAY, START + DAY);
    g_assert_cmpint(before.until_us, ==, START + 7 * DAY);
    vr_retention_change(&before, &short_rule, &mixed, DAY, START + DAY);
    assert_rule(&before.keep, DAY, 24, 7);
    g_assert_cmpint(before.until_us, ==, START + 7 * DAY);
    vr_retention_change(&before, &mixed, &short_rule, DAY, START + 2 * DAY);
    assert_rule(&before.keep, 2 * DAY, 24, 7);
    g_assert_cmpint(before.until_us, ==, START + 7 * DAY);
    vr_retention_change(&before, &short_rule, &(VrRetentionRule){0}, 7 * DAY, START + 3 * DAY);
    g_assert_cmpint(before.until_us, ==, START + 10 * DAY);
    assert_rule(&before.keep, 2 * DAY, 24, 7);

    /* What is over is not kept on. */
    vr_retention_change(&before, &mixed, &short_rule, DAY, START + 20 * DAY);
    assert_rule(&before.keep, 2 * DAY, 12, 7);
    g_assert_cmpint(before.until_us, ==, START + 21 * DAY);

    /* The operator wants no grace, or for ever. */
    vr_retention_change(&before, &mixed, &short_rule, G_MAXINT64, START);
    g_assert_cmpint(before.until_us, ==, G_MAXINT64);
    vr_retention_change(&before, &mixed, &short_rule, 0, START);
    g_assert_cmpint(before.until_us, ==, 0);
}

/* The larger of each part keeps what either rule keeps, no less and no more. */
static void
test_union(void)
{
    for (guint run = 0; run < 500; run++) {
        VrRetentionPoint points[60];
        VrRetentionRule a = {g_test_rand_int_range(0, 5) * HOUR,
                             (guint) g_test_rand_int_range(0, 30),
                             (guint) g_test_rand_int_range(0, 10)};
        VrRetentionBefore b = {{g_test_rand_int_range(0, 5) * HOUR,
                                (guint) g_test_rand_int_range(0, 30),
                                (guint) g_test_rand_int_range(0, 10)},
                               G_MAXINT64};
        VrRetentionRule both = vr_retention_rule_with(&a, &b, START);
        g_auto(VrRetentionResult) of_a = {0};
        g_auto(VrRetentionResult) of_b = {0};
        g_auto(VrRetentionResult) of_both = {0};
        gint64 time = START;
        VrRetentionClock clock;

        for (guint i = 0; i < G_N_ELEMENTS(points); i++) {
            points[i] = (VrRetentionPoint){i + 1, time, FALSE};
            time += g_test_rand_int_range(1, 14400) * S;
        }
        clock = steady(time);
        vr_retention_select(points, G_N_ELEMENTS(points), &a, &clock, 128, &of_a);
        vr_retention_select(points, G_N_ELEMENTS(points), &b.keep, &clock, 128, &of_b);
        vr_retention_select(points, G_N_ELEMENTS(points), &both, &clock, 128, &of_both);
        for (guint64 n = 1; n <= G_N_ELEMENTS(points); n++)
            g_assert_cmpint(dropped(&of_both, n), ==, dropped(&of_a, n) && dropped(&of_b, n));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/retention/few", test_few);
    g_test_add_func("/retention/ten-days", test_ten_days);
    g_test_add_func("/retention/one-second-for-a-day", test_one_second_for_a_day);
    g_test_add_func("/retention/clock-jump", test_clock_jump);
    g_test_add_func("/retention/unnoticed-jump", test_unnoticed_jump);
    g_test_add_func("/retention/all-pinned", test_all_pinned);
    g_test_add_func("/retention/properties", test_properties);
    g_test_add_func("/retention/flood", test_flood);
    g_test_add_func("/retention/shorter-rule", test_shorter_rule);
    g_test_add_func("/retention/union", test_union);
    return g_test_run();
}
