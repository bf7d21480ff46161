/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/job_private.h"

#include "policies/error.h"
#include "policies/fault.h"

static gboolean
stopped(GError *cause, GError **error)
{
    g_clear_error(&cause);
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "the daemon is stopping");
    return FALSE;
}

/* Steps [0, @n), backwards. FALSE: the daemon is stopping before all is taken back. */
static gboolean
undo_steps(VrJob *job, guint n, gpointer context)
{
    const VrJobStepDef *steps = job->kind->steps;

    while (n-- > 0) {
        g_autoptr(GError) error = NULL;

        if (steps[n].undo == NULL || steps[n].undo(context, &error))
            continue;
        if (vr_job_stopping(job))
            return FALSE;
        g_warning("job %" G_GINT64_FORMAT " (%s) of '%s': step '%s' is not undone completely: %s, "
                  "ignoring",
                  vr_job_id(job), job->kind->name, vr_job_domain(job), steps[n].name,
                  error->message);
    }
    return TRUE;
}

static gboolean
is_undoable(const VrJob *job, guint n)
{
    for (guint i = 0; i < n; i++) {
        if (job->kind->steps[i].undo != NULL)
            return TRUE;
    }
    return FALSE;
}

static gboolean
passed_return(const VrJob *job, guint done)
{
    for (guint i = 0; i < done; i++) {
        if (job->kind->steps[i].flags & VR_JOB_STEP_NO_RETURN)
            return TRUE;
    }
    return FALSE;
}

static gboolean
fault_behind(const VrJobStepDef *step, GError **error)
{
    return step->fault == 0 || vr_fault_point((VrStep) (step->fault - 1), error);
}

/* @reached: steps of which something may have been done. Takes @cause. FALSE always. */
static gboolean
fail(VrJob *job, guint reached, GError *cause, gpointer context, GError **error)
{
    if (is_undoable(job, reached)) {
        vr_job_undoing(job, cause);
        if (!undo_steps(job, reached, context))
            return stopped(cause, error);
    }
    vr_job_undone(job);
    g_propagate_error(error, cause);
    return FALSE;
}

gboolean
vr_job_run_steps(VrJob *job, gpointer context, GError **error)
{
    const VrJobStepDef *steps = job->kind->steps;
    GError *cause = vr_job_undo_cause(job);
    guint done = vr_job_steps_done(job);
    guint at = cause != NULL ? done : 0;
    guint passed = done; /* steps that have succeeded */

    for (; cause == NULL && steps[at].name != NULL; at++) {
        if (at < done && !(steps[at].flags & VR_JOB_STEP_LOOKS))
            continue;
        vr_job_step(job, steps[at].name);
        if (!steps[at].run(context, &cause))
            break;
        passed = MAX(passed, at + 1);
        if (!fault_behind(&steps[at], &cause))
            break;
    }
    if (cause == NULL)
        return TRUE;
    at = MAX(at, done); /* a step that looks may have failed before what was done earlier */
    if (vr_job_stopping(job))
        return stopped(cause, error);
    if (passed_return(job, passed)) {
        g_propagate_error(error, cause);
        return FALSE;
    }
    return fail(job, MIN(at + 1, job->n_steps), cause, context, error);
}
