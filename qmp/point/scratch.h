/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: the scratch files of a pull backup.
 *
 * QEMU stops the guest when a scratch file cannot grow, so the limit is ours: created by us,
 * sampled by us. A descriptor is held from creation on, because a write error shows only at its
 * fsync.
 */
typedef struct _VrScratch VrScratch;

/** @dir: (nullable): NULL: the directory of @image. Names a file, makes none. (transfer full) */
char *vr_scratch_path(const char *dir, const char *image, const char *uuid, const char *disk);

VrScratch *vr_scratch_new(void);
/** Closes descriptors, removes nothing. */
void vr_scratch_free(VrScratch *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrScratch, vr_scratch_free)

/** Creates an empty qcow2 of @size_bytes over @image (both named with their format), mode 0600.
 *  Errors: NO_SPACE, CONFLICT "scratch-exists", INTERNAL with qemu-img's words. */
gboolean vr_scratch_add(VrScratch *self, const char *path, const char *image,
                        const char *image_format, guint64 size_bytes, GError **error);

/** Bytes allocated by all files, and the least space free on any of their file systems. Any thread.
 */
gboolean vr_scratch_sample(VrScratch *self, guint64 *ret_used_bytes, guint64 *ret_free_bytes,
                           GError **error);

/** fsync of every file. Errors: INTERNAL "scratch-write-failed", NO_SPACE. */
gboolean vr_scratch_sync(VrScratch *self, GError **error);

/** Removes the files of @self. Idempotent. */
void vr_scratch_remove(VrScratch *self);

/** TRUE for a path vr_scratch_path() could have chosen for the domain @uuid. */
gboolean vr_scratch_is_ours(const char *path, const char *uuid);
/** Removes one such file, if it is a regular one. TRUE if something was removed. */
gboolean vr_scratch_unlink(const char *path, const char *uuid);

/** Removes scratch files of the domain @uuid in @dir that earlier processes left. Only names of our
 * form that are regular files. Returns how many. No point of the domain may be open. */
guint vr_scratch_sweep(const char *dir, const char *uuid);

G_END_DECLS
