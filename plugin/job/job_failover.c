/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/jobs.h"

#include "plugin/check.h"
#include "plugin/cycle/protection_push.h"
#include "plugin/cycle/replicate.h"
#include "plugin/job/failover_follow.h"
#include "policies/error.h"
#include "policies/fault.h"
#include "policies/generation.h"
#include "qmp/domain_ops.h"
#include "storage/error_json.h"
#include "storage/file_util.h"
#include "storage/json_util.h"

/*
 * Planned failover on the source. What must outlive a crash is kept in the job's result before the step that needs it:
 *   was_running   the domain ran when the failover began
 *   stopped_us    when the shutdown was asked for
 *   generation    the line sent to the target; from then on only the target knows who owns the workload
 * Up to there an error starts the source again; afterwards the source starts again only when the target has refused
 * that generation for good.
 */
const char *const vr_job_failover_steps[] = {
    "check", "catch up", "shut down", "final replication", "hand over", "finish", NULL,
};

#define CATCH_UP_ROUNDS 3
#define SMALL_DELTA (G_GUINT64_CONSTANT(16) << 20)
#define ASK_AGAIN_US (G_TIME_SPAN_MILLISECOND * 500)

typedef struct {
    VrJob *job;
    VrApp *app;
    VrProtection *row;  /* owned */
    VrPolicy *policy;   /* owned */
    VrPeerClient *peer; /* borrowed */
} Failover;

static gboolean
cancelled(Failover *self, GError **error)
{
    if (!g_cancellable_is_cancelled(vr_job_cancellable(self->job)))
        return FALSE;
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "the failover of domain '%s' was cancelled",
                 self->row->name);
    return TRUE;
}

static gboolean
step_check(Failover *self, GError **error)
{
    g_auto(GStrv) exclude = g_strsplit(self->row->exclude, ",", -1);
    g_autoptr(VrFindings) findings = vr_findings_new();
    g_autoptr(VrDomInfo) info = NULL;
    VrCheckWanted wanted = {
        .domain = self->row->uuid,
        .peer = self->row->peer,
        .store = self->row->store,
        .exclude = (const char *const *) exclude,
    };

    vr_job_step(self->job, "check");
    if (!vr_protection_admits(self->row->state, VR_OPERATION_PLANNED_FAILOVER, error)) {
        g_prefix_error(error, "domain '%s': ", self->row->name);
        return FALSE;
    }
    info = vr_dom_info(self->app->conn, self->row->uuid, error);
    if (info == NULL)
        return FALSE;
    if (info->managed_save) {
        vr_set_error(error, VR_ERROR_REFUSED, "managed-save", "Start it, or remove the image: virsh managedsave-remove.",
                     "domain '%s' has a managed save image, whose memory state would be lost", info->name);
        return FALSE;
    }
    vr_job_result_string(self->job, "was_running", info->state == VR_DOM_SHUTOFF ? "no" : "yes");
    self->row->autostart = info->autostart;
    return vr_check_source(self->app, &wanted, findings, NULL, vr_job_cancellable(self->job), error) &&
           vr_check_passed(findings, self->row->name, error) &&
           vr_state_protection_put(self->app->state, self->row, error);
}

static gboolean
replicate(Failover *self, gboolean final, VrCycleDone *done, GError **error)
{
    VrCycleWanted wanted = {.final = final};

    return vr_replicate(self->app, self->row->uuid, &wanted, vr_job_progress(self->job),
                        vr_job_cancellable(self->job), done, error);
}

