/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** What a guest would read from the qcow2 file @path and the files below it, by the format alone:
 * no code of ours and no digest is asked. Fills @data, @size bytes. A file that is none ends the
 * test. */
void qcow2_read(const char *path, guint8 *data, gsize size);

G_END_DECLS
