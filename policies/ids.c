/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/ids.h"

#include <string.h>

#include "policies/display.h"

static gboolean
is_lower_hex(char c)
{
    return g_ascii_isdigit(c) || (c >= 'a' && c <= 'f');
}

gboolean
vr_uuid_valid(const char *uuid)
{
    if (!uuid || strnlen(uuid, VR_UUID_LENGTH + 1) != VR_UUID_LENGTH)
        return FALSE;
    for (guint i = 0; i < VR_UUID_LENGTH; i++) {
        gboolean dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? uuid[i] != '-' : !is_lower_hex(uuid[i]))
            return FALSE;
    }
    return TRUE;
}

gboolean
vr_name_valid(const char *name)
{
    if (!name || !g_ascii_isalnum(name[0]) || strnlen(name, VR_NAME_MAX + 1) > VR_NAME_MAX)
        return FALSE;
    for (const char *c = name; *c; c++) {
        if (!g_ascii_isalnum(*c) && !strchr("._-", *c))
            return FALSE;
    }
    return TRUE;
}

gboolean
vr_disk_name_valid(const char *name)
{
    gsize length = name ? strnlen(name, 17) : 0;

    if (length < 2 || length > 16 || !g_ascii_islower(name[0]))
        return FALSE;
    for (const char *c = name; *c; c++) {
        if (!g_ascii_islower(*c) && !g_ascii_isdigit(*c))
            return FALSE;
    }
    return TRUE;
}

gboolean
vr_cycle_id_valid(const char *id)
{
    if (!id || strnlen(id, VR_ID_LENGTH + 1) != VR_ID_LENGTH)
        return FALSE;
    for (const char *c = id; *c; c++) {
        if (!is_lower_hex(*c))
            return FALSE;
    }
    return TRUE;
}

char *
vr_display_name(const char *name, guint max_chars)
{
    g_autofree char *valid = g_utf8_make_valid(name ? name : "", -1);
    GString *shown = g_string_new(NULL);
    guint count = 0;

    for (const char *c = valid; *c && count < max_chars; c = g_utf8_next_char(c), count++) {
        gunichar letter = g_utf8_get_char(c);

        if (vr_char_safe(letter))
            g_string_append_unichar(shown, letter);
        else
            g_string_append_c(shown, '?');
    }
    return g_string_free(shown, FALSE);
}

char *
vr_shell_word(const char *word)
{
    gboolean plain = *word != '\0';

    for (const char *c = word; *c; c++)
        plain = plain && (g_ascii_isalnum(*c) || strchr("._,:@%+/-", *c) || (guchar) *c >= 0x80);
    return plain ? g_strdup(word) : g_shell_quote(word);
}
