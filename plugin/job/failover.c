/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/failover.h"

#include "plugin/ownership.h"
#include "policies/error.h"
#include "policies/fault.h"
#include "qmp/domain_ops.h"

#define LATE_SHUTDOWN_US                                                                           \
    (20 * G_TIME_SPAN_SECOND) /* a guest that was asked to power off may still do it */
#define UNDO_TRIES 10

gboolean
vr_failover_cancelled(VrFailover *self, GError **error)
{
    if (!g_cancellable_is_cancelled(vr_job_cancellable(self->job)))
        return FALSE;
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL,
                 "the failover of domain '%s' was cancelled", self->row->name);
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

/* The record of the shutdown names the generation of before: this one is what the peer will show.
 */
static void
fence_anew(VrFailover *self)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrProtection) row =
        vr_state_protection_get(self->app->state, self->row->uuid, &error);

    if (row == NULL || !vr_ownership_fence(self->app, row, &error))
        g_message("domain '%s': its fence record names the generation of before: %s",
                  self->row->name, error->message);
}

gboolean
vr_failover_finish(VrFailover *self, GError **error)
{
    const char *stopped = vr_job_result_get(self->job, "stopped_us");

    if (stopped != NULL)
        vr_job_result_double(self->job, "downtime_seconds",
                             (double) (g_get_real_time() - g_ascii_strtoll(stopped, NULL, 10)) /
                                 G_USEC_PER_SEC);
    for (;;) {
        g_autoptr(GError) local = NULL;

        if (vr_ownership_handed_over(self->app, self->row->uuid, &local))
            break;
        if (!wait_again(self, local, error))
            return FALSE;
    }
    vr_job_waiting(self->job, NULL);
    fence_anew(self);
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

    if (vr_ownership_unfence(self->app, self->row->uuid, &local) &&
        vr_dom_set_autostart(self->app->conn, self->row->uuid, self->row->autostart, &local) &&
        (!self->ran || start_again(self, &local)))
        return TRUE;
    if (gone(local))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean
vr_failover_undo(VrFailover *self, GError **error)
{
    guint refusals = 0;

    if (self->row->state != VR_PROTECTION_FAILING_OVER)
        return TRUE;
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
        if (ok && vr_ownership_stay(self->app, self->row->uuid, &local)) {
            vr_job_waiting(self->job, NULL);
            return TRUE;
        }
        if (!wait_again(self, local, error))
            return FALSE;
    }
}
