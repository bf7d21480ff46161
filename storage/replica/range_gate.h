/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: ranges of chunks that threads are at. Two that overlap come one after the other, so
 * that what is looked up, allocated, written and noted of a chunk belongs to one writer. */
typedef struct {
    GMutex lock;
    GCond left;
    GArray *busy; /* owned */
} VrRangeGate;

void vr_range_gate_init(VrRangeGate *self);
void vr_range_gate_clear(VrRangeGate *self);

/** Waits until nobody is in [@first, @end). Not for a thread that is inside already. */
void vr_range_gate_enter(VrRangeGate *self, guint64 first, guint64 end);
/** The same range. */
void vr_range_gate_leave(VrRangeGate *self, guint64 first, guint64 end);

G_END_DECLS
