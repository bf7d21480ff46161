/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: room in a store's file system. Some of it stays free whatever is sent, so that other
 * guests whose images lie there go on, and so that retention has room to make room. Any thread. */

/** For all stores of this process: @percent of the file system, at least 1 GiB and at most a
 * quarter of it; 0: nothing is reserved, as it is at first. */
void vr_store_room_set_reserve(guint percent);

typedef struct {
    guint64 free_bytes; /* for us, the reserve left out; 0 if that is begun */
    guint64 reserve_bytes;
    guint used_percent; /* of the file system */
} VrStoreRoom;

/** Of the file system of @path. Errors: those of asking. */
gboolean vr_store_room(const char *path, VrStoreRoom *ret_room, GError **error);

/** TRUE if there is room for @bytes more in @store, which lies in @path. NO_SPACE "store-full". */
gboolean vr_store_room_check(const char *path, const char *store, guint64 bytes, GError **error);

G_END_DECLS
