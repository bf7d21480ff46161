/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/state/state_transfer.h"

#include "storage/state/state_private.h"

static const char *const phase_names[] = {
    [VR_TRANSFER_LEAVING] = "leaving",     [VR_TRANSFER_HANDING_OVER] = "handing-over",
    [VR_TRANSFER_PREPARING] = "preparing", [VR_TRANSFER_STARTING] = "starting",
    [VR_TRANSFER_REFUSED] = "refused",     [VR_TRANSFER_GIVEN_UP] = "given-up",
};

static gboolean
phase_from_name(const char *name, VrTransferPhase *ret_phase)
{
    for (guint i = 0; i < G_N_ELEMENTS(phase_names); i++) {
        if (g_strcmp0(phase_names[i], name) == 0) {
            *ret_phase = (VrTransferPhase) i;
            return TRUE;
        }
    }
    return FALSE;
}

void
vr_transfer_free(VrTransfer *self)
{
    if (!self)
        return;
    g_free(self->uuid);
    g_free(self->generation);
    g_free(self->refused);
    g_free(self);
}

static gpointer
transfer_row(sqlite3_stmt *stmt, GError **error)
{
    g_autoptr(VrTransfer) self = g_new0(VrTransfer, 1);

    if (!phase_from_name((const char *) sqlite3_column_text(stmt, 1), &self->phase)) {
        vr_set_error_column(error, stmt, 1);
        return NULL;
    }
    self->uuid = vr_column_text(stmt, 0);
    self->ran = sqlite3_column_int(stmt, 2) != 0;
    self->autostart = sqlite3_column_int(stmt, 3) != 0;
    self->generation = vr_column_text(stmt, 4);
    self->number = (guint64) sqlite3_column_int64(stmt, 5);
    self->refused = vr_column_text(stmt, 6);
    return g_steal_pointer(&self);
}

gboolean
vr_state_transfer_get(VrState *self, const char *uuid, VrTransfer **ret_row, GError **error)
{
    g_autoptr(GError) local = NULL;
    VrTransfer *row = vr_state_row(self, transfer_row, &local,
                                   "SELECT uuid, phase, ran, autostart, generation, number, refused"
                                   " FROM transfer WHERE uuid = ?1",
                                   "s", uuid);

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    *ret_row = row;
    return TRUE;
}

gboolean
vr_state_transfer_put(VrState *self, const VrTransfer *row, GError **error)
{
    return vr_state_run(
        self, NULL, error,
        "INSERT INTO transfer (uuid, phase, ran, autostart, generation, number, refused)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
        " ON CONFLICT (uuid) DO UPDATE SET phase = ?2, ran = ?3, autostart = ?4, generation = ?5,"
        "  number = ?6, refused = ?7",
        "ssiisis", row->uuid, phase_names[row->phase], (gint64) row->ran, (gint64) row->autostart,
        row->generation, (gint64) row->number, row->refused);
}

gboolean
vr_state_transfer_delete(VrState *self, const char *uuid, GError **error)
{
    return vr_state_run(self, NULL, error, "DELETE FROM transfer WHERE uuid = ?1", "s", uuid);
}
