/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/protection_push.h"
#include "plugin/exclusive.h"
#include "plugin/job/jobs.h"
#include "plugin/ownership.h"
#include "plugin/peer/peer_replica.h"
#include "policies/error.h"
#include "policies/units.h"
#include "qmp/checkpoint.h"
#include "storage/json_util.h"

const VrJobStepDef vr_job_unprotect_steps[] = {
    {"check"}, {"source"}, {"target"}, {"verify"}, {NULL}};

/* A target that cannot be reached would keep a replica that nobody knows of. */
static gboolean
step_check(VrJob *job, VrApp *app, VrProtection *row, GError **error)
{
    VrPeerClient *peer;

    vr_job_step(job, "check");
    if (!vr_protection_admits(row->state, VR_OPERATION_UNPROTECT, error)) {
        g_prefix_error(error, "domain '%s': ", row->name);
        return FALSE;
    }
    peer = vr_peer_pool_get(app->peers, row->peer, error);
    if (peer == NULL)
        return FALSE;
    if (row->state == VR_PROTECTION_FAILED_OVER) {
        vr_set_error(error, VR_ERROR_REFUSED, "replica-in-use",
                     "Keep the protection while the domain runs there.",
                     "domain '%s' runs on host '%s' from its replica, and must stay fenced here",
                     row->name, vr_peer_client_name(peer));
        return FALSE;
    }
    if (!vr_peer_client_hello(peer, NULL, vr_job_cancellable(job), error))
        return FALSE;
    return row->state == VR_PROTECTION_DISABLING ||
           vr_app_set_state(app, row->uuid, VR_EVENT_UNPROTECT_STARTED, row, error);
}

static gboolean
keeps_replica(VrJob *job)
{
    return json_object_get_boolean_member_with_default(vr_job_args(job), "keep_replica", FALSE);
}

/* "kept_until": a time, or "forever"; nothing if the replica is gone. */
static void
note_kept(VrJob *job, JsonNode *answer)
{
    JsonObject *object = vr_json_as_object(answer);
    g_autofree char *when = NULL;
    guint64 until_us;

    if (object == NULL || !json_object_has_member(object, "kept_until_us") ||
        !vr_json_uint(object, "kept_until_us", G_MAXINT64, &until_us, NULL) || until_us == 0)
        return;
    when = vr_time_format((gint64) until_us);
    vr_job_result_string(job, "kept_until", when ? when : "forever");
}

static gboolean
step_target(VrJob *job, VrApp *app, const VrProtection *row, GError **error)
{
    VrPeerClient *peer = vr_peer_pool_get(app->peers, row->peer, error);
    g_autoptr(JsonNode) answer = NULL;

    vr_job_step(job, "target");
    if (peer == NULL)
        return FALSE;
    answer = vr_peer_client_protection_delete(peer, row->uuid, keeps_replica(job),
                                              vr_job_cancellable(job), error);
    if (answer == NULL)
        return FALSE;
    note_kept(job, answer);
    return TRUE;
}

static gboolean
step_verify(VrJob *job, VrApp *app, const VrProtection *row, GError **error)
{
    g_autoptr(GError) local = NULL;
    guint left = 0;

    vr_job_step(job, "verify");
    if (!vr_checkpoint_sweep(app->conn, row->uuid, NULL, &left, &local) &&
        !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (left > 0) {
        vr_set_error(error, VR_ERROR_INTERNAL, "leftovers", "Run unprotect again.",
                     "domain '%s': %u checkpoints or bitmaps were still there after their removal",
                     row->name, left);
        return FALSE;
    }
    return vr_ownership_unfence(app, row->uuid, error) &&
           vr_state_protection_delete(app->state, row->uuid, error);
}

/* The source decides; a replica whose source does not know it any more can only be removed here. */
static gboolean
source_forgot(VrJob *job, VrApp *app, const VrProtection *row, GError **error)
{
    VrPeerClient *peer = vr_peer_pool_get(app->peers, row->peer, error);
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GError) local = NULL;
    g_autofree char *action = NULL;

    if (peer == NULL)
        return FALSE;
    answer = vr_peer_client_action(peer, row->uuid, "known", NULL, vr_job_cancellable(job), &local);
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    if (answer == NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    action = g_strdup_printf("Run it on host '%s'.", vr_peer_client_name(peer));
    vr_set_error(error, VR_ERROR_REFUSED, "not-source", action,
                 "domain '%s': this host holds its replica; its source decides", row->name);
    return FALSE;
}

/* On the target. One whose source ended replication goes at once; one whose source has lost it goes
 * or, if that is asked for, is kept for whoever protects the domain again. */
static gboolean
remove_replica(VrJob *job, VrApp *app, const VrProtection *row, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;

    vr_job_step(job, "check");
    if (row->kept_until_us == 0 && !source_forgot(job, app, row, error))
        return FALSE;
    vr_job_step(job, "target");
    if (!keeps_replica(job))
        return vr_peer_replica_drop(app, row->uuid, error);
    answer = vr_peer_replica_end(app, row->uuid, TRUE, error);
    note_kept(job, answer);
    return answer != NULL;
}

/* The caller holds the guard: no cycle writes the row while its state changes. */
static gboolean
unprotect(VrJob *job, VrApp *app, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, vr_job_uuid(job), error);

    if (row == NULL || !step_check(job, app, row, error))
        return FALSE;
    vr_job_step(job, "source");
    return vr_source_leave(app, row->uuid, error) && step_target(job, app, row, error) &&
           step_verify(job, app, row, error);
}

gboolean
vr_job_unprotect_run(VrJob *job, gpointer data, GError **error)
{
    VrApp *app = data;
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, vr_job_uuid(job), error);
    gboolean ok;

    if (row == NULL && vr_job_resumed(job)) {
        g_clear_error(error);
        return TRUE;
    }
    if (row != NULL && row->role == VR_ROLE_TARGET)
        return remove_replica(job, app, row, error);
    if (row == NULL)
        return FALSE;
    if (!vr_job_take_exclusive(job, app, error))
        return FALSE;
    ok = unprotect(job, app, error);
    vr_protection_push_forget(row->uuid);
    vr_exclusive_end(app, row->uuid); /* one that was refused is replicated as before */
    return ok;
}
