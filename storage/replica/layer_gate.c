/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/replica/layer_gate.h"

void
vr_layer_gate_init(VrLayerGate *self)
{
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);
    self->reading = g_array_new(FALSE, FALSE, sizeof(guint64));
}

void
vr_layer_gate_clear(VrLayerGate *self)
{
    g_array_unref(self->reading);
    g_cond_clear(&self->changed);
    g_mutex_clear(&self->lock);
}

void
vr_layer_gate_enter(VrLayerGate *self, gboolean urgent)
{
    g_mutex_lock(&self->lock);
    self->wanted++;
    if (urgent && self->merging)
        g_cancellable_cancel(self->merging);
    while (self->taken)
        g_cond_wait(&self->changed, &self->lock);
    self->wanted--;
    self->taken = TRUE;
    g_mutex_unlock(&self->lock);
}

void
vr_layer_gate_enter_merge(VrLayerGate *self, GCancellable *merge)
{
    g_mutex_lock(&self->lock);
    while (self->taken || self->wanted > 0)
        g_cond_wait(&self->changed, &self->lock);
    self->taken = TRUE;
    self->merging = merge;
    g_mutex_unlock(&self->lock);
}

void
vr_layer_gate_leave(VrLayerGate *self)
{
    g_mutex_lock(&self->lock);
    self->taken = FALSE;
    self->merging = NULL;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
}

void
vr_layer_gate_begin_reading(VrLayerGate *self, guint64 number)
{
    g_mutex_lock(&self->lock);
    g_array_append_val(self->reading, number);
    g_mutex_unlock(&self->lock);
}

static gint
find(const VrLayerGate *self, guint64 number)
{
    for (guint i = 0; i < self->reading->len; i++) {
        if (g_array_index(self->reading, guint64, i) == number)
            return (gint) i;
    }
    return -1;
}

gboolean
vr_layer_gate_is_read(VrLayerGate *self, guint64 number)
{
    gboolean read;

    g_mutex_lock(&self->lock);
    read = find(self, number) >= 0;
    g_mutex_unlock(&self->lock);
    return read;
}

void
vr_layer_gate_end_reading(VrLayerGate *self, guint64 number)
{
    gint i;

    g_mutex_lock(&self->lock);
    i = find(self, number);
    if (i >= 0)
        g_array_remove_index_fast(self->reading, (guint) i);
    g_mutex_unlock(&self->lock);
}
