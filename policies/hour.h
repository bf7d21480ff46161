/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: how many things ended, and failed, within the last hour, to the minute. Zeroed memory
 * is an empty one. Times are monotonic. */

#define VR_HOUR_SLICES 64 /* of an hour: a minute each, rounded up */

typedef struct {
    struct {
        gint64 minute; /* the slice is valid for this one only */
        guint ended, failed;
    } slices[VR_HOUR_SLICES];
} VrHour;

void vr_hour_count(VrHour *self, gint64 now_us, gboolean failed);
void vr_hour_sum(const VrHour *self, gint64 now_us, guint *ret_ended, guint *ret_failed);

G_END_DECLS
