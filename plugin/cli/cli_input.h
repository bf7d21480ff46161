/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * vr_cli_read_file:
 * @path: "-" is standard input
 * @max: bytes, at least 1
 *
 * The whole of a small UTF-8 text. (transfer full)
 * Errors: INVALID "bad-file" naming the file, if it cannot be read, is larger than @max or no text.
 */
char *vr_cli_read_file(const char *path, gsize max, GError **error);

G_END_DECLS
