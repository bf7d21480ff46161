/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/display.h"

static void
test_text(void)
{
    static const struct {
        const char *text, *shown, *lines;
    } cases[] = {
        {"", "", ""},
        {"w\xc3\xa4 \xe4\xb8\xad \xf0\x9f\x92\xbe", "w\xc3\xa4 \xe4\xb8\xad \xf0\x9f\x92\xbe",
         NULL},
        {"a\xe2\x80\x8d"
         "b",
         "a\xe2\x80\x8d"
         "b",
         NULL},
        {"a\nb\tc", "a\\x0ab\\x09c", "a\nb\tc"},
        {"\x1b[2J\x07\x7f", "\\x1b[2J\\x07\\x7f", NULL},
        {"\xc2\x9b"
         "31m",
         "\\u{009b}31m", NULL},
        {"\xff\xc0\xaf\xe2\x80", "\\xff\\xc0\\xaf\\xe2\\x80", NULL},
        {"\xe2\x80\xaa\xe2\x80\xae", "\\u{202a}\\u{202e}", NULL},
        {"\xe2\x81\xa6\xe2\x81\xa9", "\\u{2066}\\u{2069}", NULL},
        {"\xe2\x80\x8e\xe2\x80\x8f\xd8\x9c", "\\u{200e}\\u{200f}\\u{061c}", NULL},
        {"\xe2\x80\xa8\xe2\x80\xa9\xf3\xa0\x81\x81", "\\u{2028}\\u{2029}\\u{e0041}", NULL},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *shown = vr_display_text(cases[i].text);
        g_autofree char *lines = vr_display_lines(cases[i].text);

        g_assert_cmpstr(shown, ==, cases[i].shown);
        g_assert_cmpstr(lines, ==, cases[i].lines ? cases[i].lines : cases[i].shown);
        g_assert_true(g_utf8_validate(shown, -1, NULL));
    }
}

/* Every character there is: what is shown holds none that is not safe. */
static void
test_all(void)
{
    for (gunichar c = 1; c <= 0x10ffff; c++) {
        char text[7] = "";
        g_autofree char *shown = NULL;

        if (!g_unichar_validate(c))
            continue;
        text[g_unichar_to_utf8(c, text)] = '\0';
        shown = vr_display_text(text);
        for (const char *p = shown; *p; p = g_utf8_next_char(p))
            g_assert_true(vr_char_safe(g_utf8_get_char(p)));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/display/text", test_text);
    g_test_add_func("/display/all", test_all);
    return g_test_run();
}
