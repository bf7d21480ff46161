/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/check.h"
#include "plugin/cycle/protection_push.h"
#include "plugin/cycle/replicate.h"
#include "plugin/exclusive.h"
#include "plugin/job/jobs.h"
#include "policies/error.h"
#include "policies/generation.h"
#include "policies/retry.h"
#include "qmp/domain_ops.h"
#include "storage/file_util.h"

/*
 * check changes nothing. create makes the rows on both hosts; from there an error that retrying
 * cannot mend, or cancelling, takes everything away again. initial replication resumes with what
 * the target holds. What cannot be taken away leaves the protection disabling, for unprotect. The
 * target removes what has no recovery point yet; a replica with some, such as one that this protect
 * was to revive, it keeps for its grace.
 */
#define PROBE_US (5 * G_TIME_SPAN_SECOND)
#define UNDO_US (15 * G_TIME_SPAN_SECOND)

const VrJobStepDef vr_job_protect_steps[] = {
    {"check"}, {"create"}, {"initial replication"}, {"finalize"}, {NULL}};

static char **
excluded(VrJob *job)
{
    const char *text = json_object_get_string_member_with_default(vr_job_args(job), "exclude", "");

    return text[0] != '\0' ? g_strsplit(text, ",", -1) : g_new0(char *, 1);
}

static gboolean
step_check(VrJob *job, VrApp *app, VrCheckFacts *facts, GError **error)
{
    g_auto(GStrv) exclude = excluded(job);
    g_autoptr(VrFindings) findings = vr_findings_new();
    g_autoptr(VrPolicy) policy = NULL;
    VrCheckWanted wanted = {
        .domain = vr_job_uuid(job),
        .peer = json_object_get_string_member(vr_job_args(job), "peer"),
        .store = json_object_get_string_member(vr_job_args(job), "store"),
        .exclude = (const char *const *) exclude,
    };

    vr_job_step(job, "check");
    policy = vr_policy_files_get(app->policies,
                                 json_object_get_string_member(vr_job_args(job), "policy"), error);
    return policy != NULL &&
           vr_check_source(app, &wanted, findings, facts, vr_job_cancellable(job), error) &&
           vr_check_passed(findings, facts->name, error);
}

static gboolean
insert_row(VrJob *job, VrApp *app, const VrCheckFacts *facts, GError **error)
{
    g_autoptr(VrProtection) row = g_new0(VrProtection, 1);
    g_autofree char *id = vr_random_id();
    g_autoptr(VrGeneration) generation =
        vr_generation_new(id, vr_identity_fingerprint(app->identity));

    row->uuid = g_strdup(facts->uuid);
    row->name = g_strdup(facts->name);
    row->role = VR_ROLE_SOURCE;
    row->peer = g_strdup(facts->peer);
    row->store = g_strdup(json_object_get_string_member(vr_job_args(job), "store"));
    row->policy = g_strdup(json_object_get_string_member(vr_job_args(job), "policy"));
    row->policy_text = g_strdup("");
    row->state = VR_PROTECTION_ENABLING;
    row->generation = vr_generation_to_line(generation);
    row->exclude =
        g_strdup(json_object_get_string_member_with_default(vr_job_args(job), "exclude", ""));
    row->created_us = g_get_real_time();
    row->autostart = facts->autostart;
    return vr_state_protection_insert(app->state, row, error);
}

static gboolean
step_create(VrJob *job, VrApp *app, GError **error)
{
    g_autoptr(VrProtection) row = NULL;
    g_autofree char *xml = NULL;

    vr_job_step(job, "create");
    row = vr_state_protection_get(app->state, vr_job_uuid(job), error);
    xml = row ? vr_dom_xml_inactive(app->conn, row->uuid, error) : NULL;
    if (xml == NULL)
        return FALSE;
    vr_protection_push_forget(row->uuid);
    if (!vr_protection_push(app, row, xml, vr_job_cancellable(job), error))
        return FALSE;
    return row->state != VR_PROTECTION_ENABLING ||
           vr_app_set_state(app, row->uuid, VR_EVENT_CREATED, NULL, error);
}

