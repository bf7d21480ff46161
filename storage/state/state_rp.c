/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A recovery point counts as pinned while it has a hold, whatever the hold's reason. */
#include "storage/state/state_rp.h"

#include "policies/error.h"
#include "storage/state/state_private.h"

static const char *const rp_state_names[] = {
    [VR_RP_LISTED] = "listed",
    [VR_RP_RETIRING] = "retiring",
};

static gboolean
rp_state_from_name(const char *name, VrRpState *ret_state)
{
    for (guint i = 0; i < G_N_ELEMENTS(rp_state_names); i++) {
        if (g_strcmp0(rp_state_names[i], name) == 0) {
            *ret_state = (VrRpState) i;
            return TRUE;
        }
    }
    return FALSE;
}

void
vr_rp_row_free(VrRpRow *self)
{
    if (!self)
        return;
    g_free(self->uuid);
    g_free(self->rp.cycle);
    g_free(self->rp.root);
    g_free(self->rp.damaged_disk);
    g_free(self->disks);
    g_free(self->attachments);
    g_free(self);
}

#define RP_COLUMNS                                                                                 \
    "uuid, number, cycle, time_us, stored_us, consistency, root, bytes, state, disks, "            \
    "attachments,"                                                                                 \
    "EXISTS (SELECT 1 FROM hold WHERE hold.uuid = rp.uuid AND hold.number = rp.number)"

static gpointer
rp_row(sqlite3_stmt *stmt, GError **error)
{
    g_autoptr(VrRpRow) self = g_new0(VrRpRow, 1);

    if (!vr_consistency_from_name((const char *) sqlite3_column_text(stmt, 5),
                                  &self->rp.consistency)) {
        vr_set_error_column(error, stmt, 5);
        return NULL;
    }
    if (!rp_state_from_name((const char *) sqlite3_column_text(stmt, 8), &self->state)) {
        vr_set_error_column(error, stmt, 8);
        return NULL;
    }
    self->uuid = vr_column_text(stmt, 0);
    self->rp.number = (guint64) sqlite3_column_int64(stmt, 1);
    self->rp.cycle = vr_column_text(stmt, 2);
    self->rp.time_us = sqlite3_column_int64(stmt, 3);
    self->rp.stored_us = sqlite3_column_int64(stmt, 4);
    self->rp.root = vr_column_text(stmt, 6);
    self->rp.bytes = (guint64) sqlite3_column_int64(stmt, 7);
    self->disks = vr_column_text(stmt, 9);
    self->attachments = vr_column_text(stmt, 10);
    self->rp.pinned = sqlite3_column_int(stmt, 11) != 0;
    return g_steal_pointer(&self);
}

gboolean
vr_state_rp_insert(VrState *self, const VrRpRow *row, GError **error)
{
    return vr_state_run(
        self, NULL, error,
        "INSERT INTO rp (uuid, number, cycle, time_us, stored_us, consistency, root, bytes,"
        " state, disks, attachments) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        "sisiississs", row->uuid, (gint64) row->rp.number, row->rp.cycle, row->rp.time_us,
        row->rp.stored_us, vr_consistency_name(row->rp.consistency), row->rp.root,
        (gint64) row->rp.bytes, rp_state_names[row->state], row->disks, row->attachments);
}

static gboolean
set_head_pending(VrState *self, const char *uuid, gboolean pending, GError **error)
{
    return vr_state_run(self, NULL, error,
                        "INSERT INTO rp_head (uuid, pending) VALUES (?1, ?2)"
                        " ON CONFLICT (uuid) DO UPDATE SET pending = ?2",
                        "si", uuid, (gint64) pending);
}

enum { FAILED_OVER = 1, KEPT };

static gpointer
why_not(sqlite3_stmt *stmt, GError **error G_GNUC_UNUSED)
{
    return GINT_TO_POINTER(sqlite3_column_int(stmt, 0) ? KEPT : FAILED_OVER);
}

/* Whoever asked for it may have been its source when he did, and not any more. */
static gboolean
is_replica_still(VrState *self, const char *uuid, GError **error)
{
    g_autoptr(GError) local = NULL;
    gpointer found = vr_state_row(
        self, why_not, &local,
        "SELECT kept_until_us != 0 FROM protection WHERE uuid = ?1 AND"
        " (kept_until_us != 0 OR state IN ('failed-over', 'committed') OR"
        " EXISTS (SELECT 1 FROM transfer WHERE uuid = ?1 AND phase IN ('preparing', 'starting')))",
        "s", uuid);

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (!found)
        return TRUE;
    if (GPOINTER_TO_INT(found) == KEPT)
        vr_set_error(error, VR_ERROR_REFUSED, "replica-kept", "Protect the domain again first.",
                     "replication to the replica of %s was ended: it takes no recovery points",
                     uuid);
    else
        vr_set_error(
            error, VR_ERROR_REFUSED, "failed-over", "See 'virt-replica info' on both hosts.",
            "the replica of %s is being failed over to this host, or was: it takes no recovery "
            "points",
            uuid);
    return FALSE;
}

