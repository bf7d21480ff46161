/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/replica/store_index.h"

G_BEGIN_DECLS

/**
 * SECTION: what the directories of a qcow2 store hold, asked of the files alone.
 *
 * Nothing is changed. Symbolic links are not followed, names and sizes are checked. Blocks.
 */

/** More directories than that are not looked at: a host has 500 protections. */
#define VR_STORE_SCAN_MAX 5000

typedef struct {
    char *uuid;          /* owned; name of the directory */
    VrStoreIndex *index; /* owned, nullable: it cannot be read */
    char *damage;        /* owned, nullable: why the replica cannot be used as it is */
    guint64 bytes;       /* on the disk: layers and digests */
    gboolean let_go;     /* see vr_store_let_go() */
} VrStoreEntry;

void vr_store_entry_free(VrStoreEntry *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrStoreEntry, vr_store_entry_free)

/** Every directory named by a UUID, in their order. (element-type VrStoreEntry) (transfer full)
 * Errors: those of opening @path. */
GPtrArray *vr_store_scan(const char *path, GError **error);

/** One of them; NOT_FOUND "no-such-replica" if there is no such directory. */
VrStoreEntry *vr_store_scan_one(const char *path, const char *uuid, GError **error);

/** TRUE if the directory of @uuid has an index, readable or not: somebody's recovery points. */
gboolean vr_store_holds(const char *path, const char *uuid);

/** Durably: its protection was ended by force where its domain runs on these files. They are in
 * nobody's way, and nobody has lost them. Whoever adopts it all the same takes that back. Errors:
 * those of writing a file. */
gboolean vr_store_let_go(const char *path, const char *uuid, GError **error);
gboolean vr_store_is_let_go(const char *path, const char *uuid);
gboolean vr_store_take_back(const char *path, const char *uuid, GError **error);

/** UUIDs of all directories, sorted; no file in them is opened. (transfer full) */
GPtrArray *vr_store_uuids(const char *path, GError **error);

G_END_DECLS
