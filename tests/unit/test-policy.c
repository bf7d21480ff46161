/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/error.h"
#include "policies/keyfile.h"
#include "policies/policy.h"

#define S ((gint64) G_USEC_PER_SEC)

static VrPolicy *
parse(const char *text, GError **error)
{
    return vr_policy_parse("gold", "gold.conf", text, strlen(text), error);
}

static void
test_defaults(void)
{
    g_autoptr(VrPolicy) built_in = vr_policy_default();
    g_autoptr(VrPolicy) empty = parse("", NULL);
    g_autofree char *a = vr_policy_to_text(built_in);
    g_autofree char *b = NULL;

    g_assert_nonnull(empty);
    b = vr_policy_to_text(empty);
    g_assert_cmpstr(a, ==, b);
    g_assert_cmpstr(a, ==,
                    "[policy]\n"
                    "interval = 30s\n"
                    "rpo-target = 2min\n"
                    "keep-all = 1h\n"
                    "keep-hourly = 24\n"
                    "keep-daily = 7\n"
                    "app-consistent = off\n"
                    "freeze-timeout = 5s\n"
                    "compression = auto\n"
                    "bandwidth = 0\n"
                    "resync-window = always\n"
                    "initial-start = now\n"
                    "start-guard = normal\n"
                    "commit-after = never\n"
                    "allow-remote-failover = no\n"
                    "verify-interval = 7d\n"
                    "test-cleanup-after = 14d\n"
                    "scratch-limit = 10%\n"
                    "shutdown-timeout = 5min\n");
    g_assert_false(built_in->allow_remote_failover);
    g_assert_cmpstr(built_in->name, ==, "default");
    g_assert_cmpstr(empty->name, ==, "gold");
}

static void
test_every_key(void)
{
    static const char text[] = "# gold\n"
                               "[policy]\n"
                               "interval = 1s\n"
                               "rpo-target=10s\n"
                               "keep-all = 2h\n"
                               "keep-hourly = 0\n"
                               "keep-daily = 30\n"
                               "app-consistent = 1h\n"
                               "freeze-timeout = 3s\n"
                               "compression = zstd\n"
                               "bandwidth = 100MiB/s\n"
                               "bandwidth-window = Mon-Fri 08:00-18:00 20MiB/s\n"
                               "bandwidth-window = Sat,Sun 22:00-06:00 0\n"
                               "resync-window = 18:30-06:00\n"
                               "initial-start = 2026-11-23T20:00:00.000Z\n"
                               "start-guard = strict\n"
                               "commit-after = 30min\n"
                               "allow-remote-failover = yes\n"
                               "verify-interval = 12h\n"
                               "test-cleanup-after = 1d\n"
                               "scratch-limit = 25%\n"
                               "shutdown-timeout = 90s\n";
    g_autoptr(GError) error = NULL;
    g_autoptr(VrPolicy) policy = parse(text, &error);
    g_autoptr(VrPolicy) again = NULL;
    g_autofree char *dump = NULL;
    g_autofree char *dump_again = NULL;

    g_assert_no_error(error);
    g_assert_cmpint(policy->interval_us, ==, S);
    g_assert_cmpint(policy->rpo_target_us, ==, 10 * S);
    g_assert_cmpint(policy->verify_interval_us, ==, 12 * 3600 * S);
    g_assert_cmpint(policy->app_consistent_us, ==, 3600 * S);
    g_assert_cmpuint(policy->compression, ==, VR_COMPRESSION_ZSTD);
    g_assert_cmpuint(policy->bandwidth_windows->len, ==, 2);
    g_assert_cmpuint(policy->start_guard, ==, VR_START_GUARD_STRICT);
    g_assert_cmpuint(policy->scratch_limit_percent, ==, 25);
    g_assert_true(policy->allow_remote_failover);
    dump = vr_policy_to_text(policy);
    again = parse(dump, &error);
    g_assert_no_error(error);
    dump_again = vr_policy_to_text(again);
    g_assert_cmpstr(dump, ==, dump_again);
}

