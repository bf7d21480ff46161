/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/exclusive.h"

#include "plugin/cycle/replicate.h"
#include "policies/error.h"

/* Nobody replicates what is not scheduled, so not knowing must not end there. */
static void
schedule_unread(VrApp *app, const char *uuid, const GError *reason)
{
    g_autoptr(VrPolicy) policy = vr_policy_default();

    g_warning("domain %s: its state cannot be read: %s; it is scheduled all the same", uuid,
              reason->message);
    vr_scheduler_add(app->scheduler, uuid, NULL, policy);
}

static void
schedule_by_state(VrApp *app, const char *uuid)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, &error);

    if (row == NULL && !g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        schedule_unread(app, uuid, error);
        return;
    }
    if (row == NULL || !vr_replicate_admitted(row)) {
        vr_scheduler_remove(app->scheduler, uuid);
        return;
    }
    g_clear_error(&error);
    if (!vr_replicate_schedule(app, row, &error))
        g_warning("domain '%s' is not replicated: %s", row->name, error->message);
}

gboolean
vr_exclusive_begin(VrApp *app, const char *uuid, const char *holder, gint64 wait_ms,
                   GCancellable *cancel, GError **error)
{
    vr_scheduler_suspend(app->scheduler, uuid);
    if (vr_guard_take(app->guards, uuid, holder, wait_ms, cancel, error))
        return TRUE;
    vr_scheduler_resume(app->scheduler, uuid);
    return FALSE;
}

/* Scheduled before the release, so that nobody changes the state between the two. */
void
vr_exclusive_end(VrApp *app, const char *uuid)
{
    vr_scheduler_slot_release(app->scheduler, uuid);
    schedule_by_state(app, uuid);
    vr_scheduler_resume(app->scheduler, uuid);
    vr_guard_release(app->guards, uuid);
}
