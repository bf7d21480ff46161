/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

/**
 * SECTION: reading back what is stored because a peer asks for it. Its disks are this host's: each
 * peer has one reading at a time, and all of them together keep the rate of the background reading.
 * Any thread.
 */
typedef struct _VrPeerReading VrPeerReading;

/** @rate: bytes per second, 0: no limit */
VrPeerReading *vr_peer_reading_new(guint64 rate);
void vr_peer_reading_free(VrPeerReading *self);

/** Waits for the turn of @peer. FALSE: cancelled. */
gboolean vr_peer_reading_begin(VrPeerReading *self, const char *peer, GCancellable *cancel);
void vr_peer_reading_end(VrPeerReading *self, const char *peer);
/** The proof before a failover is waited for by people: it needs no rate, but once an hour for a
 * replica at the most. */
gboolean vr_peer_reading_may_hurry(VrPeerReading *self, const char *uuid);
/** Before @bytes more are read. FALSE: cancelled. */
gboolean vr_peer_reading_take(VrPeerReading *self, guint64 bytes, GCancellable *cancel);

G_END_DECLS
