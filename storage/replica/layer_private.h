/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/replica/layer.h"
#include "storage/util/qcow2_format.h"

/** SECTION: what layer.c (tables and data) and layer_seal.c (refcounts and header) share. */

struct _VrLayer {
    char *path; /* owned; as opened, for messages */
    int fd;
    int direct_fd; /* -1: none */
    gint buffered; /* atomic; O_DIRECT was refused */
    guint64 size_bytes;
    guint64 chunks;
    guint64 n_l2;
    guint64 l2_start;   /* bytes */
    guint64 data_start; /* bytes */
    guint8 *touched;    /* owned; a byte for each L2: has or had entries; atomic */
    guint64 next;       /* atomic; first free cluster */
    GMutex reserve_lock;
    guint64 reserved; /* under reserve_lock; first cluster not preallocated */
};

/** How many L2 tables there may be. */
static inline guint64
vr_layer_n_l2(guint64 chunks)
{
    return (chunks + QCOW2_L2_ENTRIES - 1) / QCOW2_L2_ENTRIES;
}

/** Bytes before them: header and L1. */
static inline guint64
vr_layer_l2_start(guint64 n_l2)
{
    return (1 + qcow2_clusters(n_l2 * 8)) * VR_CHUNK_SIZE;
}

/** Error from errno: "cannot @what layer 'PATH'". */
void vr_layer_set_errno(const VrLayer *self, const char *what, GError **error);

/** L2 entries of @n > 0 chunks from @first on, in host order. */
gboolean vr_layer_entries(const VrLayer *self, guint64 first, guint64 n, guint64 *ret_entries,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** All of it; FALSE with errno. */
gboolean vr_layer_pwrite(int fd, const void *data, gsize len, guint64 offset);
