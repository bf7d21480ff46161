/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/state/state_protection.h"

#include <string.h>

#include "policies/error.h"
#include "storage/state/state_private.h"

static const char *const role_names[] = {
    [VR_ROLE_SOURCE] = "source",
    [VR_ROLE_TARGET] = "target",
};

const char *
vr_role_name(VrRole role)
{
    return role_names[role];
}

static gboolean
role_from_name(const char *name, VrRole *ret_role)
{
    for (guint i = 0; i < G_N_ELEMENTS(role_names); i++) {
        if (g_strcmp0(role_names[i], name) == 0) {
            *ret_role = (VrRole) i;
            return TRUE;
        }
    }
    return FALSE;
}

void
vr_protection_free(VrProtection *self)
{
    if (!self)
        return;
    g_free(self->uuid);
    g_free(self->name);
    g_free(self->peer);
    g_free(self->store);
    g_free(self->policy);
    g_free(self->policy_text);
    g_free(self->generation);
    g_free(self->exclude);
    g_free(self->base_cycle);
    g_free(self->base_root);
    g_free(self->checkpoint);
    g_free(self->disks);
    g_free(self->last_error);
    g_free(self->networks);
    g_free(self->policy_before);
    g_free(self);
}

#define PROTECTION_COLUMNS                                                                         \
    "uuid, name, role, peer, store, policy, policy_text, state, generation, exclude, created_us,"  \
    "base_number, base_cycle, base_root, base_time_us, base_consistency, checkpoint, disks,"       \
    "manifest_unsure, last_error, last_error_us, autostart, networks, kept_until_us,"              \
    "policy_before, policy_before_until_us"

static gpointer
protection_row(sqlite3_stmt *stmt, GError **error)
{
    g_autoptr(VrProtection) self = g_new0(VrProtection, 1);

    if (!role_from_name((const char *) sqlite3_column_text(stmt, 2), &self->role)) {
        vr_set_error_column(error, stmt, 2);
        return NULL;
    }
    if (!vr_protection_state_from_name((const char *) sqlite3_column_text(stmt, 7), &self->state)) {
        vr_set_error_column(error, stmt, 7);
        return NULL;
    }
    if (!vr_consistency_from_name((const char *) sqlite3_column_text(stmt, 15),
                                  &self->base_consistency)) {
        vr_set_error_column(error, stmt, 15);
        return NULL;
    }
    self->uuid = vr_column_text(stmt, 0);
    self->name = vr_column_text(stmt, 1);
    self->peer = vr_column_text(stmt, 3);
    self->store = vr_column_text(stmt, 4);
    self->policy = vr_column_text(stmt, 5);
    self->policy_text = vr_column_text(stmt, 6);
    self->generation = vr_column_text(stmt, 8);
    self->exclude = vr_column_text(stmt, 9);
    self->created_us = sqlite3_column_int64(stmt, 10);
    self->base_number = (guint64) sqlite3_column_int64(stmt, 11);
    self->base_cycle = vr_column_text(stmt, 12);
    self->base_root = vr_column_text(stmt, 13);
    self->base_time_us = sqlite3_column_int64(stmt, 14);
    self->checkpoint = vr_column_text(stmt, 16);
    self->disks = vr_column_text(stmt, 17);
    self->manifest_unsure = sqlite3_column_int(stmt, 18) != 0;
    self->last_error = vr_column_text(stmt, 19);
    self->last_error_us = sqlite3_column_int64(stmt, 20);
    self->autostart = sqlite3_column_int(stmt, 21) != 0;
    self->networks = vr_column_text(stmt, 22);
    self->kept_until_us = sqlite3_column_int64(stmt, 23);
    self->policy_before = vr_column_text(stmt, 24);
    self->policy_before_until_us = sqlite3_column_int64(stmt, 25);
    return g_steal_pointer(&self);
}

static void
set_not_found(const char *uuid, GError **error)
{
    vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-protection",
                 "See 'virt-replica list' for the protections of this host.",
                 "no protection of domain %s on this host", uuid);
}

VrProtection *
vr_state_protection_get(VrState *self, const char *uuid, GError **error)
{
    g_autoptr(GError) local = NULL;
    VrProtection *row =
        vr_state_row(self, protection_row, &local,
                     "SELECT " PROTECTION_COLUMNS " FROM protection WHERE uuid = ?1", "s", uuid);

    if (!row && !local)
        set_not_found(uuid, error);
    else if (!row)
        g_propagate_error(error, g_steal_pointer(&local));
    return row;
}