static gboolean
step_catch_up(Failover *self, GError **error)
{
    VrCycleDone done = {.changed_bytes = G_MAXUINT64};

    vr_job_step(self->job, "catch up");
    for (guint i = 0; i < CATCH_UP_ROUNDS && done.changed_bytes > SMALL_DELTA; i++) {
        if (!replicate(self, FALSE, &done, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
fence_source(Failover *self, GError **error)
{
    g_autoptr(VrGeneration) generation = vr_generation_from_line(self->row->generation, error);

    return generation != NULL &&
           vr_fence_put(self->app->fence, self->row->uuid, VR_FENCE_RECORD_FAILED_OVER,
                        vr_peer_client_name(self->peer), vr_generation_id(generation), error) &&
           vr_dom_set_autostart(self->app->conn, self->row->uuid, FALSE, error);
}

/* Fenced as soon as it is off, so that nobody starts it between here and the end. */
static gboolean
step_shut_down(Failover *self, GError **error)
{
    gboolean force = json_object_get_boolean_member_with_default(vr_job_args(self->job), "force", FALSE);

    if (vr_job_result_get(self->job, "stopped_us") == NULL) {
        g_autofree char *now = g_strdup_printf("%" G_GINT64_FORMAT, g_get_real_time());

        vr_job_result_string(self->job, "stopped_us", now);
    }
    vr_job_step(self->job, "shut down");
    if (self->row->state != VR_PROTECTION_FAILING_OVER &&
        !vr_app_set_state(self->app, self->row->uuid, VR_EVENT_FAILOVER_STARTED, self->row, error))
        return FALSE;
    return vr_dom_shutdown(self->app->conn, self->row->uuid,
                           (guint) (self->policy->shutdown_timeout_us / 1000), force, NULL,
                           vr_job_cancellable(self->job), error) &&
           fence_source(self, error) && vr_fault_point(VR_STEP_F1, error);
}

static gboolean
step_final(Failover *self, GError **error)
{
    VrCycleDone final;

    vr_job_step(self->job, "final replication");
    if (!replicate(self, TRUE, &final, error))
        return FALSE;
    vr_job_result_string(self->job, "root_source", final.root);
    vr_job_result_int(self->job, "number", (gint64) final.number);
    return vr_fault_point(VR_STEP_F2, error);
}

/* The request to the target; the line it carries is durable before the first attempt. */
static JsonNode *
hand_over_request(Failover *self, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(self->app->state, self->row->uuid, error);
    JsonArray *networks = row ? vr_netmap_json(self->app, row->peer, error) : NULL;
    const char *line = vr_job_result_get(self->job, "generation");
    JsonObject *object;
    JsonNode *node;

    if (networks == NULL)
        return NULL;
    object = json_object_new();
    json_object_set_string_member(object, "generation", line);
    json_object_set_int_member(object, "number", (gint64) row->base_number);
    json_object_set_string_member(object, "root", row->base_root);
    json_object_set_boolean_member(object, "autostart", row->autostart);
    json_object_set_array_member(object, "networks", networks);
    node = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(node, object);
    return node;
}

static gboolean
new_generation(Failover *self, GError **error)
{
    g_autoptr(VrGeneration) mine = vr_generation_from_line(self->row->generation, error);
    g_autofree char *id = vr_random_id();
    g_autoptr(VrGeneration) next = NULL;
    g_autofree char *line = NULL;

    if (mine == NULL || !fence_source(self, error) || !vr_fault_point(VR_STEP_F3, error))
        return FALSE;
    next = vr_generation_advance(mine, id, self->row->peer);
    line = vr_generation_to_line(next);
    vr_job_result_string(self->job, "generation", line);
    vr_job_step(self->job, "hand over");
    return TRUE;
}

/* The target promises never to activate that generation. FALSE without @ret_owner: cannot be known now. */
static gboolean
ask_to_refuse(Failover *self, gboolean *ret_refused, GError **error)
{
    JsonObject *object = json_object_new();
    g_autoptr(JsonNode) request = json_node_new(JSON_NODE_OBJECT);
    g_autoptr(JsonNode) answer = NULL;
    JsonObject *said;

    json_object_set_string_member(object, "generation", vr_job_result_get(self->job, "generation"));
    json_node_take_object(request, object);
    answer = vr_peer_client_action(self->peer, self->row->uuid, "deactivate", request, NULL, error);
    said = answer ? vr_json_object(answer, "the target's answer", error) : NULL;
    if (said == NULL)
        return FALSE;
    *ret_refused = json_object_get_boolean_member_with_default(said, "refused", FALSE);
    return TRUE;
}

static GError *
activation_error(JsonNode *answer)
{
    JsonObject *object = vr_json_as_object(answer);
    JsonObject *cause = vr_json_object_in(object, "error");

    if (object != NULL && json_object_get_boolean_member_with_default(object, "running", FALSE))
        return NULL;
    if (cause != NULL)
        return vr_error_from_json_object(cause);
    return vr_error_new(VR_ERROR_INTERNAL, "bad-message", NULL, "the target does not say why the replica does not run");
}

typedef enum { HANDED_OVER, NOT_HANDED_OVER, ASK_AGAIN } HandOver;

/* One attempt. NOT_HANDED_OVER only if the target can never become owner of this generation. */
static HandOver
try_hand_over(Failover *self, JsonNode *request, GError **error)
{
    gboolean give_up = g_cancellable_is_cancelled(vr_job_cancellable(self->job)) &&
                       !vr_job_stopping(self->job);
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GError) local = NULL;
    gboolean refused = FALSE;

    if (!give_up) {
        answer = vr_peer_client_action(self->peer, self->row->uuid, "activate", request, NULL, &local);
        if (answer != NULL) {
            GError *not_yet = activation_error(answer);

            if (not_yet == NULL) {
                vr_job_result_string(self->job, "root_target",
                                     json_object_get_string_member_with_default(json_node_get_object(answer),
                                                                                "root", ""));
                return HANDED_OVER;
            }
            g_propagate_error(error, not_yet);
            return ASK_AGAIN;
        }
        if (vr_error_is_transient(local)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return ASK_AGAIN;
        }
    }
    if (!ask_to_refuse(self, &refused, error) || !refused)
        return ASK_AGAIN;
    if (local == NULL)
        (void) cancelled(self, error);
    else
        vr_set_error(error, VR_ERROR_TRANSIENT, "not-taken-over", "Remove the cause there, then fail over again.",
                     "domain '%s': host '%s' could not take it over: %s", self->row->name,
                     vr_peer_client_name(self->peer), local->message);
    return NOT_HANDED_OVER;
}

/* @ret_undo: the source may start again. */
static gboolean
step_hand_over(Failover *self, gboolean *ret_undo, GError **error)
{
    g_autoptr(JsonNode) request = hand_over_request(self, error);

    if (request == NULL)
        return FALSE;
    *ret_undo = FALSE;
    for (;;) {
        g_autoptr(GError) local = NULL;

        switch (try_hand_over(self, request, &local)) {
        case HANDED_OVER:
            vr_job_waiting(self->job, NULL);
            return TRUE;
        case NOT_HANDED_OVER:
            *ret_undo = TRUE;
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        case ASK_AGAIN:
            vr_job_waiting(self->job, local);
            break;
        }
        if (vr_job_stopping(self->job) && cancelled(self, error))
            return FALSE;
        g_usleep(ASK_AGAIN_US);
    }
}

static gboolean
record_handed_over(Failover *self, GError **error)
{
    g_autoptr(VrProtection) row = NULL;

    if (!vr_app_set_state(self->app, self->row->uuid, VR_EVENT_FAILOVER_DONE, self->row, error))
        return FALSE;
    row = vr_state_protection_get(self->app->state, self->row->uuid, error);
    if (row == NULL)
        return FALSE;
    g_free(row->generation);
    row->generation = g_strdup(vr_job_result_get(self->job, "generation"));
    return vr_state_protection_put(self->app->state, row, error);
}

static gboolean
step_finish(Failover *self, GError **error)
{
    gint64 stopped_us = g_ascii_strtoll(vr_job_result_get(self->job, "stopped_us"), NULL, 10);

    if (self->row->state == VR_PROTECTION_FAILED_OVER)
        return TRUE;
    vr_job_result_double(self->job, "downtime_seconds",
                         (double) (g_get_real_time() - stopped_us) / G_USEC_PER_SEC);
    vr_job_step(self->job, "finish");
    return record_handed_over(self, error) && vr_fault_point(VR_STEP_F6, error);
}

/* All as before: unfenced, started if it ran, replicated again. */
static void
undo(Failover *self)
{
    const char *was_running = vr_job_result_get(self->job, "was_running");
    g_autoptr(GError) error = NULL;

    if (self->row->state != VR_PROTECTION_FAILING_OVER)
        return;
    if (!vr_fence_remove(self->app->fence, self->row->uuid, &error) ||
        !vr_dom_set_autostart(self->app->conn, self->row->uuid, self->row->autostart, &error) ||
        (g_strcmp0(was_running, "yes") == 0 && !vr_dom_start(self->app->conn, self->row->uuid, &error)) ||
        !vr_app_set_state(self->app, self->row->uuid, VR_EVENT_FAILOVER_UNDONE, self->row, &error))
        g_warning("domain '%s': the failover that failed is not undone completely: %s", self->row->name,
                  error->message);
}

/* From the first change to the hand-over. */
static gboolean
stop_and_replicate(Failover *self, GError **error)
{
    if (self->row->state != VR_PROTECTION_FAILING_OVER && !step_catch_up(self, error))
        return FALSE;
    return step_shut_down(self, error) && step_final(self, error) && new_generation(self, error);
}

static gboolean
run_source(Failover *self, GError **error)
{
    gboolean may_undo = TRUE;
    gboolean sent = vr_job_result_get(self->job, "generation") != NULL;
    gboolean ok = self->row->state == VR_PROTECTION_FAILED_OVER;

    if (!ok)
        ok = (sent || stop_and_replicate(self, error)) && step_hand_over(self, &may_undo, error);
    if (ok)
        return step_finish(self, error);
    if (may_undo && !vr_job_stopping(self->job))
        undo(self);
    return FALSE;
}

static gboolean
load(Failover *self, GError **error)
{
    self->row = vr_state_protection_get(self->app->state, vr_job_uuid(self->job), error);
    if (self->row == NULL)
        return FALSE;
    self->peer = vr_peer_pool_get(self->app->peers, self->row->peer, error);
    return self->peer != NULL;
}

static gboolean
lead(Failover *self, GError **error)
{
    gboolean resumed = self->row->state == VR_PROTECTION_FAILING_OVER ||
                       (self->row->state == VR_PROTECTION_FAILED_OVER && vr_job_resumed(self->job));
    gboolean ok = FALSE;

    self->policy = vr_policy_files_get(self->app->policies, self->row->policy, error);
    if (self->policy == NULL)
        return FALSE;
    vr_scheduler_remove(self->app->scheduler, self->row->uuid);
    /* Before the check, which would take the end of a cycle's backup job for another program's. */
    if (vr_job_take_guard(self->job, self->app, error)) {
        ok = (resumed || step_check(self, error)) && run_source(self, error);
        vr_guard_release(self->app->guards, self->row->uuid);
    }
    if (self->row->state != VR_PROTECTION_FAILED_OVER && self->row->state != VR_PROTECTION_FAILING_OVER)
        (void) vr_replicate_schedule(self->app, self->row, NULL);
    return ok;
}

gboolean
vr_job_failover_run(VrJob *job, gpointer app, GError **error)
{
    Failover self = {.job = job, .app = app};
    gboolean ok = load(&self, error);

    if (ok && self.row->role == VR_ROLE_TARGET)
        ok = vr_failover_follow(job, self.row, self.peer, error);
    else if (ok)
        ok = lead(&self, error);
    g_clear_pointer(&self.row, vr_protection_free);
    g_clear_pointer(&self.policy, vr_policy_free);
    return ok;
}
