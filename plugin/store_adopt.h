/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "storage/store_scan.h"

G_BEGIN_DECLS

/**
 * SECTION: replicas that a store holds and the database may not know: what there is, and having
 * them back (a lost database, a store from another machine) or away.
 */

typedef enum {
    VR_STORE_KNOWN,    /* the database has it */
    VR_STORE_ORPHANED, /* no row: it can be adopted or dropped */
    VR_STORE_DAMAGED,  /* no row, and files are missing or the index cannot be read */
    VR_STORE_MISSING,  /* a row with recovery points and no directory */
} VrStoreFinding;

/** All directories of the store and all rows that should have one: array of {uuid, state, name,
 * peer, peer_fingerprint, paired, points, newest, bytes, damage, protection_state}. (transfer full)
 * Errors: those of reading the directory. */
JsonArray *vr_store_findings(VrApp *app, const VrStoreRow *store, GError **error);

/**
 * vr_store_adopt:
 * @domain: name or UUID of an orphaned replica
 * @ret_uuid: (transfer full) (nullable)
 *
 * The database gets back what the index of the replica says: protection, recovery points, holds,
 * in one transaction, and the fence stands again. Adopting what is known already is success. Then
 * replication goes on from the newest recovery point; the digests are read from the store. Errors:
 * NOT_FOUND "no-such-replica", INVALID "ambiguous-name", REFUSED "replica-damaged", "peer-unknown"
 * (pair again first), "protected-otherwise", "domain-exists-uuid" (a domain that is not ours, or
 * that runs), CONFLICT "busy".
 */
gboolean vr_store_adopt(VrApp *app, const VrStoreRow *store, const char *domain, char **ret_uuid,
                        GError **error);

/** Deletes the directory of @uuid. Errors: NOT_FOUND, REFUSED "replica-known", "replica-in-use" (a
 * domain of this host has a disk there), CONFLICT "busy". */
gboolean vr_store_drop(VrApp *app, const VrStoreRow *store, const char *uuid, GError **error);

/** Directories with recovery points of which the database knows nothing, in all stores. */
guint vr_store_count_orphans(VrApp *app, char **ret_store);

G_END_DECLS
