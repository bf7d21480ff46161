/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: durations, sizes, rates, percentages and times as people write them.
 *
 * Parsers take a whole number and a unit, with at most one blank between; outputs are written only
 * on success. Errors: INVALID with the text and an example. Printers give the shortest exact form,
 * which the parser reads back to the same value; (transfer full).
 */

/** "500ms", "30s", "2min", "1h", "14d"; up to 10 years. Microseconds. */
gboolean vr_duration_parse(const char *text, gint64 *ret_us, GError **error);
char *vr_duration_format(gint64 us);

/** "4096", "64KiB", "20 MiB", "1GB"; KiB, MiB, GiB, TiB are powers of 1024, KB to TB of 1000. */
gboolean vr_size_parse(const char *text, guint64 *ret_bytes, GError **error);
char *vr_size_format(guint64 bytes);

/** A size with "/s" behind it; "0" alone means no limit. Bytes per second. */
gboolean vr_rate_parse(const char *text, guint64 *ret_bytes_per_second, GError **error);
char *vr_rate_format(guint64 bytes_per_second);

/** "10%": 0 to 100. */
gboolean vr_percent_parse(const char *text, guint *ret_percent, GError **error);

/** RFC 3339 in UTC with milliseconds: "2026-11-23T01:16:11.942Z". @wall_us since 1970, in years 1
 *  to 9999. NULL when out of that range. */
char *vr_time_format(gint64 wall_us);

/** Any RFC 3339 time that names its zone. */
gboolean vr_time_parse(const char *text, gint64 *ret_wall_us, GError **error);

G_END_DECLS
