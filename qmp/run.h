/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: running qemu-img and starting qemu-nbd. Children die with the thread that made them. */

/** Waits for it; @ret_stdout: (nullable). Exit status other than 0: INTERNAL "program-failed"
 * (NO_SPACE when it says so, CONFLICT "image-in-use" on a lock) with the last line of its stderr.
 */
gboolean vr_run(const char *const *argv, char **ret_stdout, GError **error);

/** Starts it; its stdin and stdout are /dev/null, @ret_stderr is the caller's to read and close.
 *  The caller must waitpid() @ret_pid. */
gboolean vr_run_start(const char *const *argv, GPid *ret_pid, int *ret_stderr, GError **error);

/** The words of a failed program, one line. (transfer full) */
char *vr_run_last_line(const char *text);

G_END_DECLS
