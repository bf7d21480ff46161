/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/extent.h"
#include "storage/replica/manifest.h"
#include "storage/wire/source.h"

G_BEGIN_DECLS

/**
 * SECTION: the copy pipeline of a cycle: candidates -> read -> digest -> skip if the manifest says
 * the replica holds it -> frame -> send -> manifest overlay. N workers, each with its own reader.
 */

/** Where bodies go; implemented by the peer client and by test fakes. */
typedef struct _VrSink VrSink;
struct _VrSink {
    /** Sends one body of frames and waits for the acknowledgement. Called by worker @worker only
     *  with that number. Blocks; watches @cancel. */
    gboolean (*send)(VrSink *self, guint worker, const guint8 *body, gsize len,
                     GCancellable *cancel, GError **error);
};

typedef struct {
    guint16 index;         /* in BEGIN's list */
    const char *name;      /* borrowed */
    VrSource *source;      /* borrowed */
    VrExtents *candidates; /* borrowed: chunk-aligned (vr_extents_align), DATA or ZERO */
    VrManifest *manifest;  /* borrowed */
} VrCopyDisk;

typedef struct {
    guint workers; /* 1..4 */
    gboolean compress;
    guint64 rate_bytes; /* per second over all workers, 0 = unlimited */
} VrCopyOptions;

/** Written with atomics by the workers, read by anybody. All bytes. */
typedef struct {
    guint64 total; /* DATA candidates, set at the start */
    guint64 done;  /* of these, dealt with */
    guint64 read;
    guint64 changed; /* chunks that differed, uncompressed */
    guint64 sent;    /* bodies acknowledged */
} VrCopyProgress;

/** All zero: before a run that may fail before vr_copy_run() sets it. */
void vr_copy_progress_reset(VrCopyProgress *self);

/**
 * vr_copy_run:
 * @disks: (array length=n_disks)
 *
 * Blocks until everything is acknowledged or the first error; in both cases every reader is closed
 * and every worker joined on return. Memory: about 13 MiB a worker. A chunk is in the manifest's
 * overlay if and only if it was acknowledged. A short last chunk is padded with zeros. Errors:
 * those of the source and of the sink; CANCELLED.
 */
gboolean vr_copy_run(const VrCopyDisk *disks, guint n_disks, VrSink *sink,
                     const VrCopyOptions *options, VrCopyProgress *progress, GCancellable *cancel,
                     GError **error);

G_END_DECLS
