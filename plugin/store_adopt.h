/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/store_find.h"

G_BEGIN_DECLS

/** SECTION: having back, or away, what a store holds and the database does not know, or does not
 * know any more: a lost database, one put back from a backup, a store from another machine. */

typedef struct {
    char *uuid, *name;  /* owned */
    gboolean was_known; /* there was nothing to take over */
    gboolean is_paused; /* it was failed over to this host, and its domain here is paused: perhaps a
                           start that was interrupted before the database was lost */
} VrStoreAdopted;
void vr_store_adopted_clear(VrStoreAdopted *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrStoreAdopted, vr_store_adopted_clear)

/**
 * vr_store_adopt:
 * @domain: name or UUID of a replica that is orphaned or newer than the database
 * @ret_adopted: (nullable): cleared by the caller
 *
 * The database gets what the index of the replica says: protection, recovery points, holds, in one
 * transaction; then the fence stands as the database says. Adopting what is known already is
 * success. Then replication goes on from the newest recovery point; the digests are read from the
 * store. Errors: NOT_FOUND "no-such-replica", INVALID "ambiguous-name", REFUSED "replica-damaged",
 * "replica-diverged" (the store's generation does not follow from the database's), "peer-unknown"
 * (pair again first), "protected-otherwise", "domain-exists-uuid" (a domain that is not ours, or
 * that runs), CONFLICT "busy".
 */
gboolean vr_store_adopt(VrApp *app, const VrStoreRow *store, const char *domain,
                        VrStoreAdopted *ret_adopted, GError **error);

/** Deletes the directory of the replica @domain (name or UUID), and an older row if there is one.
 * Errors: NOT_FOUND "no-such-replica", INVALID "ambiguous-name", REFUSED "replica-known" (the
 * database is not older), "replica-in-use", CONFLICT "busy". */
gboolean vr_store_drop(VrApp *app, const VrStoreRow *store, const char *domain, GError **error);

G_END_DECLS
