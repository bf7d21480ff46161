/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_room.h"

#include <sys/stat.h>

#include "storage/replica/layer.h"
#include "storage/replica/manifest.h"
#include "storage/util/sha256.h"

/* Files of a disk in a cycle and its manifest, with a block or a cluster begun in each, but for its
 * layer. */
#define FILES_BYTES ((guint64) 256 * 1024)

typedef struct {
    GHashTable *seen; /* owned: inodes that were counted */
    guint64 bytes;
} Sum;

static void
add_file(Sum *sum, const struct stat *st)
{
    gint64 inode = (gint64) st->st_ino;

    if (st->st_nlink > 1 && !g_hash_table_add(sum->seen, g_memdup2(&inode, sizeof(inode))))
        return;
    sum->bytes += (guint64) st->st_blocks * 512;
}

/* Files of @path, and of the directories in it down to @depth. */
static void
add_dir(Sum *sum, const char *path, guint depth)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        struct stat st;

        if (lstat(child, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode) && depth > 0)
            add_dir(sum, child, depth - 1);
        else if (S_ISREG(st.st_mode))
            add_file(sum, &st);
    }
}

guint64
vr_peer_room_held(const char *replica_dir, const char *manifest_dir)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    g_autofree char *points = g_build_filename(replica_dir, "rp", NULL);
    g_autofree char *attachments = g_build_filename(replica_dir, "attachments", NULL);
    Sum sum = {.seen = seen};

    add_dir(&sum, manifest_dir, 0);
    add_dir(&sum, attachments, 0);
    add_dir(&sum, points, 1);
    return sum.bytes;
}

guint64
vr_peer_room_of_begin(const VrCycleBegin *begin)
{
    guint64 bytes = 0;

    for (guint i = 0; i < begin->disks->len; i++) {
        const VrCycleDisk *disk = g_ptr_array_index(begin->disks, i);

        bytes += FILES_BYTES + vr_layer_empty_bytes(disk->size_bytes) +
                 (vr_chunk_count(disk->size_bytes) / VR_MANIFEST_GROUP_CHUNKS + 1) * VR_SHA256_LEN;
    }
    return bytes;
}