gboolean
vr_state_protection_find(VrState *self, const char *uuid, VrProtection **ret_row, GError **error)
{
    g_autoptr(GError) local = NULL;

    *ret_row = vr_state_protection_get(self, uuid, &local);
    if (*ret_row || g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

GPtrArray *
vr_state_protection_list(VrState *self, GError **error)
{
    return vr_state_rows(self, protection_row, (GDestroyNotify) vr_protection_free, error,
                         "SELECT " PROTECTION_COLUMNS " FROM protection ORDER BY name, uuid", "");
}

static gpointer
text_row(sqlite3_stmt *stmt, GError **error G_GNUC_UNUSED)
{
    return vr_column_text(stmt, 0);
}

GPtrArray *
vr_state_protection_policies(VrState *self)
{
    return vr_state_rows(self, text_row, g_free, NULL,
                         "SELECT DISTINCT policy FROM protection WHERE role = 'source'", "");
}

gboolean
vr_state_protection_count(VrState *self, guint *ret_number, GError **error)
{
    gint64 number;

    if (!vr_state_number(self, 0, &number, error, "SELECT count(*) FROM protection", ""))
        return FALSE;
    *ret_number = (guint) number;
    return TRUE;
}

gboolean
vr_state_protection_insert(VrState *self, const VrProtection *row, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_state_run(self, NULL, &local,
                     "INSERT INTO protection (" PROTECTION_COLUMNS
                     ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,"
                     "  ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26)",
                     "ssssssssssiississsisiisisi", row->uuid, row->name, vr_role_name(row->role),
                     row->peer, row->store, row->policy, row->policy_text,
                     vr_protection_state_name(row->state), row->generation, row->exclude,
                     row->created_us, (gint64) row->base_number, row->base_cycle, row->base_root,
                     row->base_time_us, vr_consistency_name(row->base_consistency), row->checkpoint,
                     row->disks, (gint64) row->manifest_unsure, row->last_error, row->last_error_us,
                     (gint64) row->autostart, row->networks, row->kept_until_us, row->policy_before,
                     row->policy_before_until_us))
        return TRUE;
    if (!g_error_matches(local, VR_ERROR, VR_ERROR_CONFLICT) ||
        !g_str_equal(vr_error_slug(local), "state-constraint"))
        g_propagate_error(error, g_steal_pointer(&local));
    else if (strstr(local->message, "FOREIGN KEY") != NULL)
        vr_set_error(error, VR_ERROR_REFUSED, "no-such-peer", "Pair the two hosts first.",
                     "protection of domain '%s' names peer %s, which is not paired", row->name,
                     row->peer);
    else
        vr_set_error(error, VR_ERROR_CONFLICT, "protection-exists", "Try again in a moment.",
                     "this host has a protection of domain '%s' already", row->name);
    return FALSE;
}

/* One row must change: a protection that was deleted meanwhile does not come back. */
static gboolean
changed(const char *uuid, gboolean ok, int changes, GError **error)
{
    if (ok && changes != 1) {
        set_not_found(uuid, error);
        return FALSE;
    }
    return ok;
}

gboolean
vr_state_protection_set_state(VrState *self, const char *uuid, VrProtectionState state,
                              GError **error)
{
    int n = 0;
    gboolean ok = vr_state_run(self, &n, error, "UPDATE protection SET state = ?2 WHERE uuid = ?1",
                               "ss", uuid, vr_protection_state_name(state));

    return changed(uuid, ok, n, error);
}

gboolean
vr_state_protection_set_generation(VrState *self, const char *uuid, const char *line,
                                   GError **error)
{
    int n = 0;
    gboolean ok = vr_state_run(
        self, &n, error, "UPDATE protection SET generation = ?2 WHERE uuid = ?1", "ss", uuid, line);

    return changed(uuid, ok, n, error);
}

gboolean
vr_state_protection_set_settings(VrState *self, const VrProtection *row, GError **error)
{
    int n = 0;
    gboolean ok = vr_state_run(
        self, &n, error,
        "UPDATE protection SET name = ?2, policy = ?3, policy_text = ?4, exclude = ?5,"
        " networks = ?6, policy_before = ?7, policy_before_until_us = ?8 WHERE uuid = ?1",
        "sssssssi", row->uuid, row->name, row->policy, row->policy_text, row->exclude,
        row->networks, row->policy_before, row->policy_before_until_us);

    return changed(row->uuid, ok, n, error);
}

gboolean
vr_state_protection_set_kept_until(VrState *self, const char *uuid, gint64 until_us, GError **error)
{
    int n = 0;
    gboolean ok =
        vr_state_run(self, &n, error, "UPDATE protection SET kept_until_us = ?2 WHERE uuid = ?1",
                     "si", uuid, until_us);

    return changed(uuid, ok, n, error);
}

gboolean
vr_state_protection_set_name(VrState *self, const char *uuid, const char *name, GError **error)
{
    int n = 0;
    gboolean ok = vr_state_run(self, &n, error, "UPDATE protection SET name = ?2 WHERE uuid = ?1",
                               "ss", uuid, name);

    return changed(uuid, ok, n, error);
}

gboolean
vr_state_protection_set_policy(VrState *self, const char *uuid, const char *policy, GError **error)
{
    int n = 0;
    gboolean ok = vr_state_run(self, &n, error, "UPDATE protection SET policy = ?2 WHERE uuid = ?1",
                               "ss", uuid, policy);

    return changed(uuid, ok, n, error);
}

gboolean
vr_state_protection_set_exclude(VrState *self, const char *uuid, const char *exclude,
                                GError **error)
{
    int n = 0;
    gboolean ok = vr_state_run(
        self, &n, error, "UPDATE protection SET exclude = ?2 WHERE uuid = ?1", "ss", uuid, exclude);

    return changed(uuid, ok, n, error);
}

gboolean
vr_state_protection_set_autostart(VrState *self, const char *uuid, gboolean autostart,
                                  GError **error)
{
    int n = 0;
    gboolean ok =
        vr_state_run(self, &n, error, "UPDATE protection SET autostart = ?2 WHERE uuid = ?1", "si",
                     uuid, (gint64) autostart);

    return changed(uuid, ok, n, error);
}

gboolean
vr_state_protection_set_base(VrState *self, const VrProtection *row, GError **error)
{
    int n = 0;
    gboolean ok = vr_state_run(
        self, &n, error,
        "UPDATE protection SET base_number = ?2, base_cycle = ?3, base_root = ?4,"
        " base_time_us = ?5, base_consistency = ?6, checkpoint = ?7, disks = ?8,"
        " manifest_unsure = 0, last_error = NULL WHERE uuid = ?1",
        "sississs", row->uuid, (gint64) row->base_number, row->base_cycle, row->base_root,
        row->base_time_us, vr_consistency_name(row->base_consistency), row->checkpoint, row->disks);

    return changed(row->uuid, ok, n, error);
}

gboolean
vr_state_protection_drop_checkpoint(VrState *self, const char *uuid, GError **error)
{
    int n = 0;
    gboolean ok = vr_state_run(
        self, &n, error, "UPDATE protection SET checkpoint = NULL WHERE uuid = ?1", "s", uuid);

    return changed(uuid, ok, n, error);
}

gboolean
vr_state_protection_distrust_manifest(VrState *self, const char *uuid, GError **error)
{
    int n = 0;
    gboolean ok = vr_state_run(
        self, &n, error, "UPDATE protection SET manifest_unsure = 1 WHERE uuid = ?1", "s", uuid);

    return changed(uuid, ok, n, error);
}

gboolean
vr_state_protection_set_last_error(VrState *self, const char *uuid, const char *text,
                                   gint64 when_us, GError **error)
{
    int n = 0;
    gboolean ok =
        vr_state_run(self, &n, error,
                     "UPDATE protection SET last_error = ?2, last_error_us = ?3 WHERE uuid = ?1",
                     "ssi", uuid, text, when_us);

    return changed(uuid, ok, n, error);
}

gboolean
vr_state_protection_delete(VrState *self, const char *uuid, GError **error)
{
    return vr_state_run(self, NULL, error, "DELETE FROM protection WHERE uuid = ?1", "s", uuid);
}

void
vr_cycle_journal_free(VrCycleJournal *self)
{
    if (!self)
        return;
    g_free(self->uuid);
    g_free(self->cycle);
    g_free(self->checkpoint);
    g_free(self->point);
    g_free(self->commit);
    g_free(self->disks);
    g_free(self);
}

static gpointer
cycle_row(sqlite3_stmt *stmt, GError **error)
{
    g_autoptr(VrCycleJournal) self = g_new0(VrCycleJournal, 1);

    if (!vr_cycle_kind_from_name((const char *) sqlite3_column_text(stmt, 2), &self->kind)) {
        vr_set_error_column(error, stmt, 2);
        return NULL;
    }
    self->uuid = vr_column_text(stmt, 0);
    self->cycle = vr_column_text(stmt, 1);
    self->checkpoint = vr_column_text(stmt, 3);
    self->point = vr_column_text(stmt, 4);
    self->sent = sqlite3_column_int(stmt, 5) != 0;
    self->commit = vr_column_text(stmt, 6);
    self->disks = vr_column_text(stmt, 7);
    return g_steal_pointer(&self);
}

VrCycleJournal *
vr_state_cycle_get(VrState *self, const char *uuid, GError **error)
{
    return vr_state_row(self, cycle_row, error,
                        "SELECT uuid, cycle, kind, checkpoint, point, sent, commit_json, disks"
                        " FROM cycle WHERE uuid = ?1",
                        "s", uuid);
}

gboolean
vr_state_cycle_put(VrState *self, const VrCycleJournal *row, GError **error)
{
    return vr_state_run(
        self, NULL, error,
        "INSERT INTO cycle (uuid, cycle, kind, checkpoint, point, sent, commit_json, disks)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        " ON CONFLICT (uuid) DO UPDATE SET cycle = ?2, kind = ?3, checkpoint = ?4, point = ?5,"
        "  sent = ?6, commit_json = ?7, disks = ?8",
        "sssssiss", row->uuid, row->cycle, vr_cycle_kind_name(row->kind), row->checkpoint,
        row->point, (gint64) row->sent, row->commit, row->disks);
}

gboolean
vr_state_cycle_delete(VrState *self, const char *uuid, GError **error)
{
    return vr_state_run(self, NULL, error, "DELETE FROM cycle WHERE uuid = ?1", "s", uuid);
}
