/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/window.h"

#include <string.h>

#include "policies/error.h"

#define DAY_MINUTES 1440
#define ALL_DAYS 0x7f

static const char *const day_names[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};

static int
day_index(const char *name, gsize length)
{
    for (int i = 0; i < 7; i++) {
        if (length == 3 && g_ascii_strncasecmp(day_names[i], name, 3) == 0)
            return i;
    }
    return -1;
}

/* "Mon", "Mon-Fri", "Sat,Sun": adds to *days. A range may pass over Sunday. */
static gboolean
parse_days(const char *text, guint8 *days)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);

    for (guint i = 0; parts[i]; i++) {
        const char *dash = strchr(parts[i], '-');
        gsize length = dash ? (gsize) (dash - parts[i]) : strlen(parts[i]);
        int first = day_index(parts[i], length);
        int last = dash ? day_index(dash + 1, strlen(dash + 1)) : first;

        if (first < 0 || last < 0)
            return FALSE;
        for (int day = first;; day = (day + 1) % 7) {
            *days |= (guint8) (1 << day);
            if (day == last)
                break;
        }
    }
    return TRUE;
}

/* "HH:MM" at the start of @text. */
static gboolean
parse_minute(const char *text, guint16 *ret_minute)
{
    guint hours;
    guint minutes;

    if (!g_ascii_isdigit(text[0]) || !g_ascii_isdigit(text[1]) || text[2] != ':' ||
        !g_ascii_isdigit(text[3]) || !g_ascii_isdigit(text[4]))
        return FALSE;
    hours = (guint) ((text[0] - '0') * 10 + (text[1] - '0'));
    minutes = (guint) ((text[3] - '0') * 10 + (text[4] - '0'));
    if (minutes > 59 || hours * 60 + minutes > DAY_MINUTES)
        return FALSE;
    *ret_minute = (guint16) (hours * 60 + minutes);
    return TRUE;
}

static gboolean
parse(const char *text, VrWindow *window)
{
    const char *times = text;
    const char *blank = strchr(text, ' ');

    if (blank) {
        g_autofree char *days = g_strndup(text, (gsize) (blank - text));

        if (!parse_days(days, &window->days))
            return FALSE;
        times = blank + 1;
    } else {
        window->days = ALL_DAYS;
    }
    return strlen(times) == strlen("HH:MM-HH:MM") && times[5] == '-' &&
           parse_minute(times, &window->start) && parse_minute(times + 6, &window->end) &&
           window->start < DAY_MINUTES;
}

gboolean
vr_window_parse(const char *text, VrWindow *ret_window, GError **error)
{
    VrWindow window = {0, 0, 0};

    if (!text || !parse(text, &window)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-value", NULL,
                     "'%s' is not a window such as 18:30-06:00 or Mon-Fri 08:00-18:00",
                     text ? text : "");
        return FALSE;
    }
    *ret_window = window;
    return TRUE;
}

gboolean
vr_window_parse_or_always(const char *text, VrWindow *ret_window, GError **error)
{
    if (g_strcmp0(text, "always") != 0)
        return vr_window_parse(text, ret_window, error);
    *ret_window = VR_WINDOW_ALWAYS;
    return TRUE;
}

static void
print_days(guint8 days, GString *out)
{
    for (int first = 0; first < 7; first++) {
        int last = first;

        if (!(days & (1 << first)))
            continue;
        while (last < 6 && (days & (1 << (last + 1))))
            last++;
        if (out->len > 0)
            g_string_append_c(out, ',');
        g_string_append(out, day_names[first]);
        if (last > first)
            g_string_append_printf(out, "-%s", day_names[last]);
        first = last;
    }
    g_string_append_c(out, ' ');
}

char *
vr_window_format(const VrWindow *self)
{
    GString *out = g_string_new(NULL);

    if (self->days != ALL_DAYS)
        print_days(self->days, out);
    g_string_append_printf(out, "%02d:%02d-%02d:%02d", self->start / 60, self->start % 60,
                           self->end / 60, self->end % 60);
    return g_string_free(out, FALSE);
}

/* Minutes the window stays open, 1 to 1440. */
static int
open_minutes(const VrWindow *self)
{
    int minutes = self->end - self->start;

    return minutes > 0 ? minutes : minutes + DAY_MINUTES;
}

gboolean
vr_window_contains(const VrWindow *self, GDateTime *local)
{
    int today = g_date_time_get_day_of_week(local) - 1;
    int yesterday = (today + 6) % 7;
    int minute = g_date_time_get_hour(local) * 60 + g_date_time_get_minute(local);
    int close = self->start + open_minutes(self);

    if ((self->days & (1 << today)) && minute >= self->start && minute < close)
        return TRUE;
    return (self->days & (1 << yesterday)) && minute + DAY_MINUTES < close;
}
