/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/extent.h"
#include "storage/wire/source.h"

G_BEGIN_DECLS

/**
 * SECTION: one NBD export on a UNIX socket as a VrSource, and its block status.
 *
 * A read is split into up to four requests in flight; a server that does not answer for 30 s makes
 * it fail with TRANSIENT "source-stalled".
 */

/** Shared by the sources of a point: counts their connections and can shut the door. A connect
 *  that has begun is finished or failed (10 s at most) before vr_nbd_gate_close() returns. */
typedef struct _VrNbdGate VrNbdGate;

VrNbdGate *vr_nbd_gate_new(void);
void vr_nbd_gate_unref(VrNbdGate *gate);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrNbdGate, vr_nbd_gate_unref)

/** No connection is opened from now on. Open ones stay. Idempotent, any thread. */
void vr_nbd_gate_close(VrNbdGate *gate);
/** Waits until every connection is closed and gone; FALSE after @timeout_ms. */
gboolean vr_nbd_gate_wait_idle(VrNbdGate *gate, guint timeout_ms);

typedef struct _VrNbdSource VrNbdSource;

/** Connects nothing yet. */
VrNbdSource *vr_nbd_source_new(const char *socket_path, const char *export_name, VrNbdGate *gate);
void vr_nbd_source_free(VrNbdSource *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrNbdSource, vr_nbd_source_free)

/** The interface; belongs to @self. size_bytes is 0 until vr_nbd_source_probe(). */
VrSource *vr_nbd_source_get(VrNbdSource *self);

/**
 * vr_nbd_source_probe:
 * @bitmap: (nullable): export's dirty bitmap; NULL: everything is a candidate
 *
 * Connects, learns the size and what must be looked at, disconnects. Without @bitmap the answer
 * covers the whole disk; with it the dirty ranges only. What reads as zeros is VR_EXTENT_ZERO.
 * Answers that overlap, are empty, reach past the end or are no multiple of 512 are refused.
 * Blocks. Errors: TRANSIENT, RESYNC_NEEDED (no such bitmap), INTERNAL (bad answer), CANCELLED.
 */
VrExtents *vr_nbd_source_probe(VrNbdSource *self, const char *bitmap, GCancellable *cancel,
                               GError **error);

/**
 * vr_nbd_extents_merge:
 * @dirty: (nullable): NULL: everything
 * @allocation: covers at least @dirty; VR_EXTENT_ZERO where it reads as zeros
 *
 * What must be looked at: @dirty with the flags of @allocation. (transfer full)
 */
VrExtents *vr_nbd_extents_merge(const VrExtents *dirty, const VrExtents *allocation);

G_END_DECLS
