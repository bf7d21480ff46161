/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdio.h>

#include "storage/util/chunk.h"

G_BEGIN_DECLS

/** SECTION: reads a sealed layer back, past the page cache where that is possible, and compares
 * every chunk with its digest. Memory does not depend on the size. */

typedef struct {
    guint64 bytes;      /* data read and compared */
    guint64 bad;        /* chunks that are not what was proven, unreadable ones included */
    guint64 unreadable; /* of these: the medium gave an error */
    int last_errno;     /* of the last of these */
} VrLayerVerdict;

/** Called after each read. FALSE with @error ends the verification. */
typedef gboolean (*VrLayerPace)(gsize bytes, gpointer data, GError **error);

typedef struct {
    const char *path;
    const char *sums;       /* its digests */
    guint64 size_bytes;     /* virtual */
    const char *backing;    /* as in its header; nullable */
    guint64 backing_chunks; /* of the layer below, 0: none */
    guint64 shown_chunks;   /* without a digest these are the layer below's, all others zeros */
} VrLayerToVerify;

/**
 * vr_layer_verify:
 * @bad: numbers of bad chunks are appended, u64 LE, ascending
 *
 * Nobody writes the layer meanwhile. TRUE if all of it was looked at. Errors: CORRUPT, or that of
 * opening it, if it is not a layer at all; those of @pace; NO_SPACE writing @bad.
 */
gboolean vr_layer_verify(const VrLayerToVerify *layer, FILE *bad, VrLayerPace pace, gpointer data,
                         VrLayerVerdict *ret_verdict, GError **error);

/** Whether the layer at @path has @chunk itself, be it zeros. Errors: TRANSIENT or that of reading.
 */
gboolean vr_layer_has(const char *path, guint64 chunk, gboolean *ret_has,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

G_END_DECLS
