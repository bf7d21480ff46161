/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

/**
 * SECTION: other programs (qemu-img, qemu-nbd): without a shell, found in PATH, locale C, no
 * standard input. They die with the thread that started them.
 */

/**
 * vr_run_program:
 * @argv: (array zero-terminated=1): program and arguments; file arguments absolute
 * @ret_stdout: (out) (nullable) (transfer full): what it printed, as UTF-8
 *
 * Waits for its end; ends it when @cancel is triggered. Blocks.
 * Errors, with the last line of its standard error: NO_SPACE "host-no-space" and CONFLICT
 * "image-in-use" where it says so, otherwise INTERNAL "program-failed"; INTERNAL "program-missing";
 * CANCELLED.
 */
gboolean vr_run_program(const char *const *argv, GCancellable *cancel, char **ret_stdout,
                        GError **error);

/**
 * vr_start_program:
 * @ret_pid: the caller must waitpid() it
 * @ret_stderr: (nullable): its standard error, the caller's to read and close
 *
 * Starts it with /dev/null as standard output. Errors: INTERNAL "program-missing".
 */
gboolean vr_start_program(const char *const *argv, GPid *ret_pid, int *ret_stderr, GError **error);

/** The error of a program that ended by itself. @how: "exit status 1"; @words: its standard error,
 * nullable. */
void vr_set_program_error(GError **error, const char *program, const char *how, const char *words);

G_END_DECLS
