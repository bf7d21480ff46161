/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/failover.h"

#include "plugin/ownership.h"
#include "policies/error.h"
#include "qmp/domain/domain_ops.h"

#define LATE_SHUTDOWN_US                                                                           \
    (20 * G_TIME_SPAN_SECOND) /* a guest that was asked to power off may still do it */
#define UNDO_TRIES 10         /* then it is said, and tried more slowly */
#define UNDO_AGAIN_US (10 * G_TIME_SPAN_SECOND)

gboolean
vr_failover_cancelled(VrFailover *self, GError **error)
{
    if (!g_cancellable_is_cancelled(vr_job_cancellable(self->job)))
        return FALSE;
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL,
                 "the failover of domain '%s' was cancelled", self->row->name);
    return TRUE;
}

gboolean
vr_failover_abandoned(VrFailover *self, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrProtection) row =
        vr_state_protection_get(self->app->state, self->row->uuid, &local);

    if (row != NULL ? row->state != VR_PROTECTION_DISABLING
                    : !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return FALSE;
    vr_set_error(error, VR_ERROR_CANCELLED, "abandoned", NULL,
                 "the failover of domain '%s' was ended by 'unprotect --force'", self->row->name);
    return TRUE;
}

/* Waits before the next try; FALSE with CANCELLED when the daemon is stopping. */
static gboolean
wait_again(VrFailover *self, gint64 wait_us, const GError *reason, GError **error)
{
    vr_job_waiting(self->job, reason);
    for (gint64 waited = 0; waited < wait_us; waited += VR_FAILOVER_ASK_AGAIN_US) {
        if (vr_job_stopping(self->job) && vr_failover_cancelled(self, error))
            return FALSE;
        g_usleep(VR_FAILOVER_ASK_AGAIN_US);
    }
    return TRUE;
}

void
vr_failover_fence_anew(VrFailover *self)
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
    vr_job_save(self->job);
    for (;;) {
        g_autoptr(GError) local = NULL;

        if (vr_ownership_handed_over(self->app, self->row->uuid, &local))
            break;
        if (vr_failover_abandoned(self, error))
            return FALSE;
        if (!wait_again(self, VR_FAILOVER_ASK_AGAIN_US, local, error))
            return FALSE;
    }
    vr_job_waiting(self->job, NULL);
    vr_failover_fence_anew(self);
    return TRUE;
}

static gboolean
gone(const GError *error)
{
    return g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND);
}

/* Unless it runs; one that was paused, or whose guest crashed, stays so. */
static gboolean
start_again(VrApp *app, const VrProtection *row, GError **error)
{
    VrDomState state;

    if (!vr_dom_state(app->conn, row->uuid, &state, error))
        return FALSE;
    switch (state) {
    case VR_DOM_SHUTOFF:
        return vr_dom_start(app->conn, row->uuid, error);
    case VR_DOM_STOPPING:
        vr_set_error(error, VR_ERROR_TRANSIENT, "domain-stopping", NULL,
                     "domain '%s' is shutting down", row->name);
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

gboolean
vr_failover_restore(VrApp *app, const VrProtection *row, gboolean ran, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_ownership_unfence(app, row->uuid, &local) && (!ran || start_again(app, row, &local)) &&
        vr_dom_set_autostart(app->conn, row->uuid, row->autostart, &local))
        return TRUE;
    if (gone(local))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean
vr_failover_ended_by_force(VrFailover *self)
{
    g_autoptr(GError) local = NULL;

    if (!vr_failover_abandoned(self, NULL))
        return FALSE;
    if (self->line == NULL && (!vr_failover_restore(self->app, self->row, self->ran, &local) ||
                               !vr_ownership_restored(self->app, self->row->uuid, &local)))
        g_warning("domain '%s': after 'unprotect --force' it is not as it was before its failover: "
                  "%s",
                  self->row->name, local->message);
    return TRUE;
}

gboolean
vr_failover_undo(VrFailover *self, GError **error)
{
    guint tries = 0;

    if (self->row->state != VR_PROTECTION_FAILING_OVER || vr_failover_ended_by_force(self))
        return TRUE;
    wait_for_late_shutdown(self);
    for (;;) {
        g_autoptr(GError) local = NULL;

        if (vr_failover_restore(self->app, self->row, self->ran, &local) &&
            vr_ownership_stay(self->app, self->row->uuid, &local)) {
            vr_job_waiting(self->job, NULL);
            if (tries >= UNDO_TRIES)
                vr_failover_say_undone(self);
            return TRUE;
        }
        if (vr_failover_ended_by_force(self))
            return TRUE;
        if (++tries == UNDO_TRIES)
            vr_failover_say_not_undone(self, local);
        if (!wait_again(self, tries < UNDO_TRIES ? VR_FAILOVER_ASK_AGAIN_US : UNDO_AGAIN_US, local,
                        error))
            return FALSE;
    }
}
