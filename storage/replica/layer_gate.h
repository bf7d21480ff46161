/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

/**
 * SECTION: who may use the layers of a replica, and when.
 *
 * A merge rewrites layers and has them alone. Users (who hand out a path, add a hold, make an
 * overlay) have them alone as well, come before any merge that waits, and make the one under way
 * end early: a merge can be ended at any moment and is done again later. Readers read one layer for
 * long and keep nobody waiting: while a layer is being read, merges leave it out.
 */
typedef struct {
    GMutex lock; /* guards the rest; never held while anything else is waited for */
    GCond changed;
    gboolean taken;
    guint wanted;          /* users that wait */
    GCancellable *merging; /* borrowed: of the merge under way */
    GArray *reading;       /* guint64: numbers of the layers that are read, one a reader */
} VrLayerGate;

void vr_layer_gate_init(VrLayerGate *self);
void vr_layer_gate_clear(VrLayerGate *self);

/** @urgent: the merge under way is ended, otherwise waited for. */
void vr_layer_gate_enter(VrLayerGate *self, gboolean urgent);
/** @merge: cancelled when a user wants the layers. */
void vr_layer_gate_enter_merge(VrLayerGate *self, GCancellable *merge);
void vr_layer_gate_leave(VrLayerGate *self);

/** Called by who is inside. */
void vr_layer_gate_begin_reading(VrLayerGate *self, guint64 number);
gboolean vr_layer_gate_is_read(VrLayerGate *self, guint64 number);
/** Called from outside. */
void vr_layer_gate_end_reading(VrLayerGate *self, guint64 number);

G_END_DECLS
