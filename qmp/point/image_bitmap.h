/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: persistent bitmaps in a qcow2 file through qemu-img. To change them nobody else may
 * have the file open: CONFLICT "image-in-use". */

/** Names, NULL-terminated. Takes no lock, so a domain can start meanwhile; what a QEMU that has the
 *  file open has added since then may be missing. (transfer full) */
char **vr_image_bitmap_list(const char *image, GError **error);

/** Errors: RESYNC_NEEDED "tracking-lost": @image itself has no such bitmap, or it is not
 * consistent; CONFLICT "image-in-use". */
gboolean vr_image_bitmap_check(const char *image, const char *name, GError **error);

/** Enabled, granularity 64 KiB. Errors: REFUSED "qcow2-v2". */
gboolean vr_image_bitmap_add(const char *image, const char *name, GError **error);

/** Not there is success. */
gboolean vr_image_bitmap_remove(const char *image, const char *name, GError **error);

G_END_DECLS
