/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

/** SECTION: reading one disk of a point; implemented by qmp/nbd_source and by test fakes. */

typedef struct _VrSource VrSource;
typedef struct _VrSourceReader VrSourceReader;

typedef struct {
    /** One connection, used by one thread. Blocks. */
    VrSourceReader *(*open)(VrSource *self, GError **error);
    /** Exactly @len bytes (multiple of 512, at most VR_SOURCE_READ_MAX) at @offset into @buf.
     * Blocks. */
    gboolean (*read)(VrSourceReader *reader, guint64 offset, gsize len, guint8 *buf,
                     GError **error);
    /** Clean disconnect; returns when the connection is gone. NULL is fine. */
    void (*close)(VrSourceReader *reader);
} VrSourceOps;

#define VR_SOURCE_READ_MAX ((gsize) (4 * 1024 * 1024))

struct _VrSource {
    const VrSourceOps *ops;
    guint64 size_bytes;
};

G_END_DECLS
