/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: which files an image consists of, and whether QEMU has one open; asked of the files
 * alone. Blocks; any thread. */

/**
 * vr_image_chain:
 * @format: as its definition says; only of "qcow2" the header is read, anything else may have been
 * written by a guest
 * @ret_complete: FALSE if one of the files cannot be read, so that there may be more
 *
 * @path and what it is backed by, top first; what lies on another host is left out.
 * (element-type filename) (transfer full)
 */
GPtrArray *vr_image_chain(const char *path, const char *format, gboolean *ret_complete);

/** TRUE if QEMU (or a program of its) has the image open. Not there: FALSE. */
gboolean vr_image_in_use(const char *path);

G_END_DECLS
