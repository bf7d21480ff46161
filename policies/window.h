/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: weekly time windows: "Mon-Fri 08:00-18:00", "Sat,Sun 00:00-24:00", "18:30-06:00". */

typedef struct {
    guint8 days;   /* bit 0 Monday ... bit 6 Sunday: days on which it opens */
    guint16 start; /* minute of the day, 0 to 1439 */
    guint16 end;   /* minute of the day, 0 to 1440; up to start: the window ends the next day */
} VrWindow;

/** Always open. */
#define VR_WINDOW_ALWAYS ((VrWindow){0x7f, 0, 1440})

/** Days are optional (then all). Errors: INVALID. */
gboolean vr_window_parse(const char *text, VrWindow *ret_window, GError **error);

/** The same, or the word "always". Errors: INVALID. */
gboolean vr_window_parse_or_always(const char *text, VrWindow *ret_window, GError **error);

/** Reads back to the same window. (transfer full) */
char *vr_window_format(const VrWindow *self);

/** @local: the moment in the zone the window is meant in. */
gboolean vr_window_contains(const VrWindow *self, GDateTime *local);

G_END_DECLS
