/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/jobs.h"

#include "plugin/check.h"
#include "plugin/cycle/protection_push.h"
#include "plugin/cycle/replicate.h"
#include "plugin/exclusive.h"
#include "plugin/job/failover.h"
#include "plugin/job/failover_follow.h"
#include "plugin/job/prove.h"
#include "plugin/ownership.h"
#include "policies/error.h"
#include "policies/fault.h"
#include "policies/generation.h"
#include "qmp/domain/domain_ops.h"
#include "storage/wire/error_json.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"

/*
 * Planned failover on the source. What must outlive this job as well as a crash is the transfer row
 * (plugin/ownership.h): whether the domain ran, and from "hand over" on the generation that was
 * sent, after which only the target knows who owns the workload. Up to there an error starts the
 * source again; afterwards the source starts again only when the target has refused that generation
 * for good.
 */

#define CATCH_UP_ROUNDS 3
#define ROOT_MAX 64
#define SMALL_DELTA (G_GUINT64_CONSTANT(16) << 20)
#define ASK_SLOWER 3u /* doublings of the time between two questions */
#define TAKE_OVER_US                                                                               \
    G_TIME_SPAN_MINUTE /* so long the target may answer that it cannot take over yet */

/* Nothing is shut down for a replica that is not whole. */
static gboolean
prove(VrFailover *self, GError **error)
{
    gboolean verify =
        !json_object_get_boolean_member_with_default(vr_job_args(self->job), "no_verify", FALSE);

    return vr_prove_replica(self->job, self->app, self->row, verify, error);
}

static gboolean
step_check(gpointer data, GError **error)
{
    VrFailover *self = data;
    g_auto(GStrv) exclude = g_strsplit(self->row->exclude, ",", -1);
    g_autoptr(VrFindings) findings = vr_findings_new();
    g_autoptr(VrDomInfo) info = NULL;
    VrCheckWanted wanted = {
        .domain = self->row->uuid,
        .peer = self->row->peer,
        .store = self->row->store,
        .exclude = (const char *const *) exclude,
    };

    if (self->row->state == VR_PROTECTION_FAILING_OVER)
        return TRUE;
    if (!vr_protection_admits(self->row->state, VR_OPERATION_PLANNED_FAILOVER, error)) {
        g_prefix_error(error, "domain '%s': ", self->row->name);
        return FALSE;
    }
    info = vr_dom_info(self->app->conn, self->row->uuid, error);
    if (info == NULL)
        return FALSE;
    if (info->managed_save) {
        vr_set_error(error, VR_ERROR_REFUSED, "managed-save",
                     "Start it, or remove the image: virsh managedsave-remove.",
                     "domain '%s' has a managed save image, whose memory state would be lost",
                     info->name);
        return FALSE;
    }
    self->row->autostart = info->autostart;
    return vr_check_source(self->app, &wanted, findings, NULL, vr_job_cancellable(self->job),
                           error) &&
           vr_check_passed(findings, self->row->name, error) && prove(self, error) &&
           vr_state_protection_set_autostart(self->app->state, self->row->uuid,
                                             self->row->autostart, error);
}

static gboolean
replicate(VrFailover *self, gboolean final, VrCycleDone *done, GError **error)
{
    VrCycleWanted wanted = {.slot = VR_SLOT_FAILOVER, .final = final};

    return vr_replicate(self->app, self->row->uuid, &wanted, vr_job_progress(self->job),
                        vr_job_cancellable(self->job), done, error);
}

