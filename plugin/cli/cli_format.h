/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: values as people read them. Every answer is (transfer full) and never NULL. */

/** "512 B", "41.70 GiB". */
char *vr_cli_format_size(guint64 bytes);

/** Both in the unit of @total: "41.7/50.0 GiB". */
char *vr_cli_format_part(guint64 done, guint64 total);

/** "212 MiB/s", below ten with one digit behind the point. */
char *vr_cli_format_rate(double bytes_per_second);

/** "0:00:40", with days in front where there are any: "2d 3:00:00". */
char *vr_cli_format_interval(gint64 seconds);

/** RFC 3339 to local time with offset, "2026-11-23 02:14:17 +0100"; "-" for NULL; what cannot be
 *  read comes back escaped. */
char *vr_cli_format_time(const char *rfc3339);

/** What must not reach a terminal, as vr_display_text() has it. */
char *vr_cli_escape(const char *text);

/** Columns @text takes on a terminal. */
gsize vr_cli_width(const char *text);

/** vr_duration_parse(), and a bare number is seconds; a part of a second counts as a whole one. */
gboolean vr_cli_parse_duration(const char *text, gint64 *ret_seconds);

G_END_DECLS
