/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: the one place that says what may reach a terminal or a log.
 *
 * Names, messages and errors come from other hosts, domains and files; a control character in them
 * would command the terminal, a bidirectional one would show another text than there is.
 */

/** FALSE for control characters (C0, DEL, C1), line and paragraph separators, and invisible
 *  formatting (U+061C, U+200E/F, U+202A..E, U+2066..9, tags …) but the two joiners of scripts. */
gboolean vr_char_safe(gunichar c);

/** A copy in which what is not safe, and what is no UTF-8, is written as \\xNN or \\u{NNNN}.
 *  (transfer full) */
char *vr_display_text(const char *text);
/** The same, but line feeds and tabs stay: for texts of several lines. (transfer full) */
char *vr_display_lines(const char *text);

G_END_DECLS
