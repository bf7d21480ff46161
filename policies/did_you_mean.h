/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** The member of @names (NULL-terminated) that a typist most likely meant by @word, or NULL: at
 * most three letters are wrong, and fewer in a short word. */
const char *vr_did_you_mean(const char *word, const char *const *names);

G_END_DECLS
