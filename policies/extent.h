/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: sorted, disjoint byte ranges of one disk. Adjacent ranges with equal flags are merged.
 */

typedef enum {
    VR_EXTENT_DATA = 0,
    VR_EXTENT_ZERO = 1, /* reads as zeros, need not be read */
} VrExtentFlags;

typedef struct {
    guint64 offset; /* bytes */
    guint64 length; /* bytes, never 0 */
    guint32 flags;  /* VrExtentFlags */
} VrExtent;

typedef struct _VrExtents VrExtents;

VrExtents *vr_extents_new(void);
void vr_extents_free(VrExtents *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrExtents, vr_extents_free)

/** Appends; @offset must not lie before the end of the last one (else FALSE: caller's input is
 * bad).
 *  @length 0 is ignored. */
gboolean vr_extents_append(VrExtents *self, guint64 offset, guint64 length, guint32 flags);

guint vr_extents_count(const VrExtents *self);
const VrExtent *vr_extents_get(const VrExtents *self, guint i);

/** Sum of lengths of the ranges whose flags equal @flags. */
guint64 vr_extents_bytes(const VrExtents *self, guint32 flags);

/** New list: start rounded down and end rounded up to @align, clipped to @size; DATA wins where a
 *  rounded block holds both. (transfer full) */
VrExtents *vr_extents_align(const VrExtents *self, guint64 align, guint64 size);

/** New list of what lies in both; flags are those of @a. (transfer full) */
VrExtents *vr_extents_intersect(const VrExtents *a, const VrExtents *b);

/** New list of what lies in either; where both do, DATA wins. (transfer full) */
VrExtents *vr_extents_union(const VrExtents *a, const VrExtents *b);

G_END_DECLS
