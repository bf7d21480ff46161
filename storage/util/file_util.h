/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: small durable-file helpers. All block; any thread. */

/** From getrandom(); aborts the program if the kernel has none (it never happens after boot). */
void vr_random_bytes(guint8 *buf, gsize len);
/** 32 lower-case hex digits from 16 random bytes. (transfer full) */
char *vr_random_id(void);

/** Lower-case hex of @len bytes. (transfer full) */
char *vr_hex_encode(const guint8 *data, gsize len);
/** SHA-256 of @len bytes as 64 lower-case hex digits. (transfer full) */
char *vr_sha256_hex(const void *data, gsize len);
/** The same over a file from its start to its end, read with pread(). (transfer full) Errors:
 * errno's. */
char *vr_sha256_fd(int fd, GError **error);

/** Temporary file beside @path, @mode, fsync, rename, fsync of the directory. Errors: NO_SPACE,
 * INTERNAL. */
gboolean vr_write_file_atomic(const char *path, const void *data, gsize len, guint mode,
                              GError **error);
/** Whole regular file, at most @max bytes, zero-terminated beyond @ret_len. Symbolic links are
 * refused. Errors: NOT_FOUND, INVALID "file-too-large", INTERNAL. (transfer full) */
char *vr_read_file(const char *path, gsize max, gsize *ret_len, GError **error);

/** Directory entries of @path durable. */
gboolean vr_fsync_dir(const char *path, GError **error);
/** @path and missing parents, each durable in its parent; an existing directory is fine and keeps
 * its mode. */
gboolean vr_make_dir(const char *path, guint mode, GError **error);
/** Removes @path and everything below it; never follows symbolic links; a missing one is fine. */
gboolean vr_remove_tree(const char *path, GError **error);

G_END_DECLS
