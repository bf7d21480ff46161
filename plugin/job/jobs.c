/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/jobs.h"

#include "plugin/exclusive.h"
#include "policies/error.h"
#include "qmp/point/checkpoint.h"
#include "qmp/point/point.h"
#include "storage/util/file_util.h"
#include "storage/state/state_protection.h"

const VrJobKind vr_job_kinds[] = {
    {"protect", vr_job_protect_steps, vr_job_protect_run, 0},
    {"sync", vr_job_sync_steps, vr_job_sync_run, 0},
    {"unprotect", vr_job_unprotect_steps, vr_job_unprotect_run, VR_JOB_KIND_URGENT},
    {"failover", vr_job_failover_steps, vr_job_failover_run, VR_JOB_KIND_URGENT},
    {"activate", vr_job_activate_steps, vr_job_activate_run, VR_JOB_KIND_URGENT},
    {"verify", vr_job_verify_steps, vr_job_verify_run, VR_JOB_KIND_YIELDS},
};
const guint vr_n_job_kinds = G_N_ELEMENTS(vr_job_kinds);

static char *
holder_name(VrJob *job)
{
    return g_strdup_printf("job %" G_GINT64_FORMAT, vr_job_id(job));
}

gboolean
vr_job_take_exclusive(VrJob *job, VrApp *app, GError **error)
{
    g_autofree char *holder = holder_name(job);
    GCancellable *cancel = vr_job_resumed(job) ? NULL : vr_job_cancellable(job);

    return vr_exclusive_begin(app, vr_job_uuid(job), holder, -1, cancel, error);
}

gboolean
vr_job_take_guard(VrJob *job, VrApp *app, GError **error)
{
    g_autofree char *holder = holder_name(job);

    return vr_guard_take(app->guards, vr_job_uuid(job), holder, -1, vr_job_cancellable(job), error);
}

static gboolean
gone(GError **error)
{
    if (!g_error_matches(*error, VR_ERROR, VR_ERROR_NOT_FOUND))
        return FALSE;
    g_clear_error(error);
    return TRUE;
}

gboolean
vr_source_leave(VrApp *app, const char *uuid, GError **error)
{
    g_autofree char *manifests = vr_app_manifest_dir(app, uuid);
    g_autoptr(GError) local = NULL;
    g_autoptr(VrCycleJournal) journal = vr_state_cycle_get(app->state, uuid, &local);

    vr_cycle_log_forget(app->cycles, uuid);
    if (local != NULL ||
        (journal != NULL && journal->point != NULL &&
         !vr_point_recover(app->conn, journal->point, FALSE, &local) && !gone(&local)) ||
        (!vr_point_sweep(app->conn, uuid, NULL, &local) && !gone(&local)) ||
        (!vr_checkpoint_sweep(app->conn, uuid, NULL, NULL, &local) && !gone(&local))) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    return vr_state_cycle_delete(app->state, uuid, error) && vr_remove_tree(manifests, error);
}