gboolean
vr_state_rp_commit(VrState *self, const VrRpRow *row, GError **error)
{
    if (!vr_state_begin(self, error))
        return FALSE;
    if (!is_replica_still(self, row->uuid, error) || !vr_state_rp_insert(self, row, error) ||
        !set_head_pending(self, row->uuid, TRUE, error)) {
        vr_state_rollback(self);
        return FALSE;
    }
    return vr_state_commit(self, error);
}

gboolean
vr_state_rp_head_applied(VrState *self, const char *uuid, GError **error)
{
    return set_head_pending(self, uuid, FALSE, error);
}

gboolean
vr_state_rp_head_pending(VrState *self, const char *uuid, gboolean *ret_pending, GError **error)
{
    gint64 pending;

    if (!vr_state_number(self, 0, &pending, error, "SELECT pending FROM rp_head WHERE uuid = ?1",
                         "s", uuid))
        return FALSE;
    *ret_pending = pending != 0;
    return TRUE;
}

GPtrArray *
vr_state_rp_list(VrState *self, const char *uuid, GError **error)
{
    return vr_state_rows(self, rp_row, (GDestroyNotify) vr_rp_row_free, error,
                         "SELECT " RP_COLUMNS " FROM rp WHERE uuid = ?1 ORDER BY number", "s",
                         uuid);
}

VrRpRow *
vr_state_rp_by_cycle(VrState *self, const char *uuid, const char *cycle, GError **error)
{
    return vr_state_row(self, rp_row, error,
                        "SELECT " RP_COLUMNS " FROM rp WHERE uuid = ?1 AND cycle = ?2", "ss", uuid,
                        cycle);
}

gboolean
vr_state_rp_set_state(VrState *self, const char *uuid, guint64 number, VrRpState state,
                      GError **error)
{
    return vr_state_run(self, NULL, error,
                        "UPDATE rp SET state = ?3 WHERE uuid = ?1 AND number = ?2", "sis", uuid,
                        (gint64) number, rp_state_names[state]);
}

gboolean
vr_state_rp_set_stored(VrState *self, const char *uuid, guint64 number, guint64 bytes,
                       const char *disks, GError **error)
{
    return vr_state_run(self, NULL, error,
                        "UPDATE rp SET bytes = ?3, disks = ?4 WHERE uuid = ?1 AND number = ?2",
                        "siis", uuid, (gint64) number, (gint64) bytes, disks);
}

gboolean
vr_state_rp_delete(VrState *self, const char *uuid, guint64 number, GError **error)
{
    return vr_state_run(self, NULL, error, "DELETE FROM rp WHERE uuid = ?1 AND number = ?2", "si",
                        uuid, (gint64) number);
}

gboolean
vr_state_rp_delete_all(VrState *self, const char *uuid, GError **error)
{
    if (!vr_state_begin(self, error))
        return FALSE;
    if (!vr_state_run(self, NULL, error, "DELETE FROM rp WHERE uuid = ?1", "s", uuid) ||
        !vr_state_run(self, NULL, error, "DELETE FROM rp_head WHERE uuid = ?1", "s", uuid)) {
        vr_state_rollback(self);
        return FALSE;
    }
    return vr_state_commit(self, error);
}

gboolean
vr_state_hold_add(VrState *self, const char *uuid, guint64 number, const char *reason,
                  GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_state_run(self, NULL, &local,
                     "INSERT INTO hold VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING", "sis", uuid,
                     (gint64) number, reason))
        return TRUE;
    if (g_str_equal(vr_error_slug(local), "state-constraint"))
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-rp",
                     "See 'virt-replica rp-list' for the recovery points.",
                     "domain %s has no recovery point %" G_GUINT64_FORMAT, uuid, number);
    else
        g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean
vr_state_hold_remove(VrState *self, const char *uuid, guint64 number, const char *reason,
                     GError **error)
{
    return vr_state_run(self, NULL, error,
                        "DELETE FROM hold WHERE uuid = ?1 AND number = ?2 AND reason = ?3", "sis",
                        uuid, (gint64) number, reason);
}

gboolean
vr_state_hold_above(VrState *self, const char *uuid, guint64 number, gboolean *ret_held,
                    GError **error)
{
    gint64 held;

    if (!vr_state_number(self, 0, &held, error,
                         "SELECT EXISTS (SELECT 1 FROM hold WHERE uuid = ?1 AND number >= ?2)",
                         "si", uuid, (gint64) number))
        return FALSE;
    *ret_held = held != 0;
    return TRUE;
}

