/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/replicate.h"

#include <string.h>

#include "plugin/cycle/cycle_run.h"
#include "policies/error.h"
#include "storage/wire/error_json.h"

#define GUARD_WAIT_MS 500

/* Since when it fails for that cause stays. */
static void
record_failure(VrApp *app, const char *uuid, const GError *failure)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, NULL);
    g_autoptr(GError) before =
        row && row->last_error ? vr_error_from_json_text(row->last_error) : NULL;
    g_autofree char *text = vr_error_to_json_text(failure);
    g_autoptr(GError) error = NULL;
    gboolean same = before != NULL && strcmp(vr_error_slug(before), vr_error_slug(failure)) == 0;

    if (row == NULL)
        return;
    if (!vr_state_protection_set_last_error(app->state, uuid, text,
                                            same ? row->last_error_us : g_get_real_time(), &error))
        g_warning("domain '%s': cannot record why its cycle failed: %s, ignoring", row->name,
                  error->message);
    g_warning("domain '%s': replication cycle failed: %s", row->name, failure->message);
}

/* Nothing is held there yet, or what changed is not known. */
static gboolean
is_long(const VrProtection *row)
{
    return row->base_number == 0 || row->checkpoint == NULL || row->manifest_unsure;
}

/* For the cycle of a job. A row that cannot be read is the cycle's to complain about. */
static gboolean
take_slot(VrApp *app, const char *uuid, const VrCycleWanted *wanted, GCancellable *cancel,
          GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, NULL);
    VrSlotClass class = wanted->slot;

    if (class != VR_SLOT_FAILOVER && row != NULL && is_long(row))
        class = VR_SLOT_LONG;
    return vr_scheduler_slot_take(app->scheduler, uuid, row ? row->peer : NULL, class, cancel,
                                  error);
}

static gboolean
run_in_slot(VrApp *app, const char *uuid, const VrCycleWanted *wanted, VrCopyProgress *progress,
            GCancellable *cancel, VrCycleDone *done, GError **error)
{
    gboolean ok;

    if (wanted->slot != VR_SLOT_SCHEDULED && !take_slot(app, uuid, wanted, cancel, error))
        return FALSE;
    vr_cycle_log_running(app->cycles, uuid);
    ok = vr_cycle_run(app, uuid, wanted, progress, cancel, done, error);
    if (wanted->slot != VR_SLOT_SCHEDULED &&
        (!ok || wanted->slot != VR_SLOT_FAILOVER || wanted->final))
        vr_scheduler_slot_release(app->scheduler, uuid);
    return ok;
}

gboolean
vr_replicate(VrApp *app, const char *uuid, const VrCycleWanted *wanted, VrCopyProgress *progress,
             GCancellable *cancel, VrCycleDone *ret_done, GError **error)
{
    g_autoptr(GError) local = NULL;
    VrCycleDone done = {0};
    VrCycleReport report;
    gboolean ok;

    vr_copy_progress_reset(progress);
    vr_cycle_log_begin(app->cycles, uuid, progress);
    ok = run_in_slot(app, uuid, wanted, progress, cancel, &done, &local);
    vr_cycle_log_end(app->cycles, uuid, local, done.number);
    if (!ok && !g_error_matches(local, VR_ERROR, VR_ERROR_CANCELLED))
        record_failure(app, uuid, local);
    report = (VrCycleReport){local, done.point_us, wanted->slot == VR_SLOT_SCHEDULED,
                             done.consistency == VR_CONSISTENCY_APP, ok && done.domain_off};
    vr_scheduler_report(app->scheduler, uuid, &report);
    if (ret_done != NULL && ok)
        *ret_done = done;
    if (!ok)
        g_propagate_error(error, g_steal_pointer(&local));
    return ok;
}

gboolean
vr_replicate_admitted(const VrProtection *row)
{
    return row->role == VR_ROLE_SOURCE &&
           vr_protection_admits(row->state, VR_OPERATION_CYCLE, NULL);
}

/* FALSE: not now. Whole disks may have to wait longer than this slot's turn. */
static gboolean
may_run(VrApp *app, const VrProtection *row)
{
    return !is_long(row) || vr_scheduler_slot_long(app->scheduler, row->uuid);
}

/* Under the guard. Whoever read the row and scheduled it may have been late. */
static gboolean
may_begin(VrApp *app, const char *uuid)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, &error);

    if (row != NULL && vr_replicate_admitted(row))
        return may_run(app, row);
    if (row != NULL || g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND))
        vr_scheduler_leave(app->scheduler, uuid);
    return FALSE;
}

void
vr_replicate_scheduled(gpointer data, const char *uuid, GCancellable *cancel)
{
    VrApp *app = data;
    VrCopyProgress progress = {0};
    VrCycleWanted wanted = {0};
    VrScheduleInfo info;

    /* A job that works on it for long must not keep other domains from this thread. */
    if (!vr_guard_take(app->guards, uuid, "a replication cycle", GUARD_WAIT_MS, cancel, NULL))
        return;
    if (!may_begin(app, uuid)) {
        vr_guard_release(app->guards, uuid);
        return;
    }
    vr_scheduler_info(app->scheduler, uuid, &info);
    wanted.quiesce = info.quiesce_due;
    (void) vr_replicate(app, uuid, &wanted, &progress, cancel, NULL, NULL);
    vr_guard_release(app->guards, uuid);
}

gboolean
vr_replicate_schedule(VrApp *app, const VrProtection *row, GError **error)
{
    g_autoptr(VrPolicy) policy = vr_policy_files_in_force(app->policies, row->policy, error);
    gboolean ok = policy != NULL;
    VrScheduleInfo info;

    vr_scheduler_info(app->scheduler, row->uuid, &info);
    if (!ok && info.known)
        return FALSE;
    if (!ok)
        policy = vr_policy_default();
    vr_scheduler_add(app->scheduler, row->uuid, row->peer, policy);
    return ok;
}
