/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/replica/store_room.h"

#include <errno.h>
#include <sys/statvfs.h>

#include "policies/error.h"

#define GIB (G_GUINT64_CONSTANT(1) << 30)

static gint reserve_percent; /* atomic */

void
vr_store_room_set_reserve(guint percent)
{
    g_atomic_int_set(&reserve_percent, (gint) MIN(percent, 100));
}

static guint64
reserve_of(guint64 size)
{
    guint64 percent = (guint64) g_atomic_int_get(&reserve_percent);

    return percent == 0 ? 0 : MIN(MAX(size / 100 * percent, GIB), size / 4);
}

gboolean
vr_store_room(const char *path, VrStoreRoom *ret_room, GError **error)
{
    struct statvfs fs;
    guint64 left;

    if (statvfs(path, &fs) < 0) {
        vr_set_error_errno(error, errno, "cannot ask for the room in '%s'", path);
        return FALSE;
    }
    left = (guint64) fs.f_bavail * fs.f_frsize;
    ret_room->reserve_bytes = reserve_of((guint64) fs.f_blocks * fs.f_frsize);
    ret_room->free_bytes = left > ret_room->reserve_bytes ? left - ret_room->reserve_bytes : 0;
    ret_room->used_percent =
        fs.f_blocks > 0 ? (guint) (100 - MIN(fs.f_bavail * 100 / fs.f_blocks, 100)) : 100;
    return TRUE;
}

gboolean
vr_store_room_check(const char *path, const char *store, guint64 bytes, GError **error)
{
    VrStoreRoom room;

    if (!vr_store_room(path, &room, error))
        return FALSE;
    if (room.free_bytes >= bytes)
        return TRUE;
    vr_set_error(error, VR_ERROR_NO_SPACE, "store-full",
                 "Free space in the store, enlarge it, or keep fewer recovery points there.",
                 "store '%s' has no room for %" G_GUINT64_FORMAT " MiB more: %" G_GUINT64_FORMAT
                 " MiB are free, and %" G_GUINT64_FORMAT " MiB stay free for other guests",
                 store, (bytes >> 20) + 1, (room.free_bytes + room.reserve_bytes) >> 20,
                 room.reserve_bytes >> 20);
    return FALSE;
}
