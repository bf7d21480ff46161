/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/error.h"
#include "storage/state/state_peer.h"
#include "storage/state/state_private.h"

void
vr_store_row_free(VrStoreRow *self)
{
    if (!self)
        return;
    g_free(self->name);
    g_free(self->path);
    g_free(self);
}

static gpointer
store_row(sqlite3_stmt *stmt, GError **error G_GNUC_UNUSED)
{
    VrStoreRow *self = g_new0(VrStoreRow, 1);

    self->name = vr_column_text(stmt, 0);
    self->path = vr_column_text(stmt, 1);
    return self;
}

gboolean
vr_state_store_put(VrState *self, const VrStoreRow *row, GError **error)
{
    return vr_state_run(
        self, NULL, error,
        "INSERT INTO store VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET path = ?2", "ss",
        row->name, row->path);
}

VrStoreRow *
vr_state_store_get(VrState *self, const char *name, GError **error)
{
    g_autoptr(GError) local = NULL;
    VrStoreRow *row = vr_state_row(self, store_row, &local,
                                   "SELECT name, path FROM store WHERE name = ?1", "s", name);

    if (!row && !local)
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-store",
                     "See 'virt-replica store-list' for the stores.", "no store '%s'", name);
    else if (!row)
        g_propagate_error(error, g_steal_pointer(&local));
    return row;
}

GPtrArray *
vr_state_store_list(VrState *self, GError **error)
{
    return vr_state_rows(self, store_row, (GDestroyNotify) vr_store_row_free, error,
                         "SELECT name, path FROM store ORDER BY name", "");
}

static gboolean
delete_store(VrState *self, const char *name, GError **error)
{
    gint64 users;

    if (!vr_state_number(self, 0, &users, error,
                         "SELECT count(*) FROM protection WHERE store = ?1 AND role = 'target'",
                         "s", name))
        return FALSE;
    if (users > 0) {
        vr_set_error(error, VR_ERROR_REFUSED, "store-in-use", "Unprotect these domains first.",
                     "store '%s' holds the replicas of %" G_GINT64_FORMAT " protections", name,
                     users);
        return FALSE;
    }
    return vr_state_run(self, NULL, error, "DELETE FROM store WHERE name = ?1", "s", name);
}

gboolean
vr_state_store_delete(VrState *self, const char *name, GError **error)
{
    if (!vr_state_begin(self, error))
        return FALSE;
    if (!delete_store(self, name, error)) {
        vr_state_rollback(self);
        return FALSE;
    }
    return vr_state_commit(self, error);
}
