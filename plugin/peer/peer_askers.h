/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

/** SECTION: asks peers, each in a thread of its own, so that one that hangs holds up nobody else.
 * One that is still being asked is not asked beside that. Any thread. */
typedef struct _VrPeerAskers VrPeerAskers;

/** Runs in the asker's thread; returns soon when @cancel is triggered. */
typedef void (*VrPeerAskFunc)(const char *fingerprint, GCancellable *cancel, gpointer data);

/** @data: borrowed until vr_peer_askers_free() has returned. */
VrPeerAskers *vr_peer_askers_new(VrPeerAskFunc func, gpointer data);
/** FALSE: it is being asked. */
gboolean vr_peer_askers_ask(VrPeerAskers *self, const char *fingerprint);
/** Cancels, and waits for those under way. NULL is fine. */
void vr_peer_askers_free(VrPeerAskers *self);

G_END_DECLS