gboolean
vr_state_rp_count_free(VrState *self, const char *uuid, guint *ret_number, GError **error)
{
    gint64 number;

    if (!vr_state_number(self, 0, &number, error,
                         "SELECT count(*) FROM rp WHERE uuid = ?1 AND number >"
                         " coalesce((SELECT max(number) FROM hold WHERE hold.uuid = ?1), 0)",
                         "s", uuid))
        return FALSE;
    *ret_number = (guint) number;
    return TRUE;
}

static gpointer
reason_row(sqlite3_stmt *stmt, GError **error G_GNUC_UNUSED)
{
    return vr_column_text(stmt, 0);
}

GPtrArray *
vr_state_hold_list(VrState *self, const char *uuid, guint64 number, GError **error)
{
    return vr_state_rows(self, reason_row, g_free, error,
                         "SELECT reason FROM hold WHERE uuid = ?1 AND number = ?2 ORDER BY reason",
                         "si", uuid, (gint64) number);
}

static const char *const layer_state_names[] = {
    [VR_LAYER_GOOD] = "good", [VR_LAYER_BAD] = "bad",       [VR_LAYER_UNREADABLE] = "unreadable",
    [VR_LAYER_AWAY] = "away", [VR_LAYER_MERGED] = "merged",
};

void
vr_layer_check_free(VrLayerCheck *self)
{
    if (!self)
        return;
    g_free(self->disk);
    g_free(self);
}

static gpointer
layer_check_row(sqlite3_stmt *stmt, GError **error)
{
    VrLayerCheck *self = g_new0(VrLayerCheck, 1);

    self->number = (guint64) sqlite3_column_int64(stmt, 0);
    self->disk = vr_column_text(stmt, 1);
    self->checked_us = sqlite3_column_int64(stmt, 3);
    for (guint i = 0; i < G_N_ELEMENTS(layer_state_names); i++) {
        if (g_strcmp0((const char *) sqlite3_column_text(stmt, 2), layer_state_names[i]) == 0) {
            self->state = (VrLayerState) i;
            return self;
        }
    }
    vr_set_error_column(error, stmt, 2);
    vr_layer_check_free(self);
    return NULL;
}

GPtrArray *
vr_state_layer_checks(VrState *self, const char *uuid, GError **error)
{
    return vr_state_rows(self, layer_check_row, (GDestroyNotify) vr_layer_check_free, error,
                         "SELECT number, disk, state, checked_us FROM layer_check"
                         " WHERE uuid = ?1 ORDER BY number",
                         "s", uuid);
}

gboolean
vr_state_layer_check_put(VrState *self, const char *uuid, const VrLayerCheck *check, GError **error)
{
    return vr_state_run(self, NULL, error,
                        "INSERT INTO layer_check (uuid, number, disk, state, checked_us)"
                        " VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (uuid, number, disk)"
                        " DO UPDATE SET state = ?4, checked_us = ?5",
                        "sissi", uuid, (gint64) check->number, check->disk,
                        layer_state_names[check->state], check->checked_us);
}

gboolean
vr_state_layer_check_delete(VrState *self, const char *uuid, guint64 number, const char *disk,
                            GError **error)
{
    return vr_state_run(self, NULL, error,
                        "DELETE FROM layer_check WHERE uuid = ?1 AND number = ?2 AND disk = ?3",
                        "sis", uuid, (gint64) number, disk);
}

void
vr_replica_damage_free(VrReplicaDamage *self)
{
    if (!self)
        return;
    g_free(self->disk);
    g_free(self);
}

static gpointer
damage_row(sqlite3_stmt *stmt, GError **error G_GNUC_UNUSED)
{
    VrReplicaDamage *self = g_new0(VrReplicaDamage, 1);

    self->number = (guint64) sqlite3_column_int64(stmt, 0);
    self->disk = vr_column_text(stmt, 1);
    self->chunks = (guint64) sqlite3_column_int64(stmt, 2);
    return self;
}

VrReplicaDamage *
vr_state_damage_get(VrState *self, const char *uuid, GError **error)
{
    return vr_state_row(self, damage_row, error,
                        "SELECT number, disk, chunks FROM replica_damage WHERE uuid = ?1", "s",
                        uuid);
}

gboolean
vr_state_damage_set(VrState *self, const char *uuid, const VrReplicaDamage *damage, GError **error)
{
    if (!damage)
        return vr_state_run(self, NULL, error, "DELETE FROM replica_damage WHERE uuid = ?1", "s",
                            uuid);
    return vr_state_run(self, NULL, error,
                        "INSERT INTO replica_damage (uuid, number, disk, chunks)"
                        " VALUES (?1, ?2, ?3, ?4) ON CONFLICT (uuid)"
                        " DO UPDATE SET number = ?2, disk = ?3, chunks = ?4",
                        "sisi", uuid, (gint64) damage->number, damage->disk,
                        (gint64) damage->chunks);
}
