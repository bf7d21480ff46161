/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "storage/replica/store_age.h"
#include "storage/replica/store_scan.h"

G_BEGIN_DECLS

/** SECTION: what a store of this host holds, and what the database knows of it. Blocks. */

/**
 * vr_store_findings:
 *
 * All directories of the store and all rows that should have one: array of {uuid, state, name,
 * peer, peer_fingerprint, paired, points, newest, bytes, damage, protection_state}, by what the
 * store says. States: "known"; "newer" (the database is older: adopt it); "diverged" (they
 * contradict each other); "orphaned" (no row: adopt or drop it); "let-go" (no row: its protection
 * was ended by force, its domain goes on with its files); "damaged" (no row, and it cannot be used
 * as it is); "missing" (a row with recovery points and no directory). (transfer full) Errors: those
 * of reading the directory.
 */
JsonArray *vr_store_findings(VrApp *app, const VrStoreRow *store, GError **error);

/** The replica of @row lies in @store. */
gboolean vr_store_has_row(const VrProtection *row, const VrStoreRow *store);

/** One without an index is taken to be current. @row: of the database. FALSE if that cannot be
 * read. */
gboolean vr_store_entry_age(VrApp *app, const VrStoreEntry *entry, const VrProtection *row,
                            VrStoreAge *ret_age, GError **error);

/** Directories with recovery points of which the database knows nothing, in all stores; not those
 * that were let go. */
guint vr_store_count_orphans(VrApp *app, char **ret_store);

G_END_DECLS
