/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

/**
 * vr_run_program:
 * @argv: (array zero-terminated=1): program name, found in PATH, and its arguments; file arguments
 * absolute
 * @ret_stdout: (out) (nullable) (transfer full): what it printed, as UTF-8
 *
 * Runs it without a shell, locale C, no standard input; waits for its end. It dies with the calling
 * thread and when @cancel is triggered. Blocks.
 * Errors: INTERNAL "program-failed" with its exit status and the end of its standard error;
 * CANCELLED.
 */
gboolean vr_run_program(const char *const *argv, GCancellable *cancel, char **ret_stdout,
                        GError **error);

G_END_DECLS
