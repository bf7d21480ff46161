/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_format.h"

#include "policies/display.h"
#include "policies/units.h"

#include <string.h>

static const char *const size_units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};

/* Index of the unit in which @bytes is at least 1, and the unit's size. */
static guint
unit_of(double bytes, double *ret_unit)
{
    guint i = 0;
    double unit = 1;

    while (bytes >= unit * 1024 && i + 1 < G_N_ELEMENTS(size_units)) {
        unit *= 1024;
        i++;
    }
    *ret_unit = unit;
    return i;
}

char *
vr_cli_format_size(guint64 bytes)
{
    double unit = 1;
    guint i = unit_of((double) bytes, &unit);

    return g_strdup_printf("%.*f %s", i ? 2 : 0, (double) bytes / unit, size_units[i]);
}

char *
vr_cli_format_part(guint64 done, guint64 total)
{
    double unit = 1;
    guint i = unit_of((double) total, &unit);
    int digits = i ? 1 : 0;

    return g_strdup_printf("%.*f/%.*f %s", digits, (double) done / unit, digits,
                           (double) total / unit, size_units[i]);
}

char *
vr_cli_format_rate(double bytes_per_second)
{
    double rate = MAX(bytes_per_second, 0);
    double unit = 1;
    guint i = unit_of(rate, &unit);

    return g_strdup_printf("%.*f %s/s", i && rate / unit < 10 ? 1 : 0, rate / unit, size_units[i]);
}

char *
vr_cli_format_interval(gint64 seconds)
{
    gint64 s = MAX(seconds, 0);
    g_autofree char *clock = NULL;

    clock = g_strdup_printf("%d:%02d:%02d", (int) (s % 86400 / 3600), (int) (s % 3600 / 60),
                            (int) (s % 60));
    if (s < 86400)
        return g_steal_pointer(&clock);
    return g_strdup_printf("%" G_GINT64_FORMAT "d %s", s / 86400, clock);
}

char *
vr_cli_format_time(const char *rfc3339)
{
    g_autoptr(GDateTime) utc = NULL;
    g_autoptr(GDateTime) local = NULL;

    if (!rfc3339)
        return g_strdup("-");
    utc = g_date_time_new_from_iso8601(rfc3339, NULL);
    local = utc ? g_date_time_to_local(utc) : NULL;
    if (!local)
        return vr_cli_escape(rfc3339);
    return g_date_time_format(local, "%Y-%m-%d %H:%M:%S %z");
}

char *
vr_cli_escape(const char *text)
{
    return vr_display_text(text);
}

gsize
vr_cli_width(const char *text)
{
    gsize width = 0;

    for (; *text; text = g_utf8_next_char(text)) {
        gunichar c = g_utf8_get_char(text);

        if (!g_unichar_iszerowidth(c))
            width += g_unichar_iswide(c) ? 2 : 1;
    }
    return width;
}

gboolean
vr_cli_parse_duration(const char *text, gint64 *ret_seconds)
{
    gboolean bare = text[strspn(text, "0123456789")] == '\0';
    g_autofree char *with_unit = g_strconcat(text, bare ? "s" : "", NULL);
    gint64 us = 0;

    if (!vr_duration_parse(with_unit, &us, NULL))
        return FALSE;
    *ret_seconds = (us + G_USEC_PER_SEC - 1) / G_USEC_PER_SEC;
    return TRUE;
}
