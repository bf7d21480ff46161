/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/state/state_job.h"

#include "policies/error.h"
#include "storage/state/state_private.h"

static const char *const job_state_names[] = {
    [VR_JOB_QUEUED] = "queued",   [VR_JOB_RUNNING] = "running",
    [VR_JOB_WAITING] = "waiting", [VR_JOB_COMPLETED] = "completed",
    [VR_JOB_FAILED] = "failed",   [VR_JOB_CANCELLED] = "cancelled",
};

const char *
vr_job_state_name(VrJobState state)
{
    return job_state_names[state];
}

static gboolean
job_state_from_name(const char *name, VrJobState *ret_state)
{
    for (guint i = 0; i < G_N_ELEMENTS(job_state_names); i++) {
        if (g_strcmp0(job_state_names[i], name) == 0) {
            *ret_state = (VrJobState) i;
            return TRUE;
        }
    }
    return FALSE;
}

void
vr_job_row_free(VrJobRow *self)
{
    if (!self)
        return;
    g_free(self->origin);
    g_free(self->kind);
    g_free(self->uuid);
    g_free(self->domain);
    g_free(self->args);
    g_free(self->steps);
    g_free(self->error);
    g_free(self->result);
    g_free(self);
}

#define JOB_COLUMNS                                                                                \
    "id, kind, uuid, domain, state, args, steps, bytes_read, bytes_sent, progress, started_us, "   \
    "ended_us,"                                                                                    \
    "error, result, parent, origin"
#define JOB_ACTIVE "state IN ('queued', 'running', 'waiting')"
#define JOB_ASKED "(?1 IS NULL OR uuid = ?1) AND (?2 = 0 OR " JOB_ACTIVE ")"

static gpointer
job_row(sqlite3_stmt *stmt, GError **error)
{
    g_autoptr(VrJobRow) self = g_new0(VrJobRow, 1);

    if (!job_state_from_name((const char *) sqlite3_column_text(stmt, 4), &self->state)) {
        vr_set_error_column(error, stmt, 4);
        return NULL;
    }
    self->id = sqlite3_column_int64(stmt, 0);
    self->kind = vr_column_text(stmt, 1);
    self->uuid = vr_column_text(stmt, 2);
    self->domain = vr_column_text(stmt, 3);
    self->args = vr_column_text(stmt, 5);
    self->steps = vr_column_text(stmt, 6);
    self->bytes_read = (guint64) sqlite3_column_int64(stmt, 7);
    self->bytes_sent = (guint64) sqlite3_column_int64(stmt, 8);
    self->progress = sqlite3_column_double(stmt, 9);
    self->started_us = sqlite3_column_int64(stmt, 10);
    self->ended_us = sqlite3_column_int64(stmt, 11);
    self->error = vr_column_text(stmt, 12);
    self->result = vr_column_text(stmt, 13);
    self->parent = sqlite3_column_int64(stmt, 14);
    self->origin = vr_column_text(stmt, 15);
    return g_steal_pointer(&self);
}

gboolean
vr_state_job_insert(VrState *self, VrJobRow *row, GError **error)
{
    gint64 id;

    if (!vr_state_begin(self, error))
        return FALSE;
    if (!vr_state_run(self, NULL, error,
                      "INSERT INTO job (kind, uuid, domain, state, args, steps, bytes_read, "
                      "bytes_sent, progress,"
                      " started_us, ended_us, error, result, parent, origin)"
                      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
                      "ssssssiidiissis", row->kind, row->uuid, row->domain,
                      vr_job_state_name(row->state), row->args, row->steps,
                      (gint64) row->bytes_read, (gint64) row->bytes_sent, row->progress,
                      row->started_us, row->ended_us, row->error, row->result, row->parent,
                      row->origin)) {
        vr_state_rollback(self);
        return FALSE;
    }
    id = vr_state_last_id(self);
    if (!vr_state_commit(self, error))
        return FALSE;
    row->id = id;
    return TRUE;
}

static void
no_such_job(GError **error, gint64 id)
{
    vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-job",
                 "See 'virt-replica job-list --all' for the jobs.", "no job %" G_GINT64_FORMAT, id);
}

gboolean
vr_state_job_update(VrState *self, const VrJobRow *row, GError **error)
{
    int changes = 0;

    if (!vr_state_run(
            self, &changes, error,
            "UPDATE job SET kind = ?2, uuid = ?3, domain = ?4, state = ?5, args = ?6, steps = ?7,"
            " bytes_read = ?8, bytes_sent = ?9, progress = ?10, started_us = ?11, ended_us = ?12,"
            " error = ?13, result = ?14 WHERE id = ?1",
            "issssssiidiiss", row->id, row->kind, row->uuid, row->domain,
            vr_job_state_name(row->state), row->args, row->steps, (gint64) row->bytes_read,
            (gint64) row->bytes_sent, row->progress, row->started_us, row->ended_us, row->error,
            row->result))
        return FALSE;
    if (changes == 0)
        no_such_job(error, row->id);
    return changes != 0;
}

VrJobRow *
vr_state_job_get(VrState *self, gint64 id, GError **error)
{
    g_autoptr(GError) local = NULL;
    VrJobRow *row = vr_state_row(self, job_row, &local,
                                 "SELECT " JOB_COLUMNS " FROM job WHERE id = ?1", "i", id);

    if (!row && !local)
        no_such_job(error, id);
    else if (!row)
        g_propagate_error(error, g_steal_pointer(&local));
    return row;
}

GPtrArray *
vr_state_job_list(VrState *self, const char *uuid, gboolean active_only, guint max, GError **error)
{
    return vr_state_rows(
        self, job_row, (GDestroyNotify) vr_job_row_free, error,
        "SELECT " JOB_COLUMNS " FROM job WHERE id IN ("
        " SELECT id FROM (SELECT id FROM job WHERE origin IS NULL AND " JOB_ASKED
        " ORDER BY id DESC LIMIT ?3) UNION ALL"
        " SELECT id FROM (SELECT id FROM job WHERE origin IS NOT NULL AND " JOB_ASKED
        " ORDER BY id DESC LIMIT ?3)) ORDER BY id DESC",
        "sii", uuid, (gint64) active_only, (gint64) max);
}

VrJobRow *
vr_state_job_last(VrState *self, const char *uuid, const char *kind, const char *other_kind)
{
    return vr_state_row(self, job_row, NULL,
                        "SELECT " JOB_COLUMNS " FROM job WHERE uuid = ?1 AND kind IN (?2, ?3)"
                        " ORDER BY id DESC LIMIT 1",
                        "sss", uuid, kind, other_kind);
}

gboolean
vr_state_job_prune(VrState *self, guint keep, guint keep_of_peer, GError **error)
{
    return vr_state_run(self, NULL, error,
                        "DELETE FROM job WHERE id IN (SELECT id FROM (SELECT id, origin,"
                        " row_number() OVER (PARTITION BY origin ORDER BY id DESC) AS place"
                        " FROM job WHERE NOT " JOB_ACTIVE ")"
                        " WHERE place > CASE WHEN origin IS NULL THEN ?1 ELSE ?2 END)",
                        "ii", (gint64) keep, (gint64) keep_of_peer);
}
