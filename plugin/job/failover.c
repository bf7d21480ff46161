/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/failover.h"

#include "policies/error.h"
#include "policies/fault.h"
#include "qmp/domain_ops.h"

#define LATE_SHUTDOWN_US                                                                           \
    (20 * G_TIME_SPAN_SECOND) /* a guest that was asked to power off may still do it */
#define UNDO_TRIES 10

static char *
fact_key(const char *what, const VrFailover *self)
{
    return g_strdup_printf("failover-%s:%s", what, self->row->uuid);
}

gboolean
vr_failover_set_fact(VrFailover *self, const char *what, const char *value, GError **error)
{
    g_autofree char *key = fact_key(what, self);

    return vr_state_set(self->app->state, key, value, error);
}

gboolean
vr_failover_get_fact(VrFailover *self, const char *what, char **ret_value, GError **error)
{
    g_autofree char *key = fact_key(what, self);
    g_autoptr(GError) local = NULL;
    char *value = vr_state_get(self->app->state, key, &local);

    if (local != NULL && !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    *ret_value = value;
    return TRUE;
}

gboolean
vr_failover_cancelled(VrFailover *self, GError **error)
{
    if (!g_cancellable_is_cancelled(vr_job_cancellable(self->job)))
        return FALSE;
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL,
                 "the failover of domain '%s' was cancelled", self->row->name);
    return TRUE;
}

/* Drops the facts and leaves failing-over; @generation: (nullable): the new one. */
static gboolean
settle(VrFailover *self, VrProtectionEvent event, const char *generation, GError **error)
{
    VrState *state = self->app->state;
    g_autoptr(VrProtection) row = NULL;

    if (!vr_state_begin(state, error))
        return FALSE;
    if (vr_app_set_state(self->app, self->row->uuid, event, NULL, error) &&
        vr_failover_set_fact(self, "ran", NULL, error) &&
        vr_failover_set_fact(self, "generation", NULL, error))
        row = vr_state_protection_get(state, self->row->uuid, error);
    if (row == NULL || (generation != NULL &&
                        !vr_state_protection_set_generation(state, row->uuid, generation, error))) {
        vr_state_rollback(state);
        return FALSE;
    }
    if (!vr_state_commit(state, error))
        return FALSE;
    self->row->state = row->state;
    return TRUE;
}

/* Waits before the next try; FALSE with CANCELLED when the daemon is stopping. */
static gboolean
wait_again(VrFailover *self, const GError *reason, GError **error)
{
    vr_job_waiting(self->job, reason);
    if (vr_job_stopping(self->job) && vr_failover_cancelled(self, error))
        return FALSE;
    g_usleep(VR_FAILOVER_ASK_AGAIN_US);
    return TRUE;
}

gboolean
vr_failover_finish(VrFailover *self, GError **error)
{
    const char *stopped = vr_job_result_get(self->job, "stopped_us");

    if (stopped != NULL)
        vr_job_result_double(self->job, "downtime_seconds",
                             (double) (g_get_real_time() - g_ascii_strtoll(stopped, NULL, 10)) /
                                 G_USEC_PER_SEC);
    vr_job_step(self->job, "finish");
    for (;;) {
        g_autoptr(GError) local = NULL;

        if (settle(self, VR_EVENT_FAILOVER_DONE, self->line, &local))
            break;
        if (!wait_again(self, local, error))
            return FALSE;
    }
    vr_job_waiting(self->job, NULL);
    return vr_fault_point(VR_STEP_F6, error);
}

static gboolean
gone(const GError *error)
{
    return g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND);
}

/* Unless it runs; one that was paused, or whose guest crashed, stays so. */
static gboolean
start_again(VrFailover *self, GError **error)
{
    VrDomState state;

    if (!vr_dom_state(self->app->conn, self->row->uuid, &state, error))
        return FALSE;
    switch (state) {
    case VR_DOM_SHUTOFF:
        return vr_dom_start(self->app->conn, self->row->uuid, error);
    case VR_DOM_STOPPING:
        vr_set_error(error, VR_ERROR_TRANSIENT, "domain-stopping", NULL,
                     "domain '%s' is shutting down", self->row->name);
        return FALSE;
    case VR_DOM_RUNNING:
    case VR_DOM_PAUSED:
    case VR_DOM_IO_ERROR:
    case VR_DOM_CRASHED:
        return TRUE;
    }
    return TRUE;
}

/* Until the guest that was asked to power off has done so, or obviously does not. */
static void
wait_for_late_shutdown(VrFailover *self)
{
    gint64 until = g_get_monotonic_time() + LATE_SHUTDOWN_US;

    while (self->asked && self->ran && !vr_job_stopping(self->job) &&
           g_get_monotonic_time() < until) {
        g_autoptr(GError) local = NULL;
        VrDomState state;

        if (vr_dom_state(self->app->conn, self->row->uuid, &state, &local)
                ? state == VR_DOM_SHUTOFF || state == VR_DOM_PAUSED
                : gone(local))
            return;
        g_usleep(VR_FAILOVER_ASK_AGAIN_US);
    }
}

/* A domain that an operator has undefined meanwhile needs nothing. */
static gboolean
restore_domain(VrFailover *self, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_fence_remove(self->app->fence, self->row->uuid, &local) &&
        vr_dom_set_autostart(self->app->conn, self->row->uuid, self->row->autostart, &local) &&
        (!self->ran || start_again(self, &local)))
        return TRUE;
    if (gone(local))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean
vr_failover_undo(VrFailover *self, GError *cause, GError **error)
{
    guint refusals = 0;

    if (self->row->state != VR_PROTECTION_FAILING_OVER)
        goto out;
    vr_job_undoing(self->job, cause);
    wait_for_late_shutdown(self);
    for (;;) {
        g_autoptr(GError) local = NULL;
        gboolean ok = restore_domain(self, &local);

        if (!ok && !vr_error_is_transient(local) && ++refusals >= UNDO_TRIES) {
            g_warning("domain '%s': the failover that failed is not undone completely: %s",
                      self->row->name, local->message);
            g_clear_error(&local);
            ok = TRUE;
        }
        if (ok && settle(self, VR_EVENT_FAILOVER_UNDONE, NULL, &local))
            break;
        if (!wait_again(self, local, error)) {
            g_error_free(cause);
            return FALSE;
        }
    }

out:
    vr_job_undone(self->job);
    g_propagate_error(error, cause);
    return FALSE;
}