static gboolean
step_catch_up(gpointer data, GError **error)
{
    VrFailover *self = data;
    VrCycleDone done = {.changed_bytes = G_MAXUINT64};

    for (guint i = 0; self->row->state != VR_PROTECTION_FAILING_OVER && i < CATCH_UP_ROUNDS &&
                      done.changed_bytes > SMALL_DELTA;
         i++) {
        if (!replicate(self, FALSE, &done, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
fence_source(VrFailover *self, GError **error)
{
    return vr_ownership_fence(self->app, self->row, error) &&
           vr_dom_set_autostart(self->app->conn, self->row->uuid, FALSE, error);
}

/* What it is when the failover begins decides whether it is started when that is undone. */
static gboolean
leave(VrFailover *self, GError **error)
{
    VrDomState state;

    if (self->transfer != NULL)
        return TRUE;
    if (!vr_dom_state(self->app->conn, self->row->uuid, &state, error))
        return FALSE;
    self->ran = state != VR_DOM_SHUTOFF;
    return vr_ownership_leave(self->app, self->row, self->ran, error);
}

static gboolean
shut_down(VrFailover *self, GError **error)
{
    gboolean force =
        json_object_get_boolean_member_with_default(vr_job_args(self->job), "force", FALSE);
    g_autoptr(VrPolicy) policy =
        vr_policy_files_in_force(self->app->policies, self->row->policy, error);

    if (policy == NULL)
        return FALSE;
    self->asked = TRUE;
    if (!vr_dom_shutdown(self->app->conn, self->row->uuid,
                         (guint) (policy->shutdown_timeout_us / 1000), force, NULL,
                         vr_job_cancellable(self->job), error))
        return FALSE;
    self->asked = FALSE;
    return TRUE;
}

/* Fenced as soon as it is off, so that nobody starts it between here and the end. */
static gboolean
step_shut_down(gpointer data, GError **error)
{
    VrFailover *self = data;

    if (self->line != NULL)
        return TRUE;
    if (vr_job_result_get(self->job, "stopped_us") == NULL) {
        g_autofree char *now = g_strdup_printf("%" G_GINT64_FORMAT, g_get_real_time());

        vr_job_result_string(self->job, "stopped_us", now);
        vr_job_save(self->job);
    }
    return leave(self, error) && shut_down(self, error) && fence_source(self, error);
}

static gboolean
step_final(gpointer data, GError **error)
{
    VrFailover *self = data;
    VrCycleDone final;

    if (self->line != NULL)
        return TRUE;
    if (!replicate(self, TRUE, &final, error))
        return FALSE;
    vr_job_result_string(self->job, "root_source", final.root);
    vr_job_result_int(self->job, "number", (gint64) final.number);
    return TRUE;
}

/* The request to the target; the line it carries is durable before the first attempt. */
static JsonNode *
hand_over_request(VrFailover *self, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(self->app->state, self->row->uuid, error);
    JsonObject *object;

    if (row == NULL)
        return NULL;
    object = json_object_new();
    json_object_set_string_member(object, "generation", self->line);
    json_object_set_int_member(object, "number", (gint64) row->base_number);
    json_object_set_string_member(object, "root", row->base_root);
    json_object_set_boolean_member(object, "autostart", row->autostart);
    return vr_json_node(object);
}

/* Without an active hook the fence stops nobody. */
static gboolean
still_off(VrFailover *self, GError **error)
{
    VrDomState state;

    if (!vr_dom_state(self->app->conn, self->row->uuid, &state, error))
        return FALSE;
    if (state == VR_DOM_SHUTOFF)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "domain-running", "Leave it off, then fail over again.",
                 "domain '%s' was started on host '%s' during its failover", self->row->name,
                 self->app->config->name);
    return FALSE;
}

static gboolean
offer(VrFailover *self, GError **error)
{
    if (self->line != NULL)
        return TRUE;
    if (!fence_source(self, error) || !vr_fault_point(VR_STEP_F3, error) || !still_off(self, error))
        return FALSE;
    self->line = vr_ownership_offer(self->app, self->row->uuid, error);
    return self->line != NULL;
}

/* The target promises never to activate that generation, unless it did. FALSE: cannot be known now.
 */
static gboolean
ask_to_refuse(VrFailover *self, gboolean *ret_refused, GError **error)
{
    JsonObject *object = json_object_new();
    g_autoptr(JsonNode) request = json_node_new(JSON_NODE_OBJECT);
    g_autoptr(JsonNode) answer = NULL;
    JsonObject *said;

    json_object_set_string_member(object, "generation", self->line);
    json_node_take_object(request, object);
    answer = vr_peer_client_action(self->peer, self->row->uuid, "deactivate", request, NULL, error);
    said = answer ? vr_json_object(answer, "the target's answer", error) : NULL;
    if (said == NULL || !vr_json_bool_opt(said, "refused", FALSE, ret_refused, error))
        return FALSE;
    if (json_object_has_member(said, "refused"))
        return TRUE;
    vr_set_error(error, VR_ERROR_INVALID, "bad-message", NULL,
                 "host '%s' does not say whether it refuses to take over domain '%s'",
                 vr_peer_client_name(self->peer), self->row->name);
    return FALSE;
}

/* NULL: it runs there. @ret_owner: the target owns it, whether it runs or not. */
static GError *
activation_error(const VrFailover *self, JsonNode *answer, gboolean *ret_owner)
{
    const char *name = vr_peer_client_name(self->peer);
    g_autofree char *shown = g_strdup_printf("peer '%s'", name);
    JsonObject *object = vr_json_as_object(answer);
    JsonObject *cause;
    const char *root;
    gboolean running;
    GError *wrong = NULL;

    if (!vr_json_bool_opt(object, "owner", FALSE, ret_owner, &wrong) ||
        !vr_json_bool_opt(object, "running", FALSE, &running, &wrong) ||
        !vr_json_string_opt(object, "root", ROOT_MAX, &root, &wrong) ||
        !vr_json_object_opt(object, "error", &cause, &wrong))
        return wrong;
    if (*ret_owner && running)
        return NULL;
    if (cause != NULL)
        return vr_error_from_peer(cause, name, shown);
    return vr_error_new(VR_ERROR_INTERNAL, "bad-message", NULL,
                        "the target does not say why the replica does not run");
}

/* "Not yet" is taken for some time only: the guest is off. */
static gboolean
may_take_longer(VrFailover *self)
{
    gint64 now = g_get_monotonic_time();

    if (self->not_yet_us == 0)
        self->not_yet_us = now;
    return now - self->not_yet_us < TAKE_OVER_US;
}

/* A target that cannot be reached is asked for ever. */
static gboolean
may_ask_again(VrFailover *self, const GError *reason)
{
    return vr_error_is_transient(reason) &&
           (vr_error_is_peer_away(reason) || may_take_longer(self));
}

typedef enum { HANDED_OVER, NOT_HANDED_OVER, ASK_AGAIN } HandOver;

/* What the target says of its attempt. @ret_reason: why it does not run there. */
static HandOver
ask_to_activate(VrFailover *self, JsonNode *request, GError **ret_reason)
{
    g_autoptr(JsonNode) answer =
        vr_peer_client_action(self->peer, self->row->uuid, "activate", request, NULL, ret_reason);
    gboolean owner = FALSE;

    self->answered = answer != NULL;
    if (answer == NULL)
        return may_ask_again(self, *ret_reason) ? ASK_AGAIN : NOT_HANDED_OVER;
    *ret_reason = activation_error(self, answer, &owner);
    if (*ret_reason != NULL)
        return owner || may_take_longer(self) ? ASK_AGAIN : NOT_HANDED_OVER;
    vr_job_result_string(self->job, "root_target",
                         vr_json_text_in(json_node_get_object(answer), "root", ""));
    return HANDED_OVER;
}

/* One attempt. NOT_HANDED_OVER only if the target can never become owner of this generation. Who
 * wants to give up does not ask for it before the target has said that it took it already. */
static HandOver
try_hand_over(VrFailover *self, JsonNode *request, GError **error)
{
    gboolean give_up =
        g_cancellable_is_cancelled(vr_job_cancellable(self->job)) && !vr_job_stopping(self->job);
    g_autoptr(GError) reason = NULL;
    gboolean refused = FALSE;
    HandOver result;

    self->answered = FALSE;
    if (give_up && !ask_to_refuse(self, &refused, error))
        return ASK_AGAIN;
    if (refused) {
        (void) vr_failover_cancelled(self, error);
        return NOT_HANDED_OVER;
    }
    result = ask_to_activate(self, request, &reason);
    if (result == HANDED_OVER)
        return HANDED_OVER;
    if (result == ASK_AGAIN || !ask_to_refuse(self, &refused, error) || !refused) {
        if (*error == NULL)
            g_propagate_error(error, g_steal_pointer(&reason));
        return ASK_AGAIN;
    }
    vr_set_error(error, VR_ERROR_TRANSIENT, "not-taken-over",
                 "Remove the cause there, then fail over again.",
                 "domain '%s': host '%s' could not take it over: %s", self->row->name,
                 vr_peer_client_name(self->peer), reason->message);
    return NOT_HANDED_OVER;
}

/* Fails only when the target has refused for good, or the daemon is stopping: whoever gets an error
 * may start the source again. */
static gboolean
hand_over(VrFailover *self, GError **error)
{
    for (guint tries = 0;; tries++) {
        g_autoptr(GError) local = NULL;
        g_autoptr(JsonNode) request = NULL;

        if (vr_failover_abandoned(self, error))
            return FALSE;
        request = hand_over_request(self, &local);
        switch (request != NULL ? try_hand_over(self, request, &local) : ASK_AGAIN) {
        case HANDED_OVER:
            vr_failover_note_stuck(self, 0, NULL);
            vr_job_waiting(self->job, NULL);
            return TRUE;
        case NOT_HANDED_OVER:
            vr_failover_note_stuck(self, 0, NULL);
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        case ASK_AGAIN:
            vr_failover_note_stuck(self, tries, local);
            vr_job_waiting(self->job, local);
            break;
        }
        if (vr_job_stopping(self->job) && vr_failover_cancelled(self, error))
            return FALSE;
        g_usleep(VR_FAILOVER_ASK_AGAIN_US << MIN(tries, ASK_SLOWER));
    }
}

static gboolean
step_hand_over(gpointer data, GError **error)
{
    return offer(data, error) && hand_over(data, error);
}

static gboolean
step_finish(gpointer data, GError **error)
{
    return vr_failover_finish(data, error);
}

static gboolean
undo(gpointer data, GError **error)
{
    return vr_failover_undo(data, error);
}

const VrJobStepDef vr_job_failover_steps[] = {
    {"check", step_check, NULL, VR_JOB_STEP_LOOKS},
    {"catch up", step_catch_up, NULL, VR_JOB_STEP_LOOKS},
    {"shut down", step_shut_down, undo, VR_JOB_STEP_LOOKS, VR_JOB_FAULT(VR_STEP_F1)},
    {"final replication", step_final, NULL, VR_JOB_STEP_LOOKS, VR_JOB_FAULT(VR_STEP_F2)},
    {"hand over", step_hand_over, NULL, VR_JOB_STEP_NO_RETURN},
    {"finish", step_finish, NULL, .fault = VR_JOB_FAULT(VR_STEP_F6)},
    {NULL},
};

static gboolean
load(VrFailover *self, GError **error)
{
    self->row = vr_state_protection_get(self->app->state, vr_job_uuid(self->job), error);
    if (self->row == NULL)
        return FALSE;
    self->peer = vr_peer_pool_get(self->app->peers, self->row->peer, error);
    return self->peer != NULL;
}

/* The caller holds the guard: the row does not change under us. A failover that did not end goes on
 * where the transfer says. */
static gboolean
lead_guarded(VrFailover *self, GError **error)
{
    g_clear_pointer(&self->row, vr_protection_free);
    if (!load(self, error) ||
        !vr_state_transfer_get(self->app->state, self->row->uuid, &self->transfer, error))
        return FALSE;
    if (self->row->state == VR_PROTECTION_FAILED_OVER && vr_job_resumed(self->job)) {
        vr_failover_fence_anew(self);
        return TRUE;
    }
    if (self->transfer != NULL) {
        self->ran = self->asked = self->transfer->ran;
        self->line = g_strdup(self->transfer->generation);
    }
    if (!vr_failover_ended_by_force(self))
        return vr_job_run_steps(self->job, self, error);
    (void) vr_failover_abandoned(self, error);
    return FALSE;
}

static gboolean
lead(VrFailover *self, GError **error)
{
    gboolean ok;

    /* Reading may take long: cycles go on, and what they add meanwhile is read in step_check(). */
    if (self->row->state != VR_PROTECTION_FAILING_OVER && !vr_job_is_undoing(self->job) &&
        vr_protection_admits(self->row->state, VR_OPERATION_PLANNED_FAILOVER, NULL)) {
        vr_job_step(self->job, "check");
        if (!prove(self, error))
            return FALSE;
    }
    /* Before the check, which would take the end of a cycle's backup job for another program's. */
    if (!vr_job_take_exclusive(self->job, self->app, error))
        return FALSE;
    ok = lead_guarded(self, error);
    vr_exclusive_end(self->app, vr_job_uuid(self->job));
    return ok;
}

gboolean
vr_job_failover_run(VrJob *job, gpointer app, GError **error)
{
    VrFailover self = {.job = job, .app = app};
    gboolean ok = load(&self, error);

    if (ok && self.row->role == VR_ROLE_TARGET)
        ok = vr_failover_follow(job, app, self.row, self.peer, error);
    else if (ok)
        ok = lead(&self, error);
    g_clear_pointer(&self.row, vr_protection_free);
    g_clear_pointer(&self.transfer, vr_transfer_free);
    g_clear_pointer(&self.line, g_free);
    return ok;
}
