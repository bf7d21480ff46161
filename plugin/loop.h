/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

/** SECTION: a thread of the daemon that does something again and again, waits in between, can be
 * woken and is ended with the daemon. */
typedef struct _VrLoop VrLoop;

/** Runs in the thread; returns soon when the loop is to end. */
typedef void (*VrLoopFunc)(VrLoop *loop, gpointer data);

/** @name: of the thread. @data: borrowed until vr_loop_stop() has returned. */
VrLoop *vr_loop_start(const char *name, VrLoopFunc func, gpointer data);
/** Ends it: cancels, wakes, waits for the thread. NULL is fine. */
void vr_loop_stop(VrLoop *self);

/** Any thread. The next wait, or the one under way, is over. */
void vr_loop_wake(VrLoop *self);

/* In the thread. */

/** Triggered when the loop is to end. (transfer none) */
GCancellable *vr_loop_cancellable(VrLoop *self);
gboolean vr_loop_ends(VrLoop *self);
/** Until monotonic time @until_us, a wake or the end. TRUE: it was woken. */
gboolean vr_loop_wait(VrLoop *self, gint64 until_us);

G_END_DECLS
