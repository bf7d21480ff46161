/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/units.h"

#include <string.h>

#include "policies/error.h"

#define SECOND ((guint64) G_USEC_PER_SEC)
#define DURATION_MAX (3653 * 24 * 3600 * SECOND)

typedef struct {
    const char *name;
    guint64 factor;
} Unit;

/* Descending; the printer takes the first that divides. */
static const Unit duration_units[] = {
    {"d", 24 * 3600 * SECOND},
    {"h", 3600 * SECOND},
    {"min", 60 * SECOND},
    {"s", SECOND},
    {"ms", 1000},
    {"us", 1},
};

static const Unit size_units[] = {
    {"TiB", G_GUINT64_CONSTANT(1) << 40},
    {"GiB", G_GUINT64_CONSTANT(1) << 30},
    {"MiB", G_GUINT64_CONSTANT(1) << 20},
    {"KiB", G_GUINT64_CONSTANT(1) << 10},
};

static const Unit decimal_units[] = {
    {"TB", G_GUINT64_CONSTANT(1000000000000)},
    {"GB", 1000000000},
    {"MB", 1000000},
    {"KB", 1000},
};

/* Digits, at most one blank, the rest of the text. FALSE if it does not begin with a number. */
static gboolean
split(const char *text, guint64 *ret_number, const char **ret_unit)
{
    guint64 number = 0;
    const char *c = text;

    if (!text || !g_ascii_isdigit(*c))
        return FALSE;
    for (; g_ascii_isdigit(*c); c++) {
        if (!g_uint64_checked_mul(&number, number, 10) ||
            !g_uint64_checked_add(&number, number, (guint64) (*c - '0')))
            return FALSE;
    }
    if (*c == ' ' && c[1] != '\0')
        c++;
    *ret_number = number;
    *ret_unit = c;
    return TRUE;
}

static gboolean
scale(guint64 number, const char *name, const Unit *units, gsize n_units, guint64 *ret_value)
{
    for (gsize i = 0; i < n_units; i++) {
        if (strcmp(units[i].name, name) == 0)
            return g_uint64_checked_mul(ret_value, number, units[i].factor);
    }
    return FALSE;
}

static char *
print(guint64 value, const Unit *units, gsize n_units)
{
    for (gsize i = 0; value != 0 && i < n_units; i++) {
        if (value % units[i].factor == 0)
            return g_strdup_printf("%" G_GUINT64_FORMAT "%s", value / units[i].factor,
                                   units[i].name);
    }
    return g_strdup_printf("%" G_GUINT64_FORMAT, value);
}

static gboolean
refuse(const char *text, const char *what, GError **error)
{
    vr_set_error(error, VR_ERROR_INVALID, "bad-value", NULL, "'%s' is not %s", text ? text : "",
                 what);
    return FALSE;
}

gboolean
vr_duration_parse(const char *text, gint64 *ret_us, GError **error)
{
    guint64 number;
    guint64 us = 0;
    const char *unit;

    if (!split(text, &number, &unit) ||
        !scale(number, unit, duration_units, G_N_ELEMENTS(duration_units), &us) ||
        us > DURATION_MAX)
        return refuse(text, "a duration such as 500ms, 30s, 2min, 1h or 14d", error);
    *ret_us = (gint64) us;
    return TRUE;
}

char *
vr_duration_format(gint64 us)
{
    g_return_val_if_fail(us >= 0, NULL);
    if (us == 0)
        return g_strdup("0s");
    return print((guint64) us, duration_units, G_N_ELEMENTS(duration_units));
}

static gboolean
parse_bytes(const char *text, guint64 *ret_bytes)
{
    guint64 number;
    const char *unit;

    if (!split(text, &number, &unit))
        return FALSE;
    if (*unit == '\0') {
        *ret_bytes = number;
        return TRUE;
    }
    return scale(number, unit, size_units, G_N_ELEMENTS(size_units), ret_bytes) ||
           scale(number, unit, decimal_units, G_N_ELEMENTS(decimal_units), ret_bytes);
}

gboolean
vr_size_parse(const char *text, guint64 *ret_bytes, GError **error)
{
    guint64 bytes = 0;

    if (!parse_bytes(text, &bytes))
        return refuse(text, "a size such as 4096, 64KiB, 20MiB or 1GB", error);
    *ret_bytes = bytes;
    return TRUE;
}

char *
vr_size_format(guint64 bytes)
{
    return print(bytes, size_units, G_N_ELEMENTS(size_units));
}

gboolean
vr_rate_parse(const char *text, guint64 *ret_bytes_per_second, GError **error)
{
    g_autofree char *size = NULL;
    guint64 bytes = 0;

    if (g_strcmp0(text, "0") == 0) {
        *ret_bytes_per_second = 0;
        return TRUE;
    }
    if (text && g_str_has_suffix(text, "/s"))
        size = g_strndup(text, strlen(text) - strlen("/s"));
    if (!size || !parse_bytes(size, &bytes))
        return refuse(text, "a rate such as 20MiB/s, or 0 for no limit", error);
    *ret_bytes_per_second = bytes;
    return TRUE;
}

char *
vr_rate_format(guint64 bytes_per_second)
{
    g_autofree char *size = vr_size_format(bytes_per_second);

    if (bytes_per_second == 0)
        return g_steal_pointer(&size);
    return g_strconcat(size, "/s", NULL);
}

gboolean
vr_percent_parse(const char *text, guint *ret_percent, GError **error)
{
    guint64 number;
    const char *unit;

    if (!split(text, &number, &unit) || strcmp(unit, "%") != 0 || number > 100)
        return refuse(text, "a percentage from 0% to 100%", error);
    *ret_percent = (guint) number;
    return TRUE;
}

char *
vr_time_format(gint64 wall_us)
{
    gint64 seconds = wall_us / G_USEC_PER_SEC;
    gint64 rest = wall_us % G_USEC_PER_SEC;
    g_autoptr(GDateTime) time = NULL;
    g_autofree char *text = NULL;

    if (rest < 0) {
        seconds--;
        rest += G_USEC_PER_SEC;
    }
    time = g_date_time_new_from_unix_utc(seconds);
    if (!time)
        return NULL;
    text = g_date_time_format(time, "%Y-%m-%dT%H:%M:%S");
    return g_strdup_printf("%s.%03dZ", text, (int) (rest / 1000));
}

gboolean
vr_time_parse(const char *text, gint64 *ret_wall_us, GError **error)
{
    g_autoptr(GDateTime) time = NULL;

    if (text && strlen(text) <= 40)
        time = g_date_time_new_from_iso8601(text, NULL);
    if (!time)
        return refuse(text, "a time such as 2026-11-23T01:16:11Z", error);
    *ret_wall_us = g_date_time_to_unix(time) * G_USEC_PER_SEC + g_date_time_get_microsecond(time);
    return TRUE;
}
