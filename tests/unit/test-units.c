/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/error.h"
#include "policies/units.h"

#define S ((gint64) G_USEC_PER_SEC)

static void
test_durations(void)
{
    static const struct {
        const char *text;
        gint64 us;
        const char *printed;
    } rows[] = {
        {"30s", 30 * S, "30s"},    {"2min", 120 * S, "2min"},
        {"1h", 3600 * S, "1h"},    {"14d", 14 * 86400 * S, "14d"},
        {"90s", 90 * S, "90s"},    {"120 s", 120 * S, "2min"},
        {"500ms", S / 2, "500ms"}, {"24h", 86400 * S, "1d"},
        {"7us", 7, "7us"},         {"0s", 0, "0s"},
    };
    static const char *const bad[] = {"",
                                      "30",
                                      "s",
                                      "-1s",
                                      "1.5h",
                                      "1m",
                                      "1 h ",
                                      "1  h",
                                      "1H",
                                      "99999999999999999999s",
                                      "4000d",
                                      "+1s",
                                      "300000000000000d"};

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        gint64 us = -1;
        g_autofree char *printed = NULL;

        g_assert_true(vr_duration_parse(rows[i].text, &us, NULL));
        g_assert_cmpint(us, ==, rows[i].us);
        printed = vr_duration_format(us);
        g_assert_cmpstr(printed, ==, rows[i].printed);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        gint64 us = 77;

        g_assert_false(vr_duration_parse(bad[i], &us, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
        g_assert_cmpint(us, ==, 77);
    }
}

static void
test_sizes_and_rates(void)
{
    static const char *const bad[] = {"", "KiB", "1kB", "-1", "1 ", "20000000TiB", "0x10", "1e3"};
    guint64 value = 0;
    guint percent = 7;

    g_assert_true(vr_size_parse("4096", &value, NULL));
    g_assert_cmpuint(value, ==, 4096);
    g_assert_true(vr_size_parse("20 MiB", &value, NULL));
    g_assert_cmpuint(value, ==, 20971520);
    g_assert_true(vr_size_parse("3GB", &value, NULL));
    g_assert_cmpuint(value, ==, G_GUINT64_CONSTANT(3000000000));
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(vr_size_parse(bad[i], &value, NULL));
    g_assert_true(vr_rate_parse("20MiB/s", &value, NULL));
    g_assert_cmpuint(value, ==, 20971520);
    g_assert_true(vr_rate_parse("0", &value, NULL));
    g_assert_cmpuint(value, ==, 0);
    g_assert_false(vr_rate_parse("20MiB", &value, NULL));
    g_assert_false(vr_rate_parse("/s", &value, NULL));
    g_assert_false(vr_rate_parse(NULL, &value, NULL));
    g_assert_true(vr_percent_parse("10%", &percent, NULL));
    g_assert_cmpuint(percent, ==, 10);
    g_assert_false(vr_percent_parse("101%", &percent, NULL));
    g_assert_false(vr_percent_parse("10", &percent, NULL));
}

static void
test_sizes_round_trip(void)
{
    for (guint i = 0; i < 5000; i++) {
        guint64 value = ((guint64) g_test_rand_int() << (g_test_rand_int() & 31)) & ~1u;
        guint64 back = 1;
        g_autofree char *size = vr_size_format(value);
        g_autofree char *rate = vr_rate_format(value);

        g_assert_true(vr_size_parse(size, &back, NULL));
        g_assert_cmpuint(back, ==, value);
        g_assert_true(vr_rate_parse(rate, &back, NULL));
        g_assert_cmpuint(back, ==, value);
    }
}

static void
test_times(void)
{
    gint64 us = 0;
    g_autofree char *text = vr_time_format(G_GINT64_CONSTANT(1795396571942123));
    g_autofree char *early = vr_time_format(-1);
    g_autofree char *never = vr_time_format(G_MAXINT64);

    g_assert_cmpstr(text, ==, "2026-11-23T01:16:11.942Z");
    g_assert_cmpstr(early, ==, "1969-12-31T23:59:59.999Z");
    g_assert_null(never);
    g_assert_true(vr_time_parse(text, &us, NULL));
    g_assert_cmpint(us, ==, G_GINT64_CONSTANT(1795396571942000));
    g_assert_true(vr_time_parse("2026-11-23T02:16:11+01:00", &us, NULL));
    g_assert_cmpint(us, ==, G_GINT64_CONSTANT(1795396571000000));
    g_assert_false(vr_time_parse("2026-11-23T02:16:11", &us, NULL));
    g_assert_false(vr_time_parse("yesterday", &us, NULL));
    g_assert_false(vr_time_parse(NULL, &us, NULL));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/units/durations", test_durations);
    g_test_add_func("/units/sizes-and-rates", test_sizes_and_rates);
    g_test_add_func("/units/sizes-round-trip", test_sizes_round_trip);
    g_test_add_func("/units/times", test_times);
    return g_test_run();
}
