/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: a sparse file of fixed length mapped shared.
 *
 * A store into a hole of a full file system would be SIGBUS, and on tmpfs so is a read from one:
 * vr_mapped_file_reserve() comes before the first access to a range, or a note elsewhere tells that
 * nothing was ever stored there.
 */
typedef struct {
    int fd;
    char *path; /* owned */
    guint8 *data;
    guint64 len;
} VrMappedFile;

/**
 * vr_mapped_file_open:
 * @self: memory of zeros
 * @len: more than 0; the file is made (0600), grown with zeros or cut to it
 * @ret_resized: (nullable): the file was not of this length
 *
 * A cut is durable on return. vr_mapped_file_close() is due also after an error.
 */
gboolean vr_mapped_file_open(VrMappedFile *self, const char *path, guint64 len,
                             gboolean *ret_resized, GError **error);

/** Harmless on memory of zeros. Does not sync. */
void vr_mapped_file_close(VrMappedFile *self);

/** Room for the range on disk. Any thread. Errors: NO_SPACE, INTERNAL. */
gboolean vr_mapped_file_reserve(const VrMappedFile *self, guint64 offset, guint64 len,
                                GError **error);

/** What was stored is durable. */
gboolean vr_mapped_file_sync(const VrMappedFile *self, GError **error);

/** The whole file reads as zeros, durably, and its room is given back. */
gboolean vr_mapped_file_clear(VrMappedFile *self, GError **error);

/** The first range at or behind @offset that may hold data; FALSE at the end. */
gboolean vr_mapped_file_next_data(const VrMappedFile *self, guint64 offset, guint64 *ret_start,
                                  guint64 *ret_end);

G_END_DECLS
