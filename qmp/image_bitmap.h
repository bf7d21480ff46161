/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: persistent bitmaps in a qcow2 file through qemu-img. Except for listing with @shared,
 * nobody else may have the file open: CONFLICT "image-in-use". */

/** Names, NULL-terminated. @shared: a QEMU has it open; what it added since it opened the file may
 * be missing. (transfer full) */
char **vr_image_bitmap_list(const char *image, gboolean shared, GError **error);

/** Errors: RESYNC_NEEDED "tracking-lost": @image itself has no such bitmap, or it is not
 * consistent. */
gboolean vr_image_bitmap_check(const char *image, const char *name, GError **error);

/** Enabled, granularity 64 KiB. Errors: REFUSED "qcow2-v2". */
gboolean vr_image_bitmap_add(const char *image, const char *name, GError **error);

/** Not there is success. */
gboolean vr_image_bitmap_remove(const char *image, const char *name, GError **error);

G_END_DECLS
