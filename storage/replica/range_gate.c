/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/replica/range_gate.h"

typedef struct {
    guint64 first, end;
} Range;

void
vr_range_gate_init(VrRangeGate *self)
{
    g_mutex_init(&self->lock);
    g_cond_init(&self->left);
    self->busy = g_array_new(FALSE, FALSE, sizeof(Range));
}

void
vr_range_gate_clear(VrRangeGate *self)
{
    g_array_unref(self->busy);
    g_cond_clear(&self->left);
    g_mutex_clear(&self->lock);
}

static gboolean
is_free(const VrRangeGate *self, guint64 first, guint64 end)
{
    for (guint i = 0; i < self->busy->len; i++) {
        const Range *range = &g_array_index(self->busy, Range, i);

        if (first < range->end && range->first < end)
            return FALSE;
    }
    return TRUE;
}

void
vr_range_gate_enter(VrRangeGate *self, guint64 first, guint64 end)
{
    Range range = {first, end};

    g_mutex_lock(&self->lock);
    while (!is_free(self, first, end))
        g_cond_wait(&self->left, &self->lock);
    g_array_append_val(self->busy, range);
    g_mutex_unlock(&self->lock);
}

void
vr_range_gate_leave(VrRangeGate *self, guint64 first, guint64 end)
{
    g_mutex_lock(&self->lock);
    for (guint i = 0; i < self->busy->len; i++) {
        const Range *range = &g_array_index(self->busy, Range, i);

        if (range->first == first && range->end == end) {
            g_array_remove_index_fast(self->busy, i);
            break;
        }
    }
    g_cond_broadcast(&self->left);
    g_mutex_unlock(&self->lock);
}