static void
test_errors(void)
{
    static const struct {
        const char *text;
        const char *message;
    } rows[] = {
        {"[policy]\nevery = 1s\n", "gold.conf:2: unknown key 'every' in [policy]"},
        {"[policy]\nintervall = 1s\n",
         "gold.conf:2: unknown key 'intervall' in [policy] (did you mean 'interval'?)"},
        {"[policy]\n\n# c\nkeep-dayly = 1\n",
         "gold.conf:4: unknown key 'keep-dayly' in [policy] (did you mean 'keep-daily'?)"},
        {"[policy]\ninterval = 1s\ninterval = 2s\n",
         "gold.conf:3: 'interval' again, it is set in line 2"},
        {"[policy]\n[policy]\n", "gold.conf:2: group [policy] again"},
        {"[police]\ninterval = 1s\n",
         "gold.conf:2: 'interval' stands in the unknown group [police]"},
        {"interval = 1s\n", "gold.conf:1: 'interval' stands before the first [group]"},
        {"[policy]\ninterval = 1s # fast\n",
         "gold.conf:2: a comment behind a value would be part of it; put it on a line of its own"},
        {"[policy]\ninterval\n", "gold.conf:2: expected 'key = value', '[group]' or a comment"},
        {"[policy\n", "gold.conf:1: '[policy' is not a [group]"},
        {"[policy]\ninterval = 500ms\n", "gold.conf:2: interval: '500ms' is not within 1s to 1d"},
        {"[policy]\ninterval = off\n",
         "gold.conf:2: interval: 'off' is not a duration such as 500ms, 30s, 2min, 1h or 14d"},
        {"[policy]\ninterval =\n",
         "gold.conf:2: interval: '' is not a duration such as 500ms, 30s, 2min, 1h or 14d"},
        {"[policy]\ncompression = gzip\n",
         "gold.conf:2: compression: 'gzip' is not one of auto, zstd, off"},
        {"[policy]\nscratch-limit = 0%\n",
         "gold.conf:2: scratch-limit: '0%' is not within 1% to 100%"},
        {"[policy]\nkeep-daily = -1\n", "gold.conf:2: keep-daily: '-1' is not a number"},
        {"[policy]\nkeep-daily = 10001\n",
         "gold.conf:2: keep-daily: '10001' is not within 0 to 10000"},
        {"[policy]\nbandwidth-window = 20MiB/s\n",
         "gold.conf:2: bandwidth-window: '20MiB/s' is not a window and a rate such as Mon-Fri "
         "08:00-18:00 20MiB/s"},
        {"[policy]\nbandwidth-window = Mon-Fri 08:00-18:00\n",
         "gold.conf:2: bandwidth-window: 'Mon-Fri 08:00-18:00' is not a window and a rate such as "
         "Mon-Fri 08:00-18:00 20MiB/s"},
        {"[policy]\nbandwidth-window = Fry 08:00-18:00 1MiB/s\n",
         "gold.conf:2: bandwidth-window: 'Fry 08:00-18:00' is not a window such as 18:30-06:00 or "
         "Mon-Fri 08:00-18:00"},
        {"[policy]\nresync-window = 25:00-06:00\n",
         "gold.conf:2: resync-window: '25:00-06:00' is not a window such as 18:30-06:00 or "
         "Mon-Fri 08:00-18:00"},
        {"[policy]\ninterval = 1h\nrpo-target = 30min\n",
         "gold.conf:3: rpo-target (30min) is shorter than interval (1h), so it could never be "
         "held"},
        {"[policy]\n\nx\xff = 1\n", "gold.conf:3: not UTF-8 text"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(parse(rows[i].text, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
        g_assert_cmpstr(error->message, ==, rows[i].message);
    }
    g_assert_null(vr_policy_parse("../x", "f", "", 0, NULL));
    g_assert_null(vr_policy_parse("x", "f", "[policy]\0interval = 1s", 22, NULL));
}

static void
test_limits(void)
{
    g_autofree char *huge = g_strnfill(VR_KEYFILE_SIZE_MAX + 1, '\n');
    g_autofree char *line = g_strnfill(1001, '#');
    GString *many = g_string_new("[policy]\n");
    g_autoptr(VrPolicy) windows_crlf = parse("[policy]\r\ninterval = 1s\r\n", NULL);

    g_assert_null(parse(huge, NULL));
    g_assert_null(parse(line, NULL));
    for (int i = 0; i < 33; i++)
        g_string_append(many, "bandwidth-window = 08:00-18:00 1MiB/s\n");
    g_assert_null(parse(many->str, NULL));
    g_string_free(many, TRUE);
    g_assert_nonnull(windows_crlf);
}

static void
test_rpo_follows_interval(void)
{
    g_autoptr(VrPolicy) slow = parse("[policy]\ninterval = 1h\n", NULL);
    g_autoptr(VrPolicy) quick = parse("[policy]\ninterval = 1s\n", NULL);

    g_assert_cmpint(slow->rpo_target_us, ==, 7200 * S);
    g_assert_cmpint(quick->rpo_target_us, ==, 120 * S);
}

static void
test_random_text(void)
{
    static const char alphabet[] = "[]policy=interval 1s\n#;\r\t-keep\0\xff";

    for (guint run = 0; run < 20000; run++) {
        char text[64];
        gsize length = (gsize) g_test_rand_int_range(0, sizeof(text));
        g_autoptr(GError) error = NULL;
        g_autoptr(VrPolicy) policy = NULL;

        for (gsize i = 0; i < length; i++)
            text[i] = alphabet[g_test_rand_int_range(0, sizeof(alphabet) - 1)];
        policy = vr_policy_parse("x", "x.conf", text, length, &error);
        g_assert_true((policy == NULL) == (error != NULL));
    }
}

static GDateTime *
at(const char *text)
{
    return g_date_time_new_from_iso8601(text, NULL);
}

static void
test_bandwidth(void)
{
    g_autoptr(VrPolicy) policy = parse("[policy]\nbandwidth = 5MiB/s\n"
                                       "bandwidth-window = Mon-Fri 08:00-18:00 1MiB/s\n"
                                       "bandwidth-window = Fri 17:00-20:00 0\n",
                                       NULL);
    g_autoptr(GDateTime) monday = at("2026-11-23T08:00:00Z");
    g_autoptr(GDateTime) early = at("2026-11-23T07:59:59Z");
    g_autoptr(GDateTime) friday = at("2026-11-27T17:30:00Z");
    g_autoptr(GDateTime) later = at("2026-11-27T18:00:00Z");

    g_assert_cmpuint(vr_policy_bandwidth_at(policy, monday), ==, 1 << 20);
    g_assert_cmpuint(vr_policy_bandwidth_at(policy, early), ==, 5 << 20);
    g_assert_cmpuint(vr_policy_bandwidth_at(policy, friday), ==, 1 << 20);
    g_assert_cmpuint(vr_policy_bandwidth_at(policy, later), ==, 0);
}

static void
test_windows(void)
{
    static const char *const good[] = {"18:30-06:00", "Mon-Fri 08:00-18:00", "Sat-Sun 00:00-24:00",
                                       "Mon,Wed,Fri-Sun 12:00-12:00", "Mon-Tue,Sun 23:59-00:00"};
    static const char *const bad[] = {"",
                                      "18:30",
                                      "18:30-06:0",
                                      "Foo 18:30-06:00",
                                      "24:00-06:00",
                                      "18:60-06:00",
                                      "18:30-24:01",
                                      "Mon- 18:30-06:00",
                                      "Mon,,Tue 18:30-06:00",
                                      "Mon  18:30-06:00",
                                      "-:30-06:00x"};

    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        VrWindow window;
        g_autofree char *text = NULL;

        g_assert_true(vr_window_parse(good[i], &window, NULL));
        text = vr_window_format(&window);
        g_assert_cmpstr(text, ==, good[i]);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        VrWindow window;

        g_assert_false(vr_window_parse(bad[i], &window, NULL));
    }
}

/* Against a walk over every minute of a week. */
static void
test_window_walk(void)
{
    g_autoptr(GDateTime) week = at("2026-11-23T00:00:00Z");

    for (guint run = 0; run < 12; run++) {
        VrWindow window = {(guint8) g_test_rand_int_range(1, 128),
                           (guint16) g_test_rand_int_range(0, 1440),
                           (guint16) g_test_rand_int_range(0, 1441)};
        int length = (window.end - window.start + 1440 - 1) % 1440 + 1;
        gboolean open[7 * 1440] = {FALSE};

        if (window.start == 0 && window.end == 1440)
            length = 1440;
        for (int day = 0; day < 7; day++) {
            for (int m = 0; (window.days & (1 << day)) && m < length; m++)
                open[(day * 1440 + window.start + m) % (7 * 1440)] = TRUE;
        }
        for (int m = 0; m < 7 * 1440; m += 7) {
            g_autoptr(GDateTime) now = g_date_time_add_minutes(week, m);

            g_assert_cmpint(vr_window_contains(&window, now), ==, open[m]);
        }
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/policy/defaults", test_defaults);
    g_test_add_func("/policy/every-key", test_every_key);
    g_test_add_func("/policy/errors", test_errors);
    g_test_add_func("/policy/limits", test_limits);
    g_test_add_func("/policy/rpo-follows-interval", test_rpo_follows_interval);
    g_test_add_func("/policy/random-text", test_random_text);
    g_test_add_func("/policy/bandwidth", test_bandwidth);
    g_test_add_func("/policy/windows", test_windows);
    g_test_add_func("/policy/window-walk", test_window_walk);
    return g_test_run();
}