/* TRUE if the peer that could not be reached, or was restarted under a cycle, answers again. */
static gboolean
cause_is_gone(VrJob *job, VrApp *app, const GError *reason)
{
    VrPeerClient *peer =
        vr_peer_pool_get(app->peers, json_object_get_string_member(vr_job_args(job), "peer"), NULL);

    return vr_error_is_peer_away(reason) && peer != NULL &&
           vr_peer_client_hello(peer, NULL, vr_job_cancellable(job), NULL);
}

/* Sleeps in small pieces; FALSE when cancelled. */
static gboolean
wait_retry(VrJob *job, VrApp *app, const GError *reason, guint failures, GError **error)
{
    gint64 until = g_get_monotonic_time() + vr_retry_delay_us(failures, 0);
    gint64 probe = g_get_monotonic_time() + PROBE_US;

    vr_job_waiting(job, reason);
    while (g_get_monotonic_time() < until && !g_cancellable_is_cancelled(vr_job_cancellable(job))) {
        g_usleep(G_TIME_SPAN_MILLISECOND * 200);
        if (g_get_monotonic_time() < probe)
            continue;
        if (cause_is_gone(job, app, reason))
            break;
        probe = g_get_monotonic_time() + PROBE_US;
    }
    vr_job_waiting(job, NULL);
    if (!g_cancellable_is_cancelled(vr_job_cancellable(job)))
        return TRUE;
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL,
                 "job %" G_GINT64_FORMAT " was cancelled", vr_job_id(job));
    return FALSE;
}

static gboolean
step_replicate(VrJob *job, VrApp *app, GError **error)
{
    VrCycleWanted wanted = {.slot = VR_SLOT_SYNC};

    vr_job_step(job, "initial replication");
    return vr_replicate(app, vr_job_uuid(job), &wanted, vr_job_progress(job),
                        vr_job_cancellable(job), NULL, error);
}

static gboolean
step_finalize(VrJob *job, VrApp *app, GError **error)
{
    g_autoptr(VrProtection) row = NULL;
    g_autoptr(JsonNode) answer = NULL;
    VrPeerClient *peer;

    vr_job_step(job, "finalize");
    row = vr_state_protection_get(app->state, vr_job_uuid(job), error);
    peer = row ? vr_peer_pool_get(app->peers, row->peer, error) : NULL;
    if (peer == NULL)
        return FALSE;
    answer =
        vr_peer_client_action(peer, row->uuid, "finalize", NULL, vr_job_cancellable(job), error);
    return answer != NULL && vr_replicate_schedule(app, row, error);
}

/* Until the target is known to have accepted our generation, a replica there may be an older one:
 * it refuses ours. */
static gboolean
is_our_replica(VrApp *app, const VrProtection *row, gboolean *ret_ours, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *xml = NULL;

    *ret_ours = row->state != VR_PROTECTION_ENABLING;
    if (*ret_ours)
        return TRUE;
    xml = vr_dom_xml_inactive(app->conn, row->uuid, &local);
    *ret_ours = xml != NULL && vr_protection_push(app, row, xml, NULL, &local);
    if (*ret_ours || !vr_error_is_transient(local))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean
remove_replica(VrApp *app, const VrProtection *row, GError **error)
{
    VrPeerClient *peer = vr_peer_pool_get(app->peers, row->peer, error);
    g_autoptr(JsonNode) answer = NULL;
    gboolean ours;

    if (peer == NULL || !is_our_replica(app, row, &ours, error))
        return FALSE;
    if (!ours)
        return TRUE;
    answer = vr_peer_client_protection_delete(peer, row->uuid, FALSE, NULL, error);
    return answer != NULL;
}

static gboolean
take_away(VrApp *app, const VrProtection *row, GError **error)
{
    vr_protection_push_forget(row->uuid);
    return vr_source_leave(app, row->uuid, error) && remove_replica(app, row, error) &&
           vr_state_protection_delete(app->state, row->uuid, error);
}

static void
leave_to_unprotect(VrApp *app, const VrProtection *row, const GError *reason)
{
    g_autoptr(GError) error = NULL;

    g_warning("domain '%s': not everything of the protection that failed could be removed: %s",
              row->name, reason->message);
    if (row->state == VR_PROTECTION_ENABLING)
        (void) vr_state_protection_delete(app->state, row->uuid, &error);
    else
        (void) vr_app_set_state(app, row->uuid, VR_EVENT_UNPROTECT_STARTED, NULL, &error);
    if (error != NULL)
        g_warning("domain '%s': %s", row->name, error->message);
}

/* FALSE: the daemon is stopping, the next start goes on. */
static gboolean
undo_guarded(VrJob *job, VrApp *app)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, vr_job_uuid(job), NULL);
    gint64 until = g_get_monotonic_time() + UNDO_US;

    while (row != NULL) {
        g_autoptr(GError) error = NULL;

        if (take_away(app, row, &error))
            break;
        if (vr_job_stopping(job))
            return FALSE;
        if (!vr_error_is_transient(error) || g_get_monotonic_time() >= until) {
            leave_to_unprotect(app, row, error);
            break;
        }
        g_usleep(G_TIME_SPAN_MILLISECOND * 500);
    }
    return TRUE;
}

