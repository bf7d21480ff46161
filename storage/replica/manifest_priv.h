/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/replica/manifest.h"
#include "storage/util/mapped_file.h"

G_BEGIN_DECLS

/** SECTION: inside of the manifest, for manifest.c and its test. */

#define SUMS_GROUP_BYTES (VR_MANIFEST_GROUP_CHUNKS * VR_DIGEST_LEN)
#define MAP_GROUP_BYTES (VR_MANIFEST_GROUP_CHUNKS / 8)

struct _VrManifest {
    guint64 size_bytes;
    guint64 chunks;
    guint64 groups;
    VrMappedFile sums;
    VrMappedFile group_sums;
    VrMappedFile next;
    VrMappedFile map;
    guint8 *touched;  /* owned; a bit a group, atomic: the map may have bits in it */
    guint8 *reserved; /* owned; a bit a group, atomic: next and map have room for it */
    gint unflushed;   /* atomic */
    GMutex lock;      /* taken while a group's room is being allocated */
};

/** The first group from @group on that the overlay touched; the number of groups if none. */
guint64 vr_manifest_next_touched(const VrManifest *self, guint64 group);

/** First half of apply: head and group digests are durable, the overlay is still there. */
gboolean vr_manifest_apply_head(VrManifest *self, GError **error);

G_END_DECLS
