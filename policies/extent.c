/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/extent.h"

struct _VrExtents {
    GArray *array; /* owned, VrExtent: sorted, disjoint, neighbours with equal flags merged */
};

static guint64
end_of(const VrExtent *extent)
{
    return extent->offset + extent->length;
}

VrExtents *
vr_extents_new(void)
{
    VrExtents *self = g_new(VrExtents, 1);

    self->array = g_array_new(FALSE, FALSE, sizeof(VrExtent));
    return self;
}

void
vr_extents_free(VrExtents *self)
{
    if (!self)
        return;
    g_array_unref(self->array);
    g_free(self);
}

gboolean
vr_extents_append(VrExtents *self, guint64 offset, guint64 length, guint32 flags)
{
    VrExtent *last = NULL;
    VrExtent extent = {offset, length, flags};

    if (length == 0)
        return TRUE;
    if (offset > G_MAXUINT64 - length)
        return FALSE;
    if (self->array->len > 0)
        last = &g_array_index(self->array, VrExtent, self->array->len - 1);
    if (last && offset < end_of(last))
        return FALSE;
    if (last && offset == end_of(last) && flags == last->flags)
        last->length += length;
    else
        g_array_append_val(self->array, extent);
    return TRUE;
}

guint
vr_extents_count(const VrExtents *self)
{
    return self->array->len;
}

const VrExtent *
vr_extents_get(const VrExtents *self, guint i)
{
    g_return_val_if_fail(i < self->array->len, NULL);
    return &g_array_index(self->array, VrExtent, i);
}

guint64
vr_extents_bytes(const VrExtents *self, guint32 flags)
{
    guint64 bytes = 0;

    for (guint i = 0; i < self->array->len; i++) {
        const VrExtent *extent = vr_extents_get(self, i);

        if (extent->flags == flags)
            bytes += extent->length;
    }
    return bytes;
}

/* Appends [start, end) less what is already covered by the end of the list. */
static void
append_rest(VrExtents *self, guint64 start, guint64 end, guint32 flags)
{
    if (self->array->len > 0)
        start = MAX(start, end_of(vr_extents_get(self, self->array->len - 1)));
    if (start < end)
        (void) vr_extents_append(self, start, end - start, flags);
}

static guint64
round_up(guint64 value, guint64 align, guint64 limit)
{
    guint64 rest = value % align;

    if (rest == 0)
        return value;
    return align - rest >= limit - value ? limit : value + (align - rest);
}

/* The extents that are DATA, or those that are not, rounded outwards. */
static VrExtents *
align_some(const VrExtents *self, gboolean data, guint64 align, guint64 size)
{
    VrExtents *result = vr_extents_new();

    for (guint i = 0; i < self->array->len; i++) {
        const VrExtent *extent = vr_extents_get(self, i);
        guint64 end = MIN(end_of(extent), size);

        if ((extent->flags == VR_EXTENT_DATA) != data || extent->offset >= size)
            continue;
        append_rest(result, extent->offset - extent->offset % align, round_up(end, align, size),
                    extent->flags);
    }
    return result;
}

VrExtents *
vr_extents_align(const VrExtents *self, guint64 align, guint64 size)
{
    g_autoptr(VrExtents) data = NULL;
    g_autoptr(VrExtents) zero = NULL;

    g_return_val_if_fail(align > 0, NULL);
    data = align_some(self, TRUE, align, size);
    zero = align_some(self, FALSE, align, size);
    return vr_extents_union(data, zero);
}

VrExtents *
vr_extents_intersect(const VrExtents *a, const VrExtents *b)
{
    VrExtents *result = vr_extents_new();
    guint i = 0;
    guint j = 0;

    while (i < a->array->len && j < b->array->len) {
        const VrExtent *x = vr_extents_get(a, i);
        const VrExtent *y = vr_extents_get(b, j);
        guint64 start = MAX(x->offset, y->offset);
        guint64 end = MIN(end_of(x), end_of(y));

        if (start < end)
            (void) vr_extents_append(result, start, end - start, x->flags);
        if (end_of(x) < end_of(y))
            i++;
        else
            j++;
    }
    return result;
}

/* The extent of the list that holds @position or is the next one behind it; NULL at the end. */
static const VrExtent *
seek(const VrExtents *self, guint *index, guint64 position)
{
    while (*index < self->array->len && end_of(vr_extents_get(self, *index)) <= position)
        (*index)++;
    return *index < self->array->len ? vr_extents_get(self, *index) : NULL;
}

/* The first border (start or end of an extent) of the list behind @position. */
static guint64
next_border(const VrExtent *extent, guint64 position)
{
    if (!extent)
        return G_MAXUINT64;
    return extent->offset > position ? extent->offset : end_of(extent);
}

VrExtents *
vr_extents_union(const VrExtents *a, const VrExtents *b)
{
    VrExtents *result = vr_extents_new();
    guint64 position = 0;
    guint i = 0;
    guint j = 0;

    for (;;) {
        const VrExtent *x = seek(a, &i, position);
        const VrExtent *y = seek(b, &j, position);
        guint64 border = MIN(next_border(x, position), next_border(y, position));
        gboolean in_x = x && x->offset <= position;
        gboolean in_y = y && y->offset <= position;

        if (!x && !y)
            return result;
        if (in_x && (!in_y || x->flags == VR_EXTENT_DATA))
            (void) vr_extents_append(result, position, border - position, x->flags);
        else if (in_y)
            (void) vr_extents_append(result, position, border - position, y->flags);
        position = border;
    }
}