/* Takes @cause; FALSE always. */
static gboolean
undo(VrJob *job, VrApp *app, GError *cause, GError **error)
{
    gboolean done = FALSE;

    vr_job_undoing(job, cause);
    if (vr_exclusive_begin(app, vr_job_uuid(job), "the undo of a protection", -1, NULL, NULL)) {
        done = undo_guarded(job, app);
        vr_exclusive_end(app, vr_job_uuid(job));
    }
    if (done) {
        vr_job_undone(job);
        g_propagate_error(error, cause);
        return FALSE;
    }
    g_error_free(cause);
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "the daemon is stopping");
    return FALSE;
}

/* Every step can be repeated without harm. */
static gboolean
may_succeed(const GError *error)
{
    VrRetryClass class = vr_error_retry_class(error);

    return class == VR_RETRY_AGAIN || class == VR_RETRY_UNSURE;
}

static gboolean
create_and_replicate(VrJob *job, VrApp *app, GError **error)
{
    for (guint failures = 1;; failures++) {
        g_autoptr(GError) local = NULL;

        if (step_create(job, app, &local) && step_replicate(job, app, &local) &&
            step_finalize(job, app, &local))
            return TRUE;
        if (!may_succeed(local)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        if (!wait_retry(job, app, local, failures, error))
            return FALSE;
    }
}

static gboolean
run_created(VrJob *job, VrApp *app, GError **error)
{
    gboolean ok;

    if (!vr_job_take_guard(job, app, error))
        return FALSE;
    ok = create_and_replicate(job, app, error);
    vr_guard_release(app->guards, vr_job_uuid(job));
    return ok;
}

/* The row that an earlier run of this job made; NULL without error if there is none. */
static gboolean
own_row(VrJob *job, VrApp *app, VrProtection **ret_row, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, vr_job_uuid(job), &local);

    if (row == NULL && !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (row != NULL && (!vr_job_resumed(job) || row->role != VR_ROLE_SOURCE)) {
        vr_set_error(error, VR_ERROR_REFUSED, "already-protected", "See 'virt-replica info'.",
                     "domain '%s' is protected already, state '%s'", row->name,
                     vr_protection_state_name(row->state));
        return FALSE;
    }
    *ret_row = g_steal_pointer(&row);
    return TRUE;
}

gboolean
vr_job_protect_run(VrJob *job, gpointer data, GError **error)
{
    VrApp *app = data;
    GError *cause = vr_job_undo_cause(job);
    g_autoptr(VrProtection) row = NULL;

    if (cause != NULL)
        return undo(job, app, cause, error);
    if (!own_row(job, app, &row, error))
        return FALSE;
    if (row == NULL) {
        g_auto(VrCheckFacts) facts = {0};

        if (!step_check(job, app, &facts, error) || !insert_row(job, app, &facts, error))
            return FALSE;
    }
    if (run_created(job, app, &cause))
        return TRUE;
    if (!vr_job_stopping(job))
        return undo(job, app, cause, error);
    g_error_free(cause);
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "the daemon is stopping");
    return FALSE;
}
