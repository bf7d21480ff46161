/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/display.h"

#include <string.h>

#define NON_JOINER 0x200c
#define JOINER 0x200d

gboolean
vr_char_safe(gunichar c)
{
    GUnicodeType type = g_unichar_type(c);

    if (type == G_UNICODE_FORMAT)
        return c == NON_JOINER || c == JOINER;
    return type != G_UNICODE_CONTROL && type != G_UNICODE_LINE_SEPARATOR &&
           type != G_UNICODE_PARAGRAPH_SEPARATOR && type != G_UNICODE_SURROGATE;
}

static void
append_escaped(GString *out, gunichar c)
{
    g_string_append_printf(out, c < 0x80 ? "\\x%02x" : "\\u{%04x}", c);
}

static char *
escape(const char *text, const char *kept)
{
    GString *out = g_string_new(NULL);

    while (*text) {
        gunichar c = g_utf8_get_char_validated(text, -1);

        if (c == (gunichar) -1 || c == (gunichar) -2) {
            g_string_append_printf(out, "\\x%02x", (guchar) *text++);
            continue;
        }
        if (vr_char_safe(c) || (c < 0x80 && strchr(kept, (int) c)))
            g_string_append_unichar(out, c);
        else
            append_escaped(out, c);
        text = g_utf8_next_char(text);
    }
    return g_string_free(out, FALSE);
}

char *
vr_display_text(const char *text)
{
    return escape(text, "");
}

char *
vr_display_lines(const char *text)
{
    return escape(text, "\n\t");
}
