/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/state/state_protection.h"
#include "storage/state/state_rp.h"

G_BEGIN_DECLS

/**
 * SECTION: STORE/<uuid>/manifest.json: all that the database knows of a replica, so that the store
 * alone is enough to have it back.
 *
 * It says what the rows of protection (role target), rp and hold say, version
 * VR_STORE_INDEX_VERSION. "rps" are the listed RPs; "retiring" those whose merge had begun, whose
 * files may be half gone. What is read back may come from anybody who could write the store: every
 * field is checked.
 */

#define VR_STORE_INDEX_VERSION 2
#define VR_STORE_INDEX_NAME "manifest.json"
#define VR_STORE_INDEX_MAX_BYTES ((gsize) 64 * 1024 * 1024)
#define VR_STORE_INDEX_MAX_VALUES (8u * 1024 * 1024)

typedef struct {
    guint64 number;
    char *reason; /* owned */
} VrStoreHold;

typedef struct {
    VrProtection *row; /* owned; role target, store as it was named then */
    char *peer_name;   /* owned; how the peer was called, for people */
    GPtrArray *rps;    /* owned; VrRpRow, ascending, retiring ones included */
    GPtrArray *holds;  /* owned; VrStoreHold */
} VrStoreIndex;

void vr_store_index_free(VrStoreIndex *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrStoreIndex, vr_store_index_free)

/** What belongs into the index of @uuid now. Without a row of the protection only its RPs: nobody
 * can have such a replica back. (transfer full) */
char *vr_store_index_text(VrState *state, const char *uuid, GError **error);

/** Strict inverse; @uuid is the name of the directory and must be the index's. Errors: INVALID
 * naming the field, "index-too-old", "index-too-new". */
VrStoreIndex *vr_store_index_parse(const char *text, gsize len, const char *uuid, GError **error);

/** Largest number of an RP in an index of any version; 0 if there is none or it cannot be read. */
guint64 vr_store_index_newest(const char *text, gsize len);

G_END_DECLS
