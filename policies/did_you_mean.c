/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/did_you_mean.h"

#include <string.h>

#define WORD_MAX 64
#define WRONG_MAX 3

/* Letters that must change to make @b of @a (Levenshtein); @b has at most WORD_MAX. */
static guint
distance(const char *a, const char *b)
{
    guint row[WORD_MAX + 1];
    gsize length = strlen(b);

    for (gsize i = 0; i <= length; i++)
        row[i] = (guint) i;
    for (gsize i = 0; a[i]; i++) {
        guint diagonal = row[0];

        row[0] = (guint) i + 1;
        for (gsize k = 0; k < length; k++) {
            guint replaced = diagonal + (a[i] == b[k] ? 0 : 1);

            diagonal = row[k + 1];
            row[k + 1] = MIN(replaced, 1 + MIN(row[k], diagonal));
        }
    }
    return row[length];
}

const char *
vr_did_you_mean(const char *word, const char *const *names)
{
    gsize length = strnlen(word, WORD_MAX + 1);
    guint allowed = (guint) MIN(length / 3 + 1, WRONG_MAX);
    guint best = allowed + 1;
    const char *match = NULL;

    if (length > WORD_MAX)
        return NULL;
    for (guint i = 0; names[i]; i++) {
        gsize whole = strlen(names[i]);
        guint wrong;

        if (whole > WORD_MAX)
            continue;
        wrong = distance(word, names[i]);
        if (wrong < best && wrong < whole) {
            best = wrong;
            match = names[i];
        }
    }
    return match;
}
