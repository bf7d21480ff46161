/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/replicate.h"
#include "plugin/job/jobs.h"

typedef struct {
    VrJob *job;
    VrApp *app;
} Sync;

static void
set_result(VrJob *job, const VrCycleDone *done)
{
    vr_job_result_int(job, "number", (gint64) done->number);
    vr_job_result_string(job, "root", done->root);
    vr_job_result_string(job, "consistency", vr_consistency_name(done->consistency));
    if (done->not_frozen[0] != '\0')
        vr_job_result_string(job, "not_frozen", done->not_frozen);
}

static gboolean
step_replicate(gpointer data, GError **error)
{
    const Sync *self = data;
    VrJob *job = self->job;
    VrCycleWanted wanted = {
        .slot = VR_SLOT_SYNC,
        .quiesce = json_object_get_boolean_member_with_default(vr_job_args(job), "quiesce", FALSE),
    };
    g_autoptr(VrProtection) row = NULL;
    VrCycleDone done;
    gboolean ok;

    if (!vr_job_take_guard(job, self->app, error))
        return FALSE;
    row = vr_state_protection_get(self->app->state, vr_job_uuid(job), error);
    ok = row != NULL && vr_protection_admits(row->state, VR_OPERATION_SYNC, error) &&
         vr_replicate(self->app, row->uuid, &wanted, vr_job_progress(job), vr_job_cancellable(job),
                      &done, error);
    vr_guard_release(self->app->guards, vr_job_uuid(job));
    if (ok)
        set_result(job, &done);
    return ok;
}

const VrJobStepDef vr_job_sync_steps[] = {{"replicate", step_replicate}, {NULL}};

gboolean
vr_job_sync_run(VrJob *job, gpointer app, GError **error)
{
    Sync self = {job, app};

    return vr_job_run_steps(job, &self, error);
}
