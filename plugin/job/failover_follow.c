/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/failover_follow.h"

#include <string.h>

#include "plugin/job/remote_job.h"
#include "plugin/ownership.h"
#include "policies/error.h"
#include "storage/error_json.h"
#include "storage/json_util.h"

#define ASK_AGAIN_US (G_TIME_SPAN_MILLISECOND * 500)

static JsonNode *
request_of(VrJob *job)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_set_object(node, vr_job_args(job));
    return node;
}

/* Its number is in the result before anything else is done. 0 on error. */
static gint64
ask_source(VrJob *job, const VrProtection *row, VrPeerClient *peer, GError **error)
{
    g_autoptr(JsonNode) request = request_of(job);
    g_autoptr(JsonNode) answer = NULL;
    g_autofree char *text = NULL;
    gint64 id;

    answer = vr_peer_client_action(peer, row->uuid, "planned-failover", request,
                                   vr_job_cancellable(job), error);
    if (answer == NULL)
        return 0;
    id = vr_remote_job_id(answer, peer, error);
    if (id == 0)
        return 0;
    text = g_strdup_printf("%" G_GINT64_FORMAT, id);
    vr_job_result_string(job, "source_job", text);
    vr_job_save(job);
    return id;
}

/* Sleeps; FALSE when cancelled. */
static gboolean
wait_again(VrJob *job, const char *domain, GError **error)
{
    g_usleep(ASK_AGAIN_US);
    if (!g_cancellable_is_cancelled(vr_job_cancellable(job)))
        return TRUE;
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL,
                 "the failover of domain '%s' was cancelled", domain);
    return FALSE;
}

/* Starts the source's job. One that was asked for by us of before, whose answer we never had, is
 * awaited. 0 with @error or, when it has moved the domain meanwhile, without. */
static gint64
start_at_source(VrJob *job, VrApp *app, const VrProtection *row, VrPeerClient *peer, GError **error)
{
    const char *known = vr_job_result_get(job, "source_job");

    if (known != NULL)
        return g_ascii_strtoll(known, NULL, 10);
    for (;;) {
        g_autoptr(GError) local = NULL;
        g_autoptr(VrProtection) now = vr_state_protection_get(app->state, row->uuid, &local);

        if (now == NULL || now->state != VR_PROTECTION_FAILED_OVER) {
            gint64 id = now != NULL ? ask_source(job, row, peer, &local) : 0;

            if (local == NULL)
                return id;
        } else if (vr_ownership_settled(app, now)) {
            return 0;
        }
        if (local != NULL && (!vr_job_resumed(job) || !vr_error_is_transient(local))) {
            g_propagate_error(error, g_steal_pointer(&local));
            return 0;
        }
        if (!wait_again(job, row->name, error))
            return 0;
    }
}

/* Name of the step that runs there, or NULL. */
static const char *
running_step(JsonObject *object)
{
    JsonArray *steps = vr_json_array_in(object, "steps");

    for (guint i = 0; steps != NULL && i < json_array_get_length(steps); i++) {
        JsonObject *step = vr_json_object_at(steps, i);

        if (step != NULL && strcmp(vr_json_text_in(step, "state", ""), "running") == 0)
            return vr_json_text_in(step, "name", "");
    }
    return NULL;
}

static void
take_result(VrJob *job, JsonObject *object)
{
    JsonObject *result = vr_json_object_in(object, "result");
    static const char *const roots[] = {"root_source", "root_target"};

    if (result == NULL)
        return;
    vr_job_result_double(job, "downtime_seconds",
                         json_object_get_double_member_with_default(result, "downtime_seconds", 0));
    vr_job_result_int(job, "number", json_object_get_int_member_with_default(result, "number", 0));
    for (guint i = 0; i < G_N_ELEMENTS(roots); i++)
        vr_job_result_string(job, roots[i], vr_json_text_in(result, roots[i], ""));
}

static void
show_step(VrJob *job, JsonObject *theirs)
{
    const char *step = running_step(theirs);

    if (step != NULL && g_strcmp0(step, vr_job_running_step(job)) != 0)
        vr_job_step(job, step);
}

static gboolean
follow(VrJob *job, VrPeerClient *peer, gint64 id, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;

    if (!vr_remote_job_follow(job, peer, id, show_step, NULL, &answer, error))
        return FALSE;
    take_result(job, vr_json_as_object(answer));
    return TRUE;
}

gboolean
vr_failover_follow(VrJob *job, VrApp *app, const VrProtection *row, VrPeerClient *peer,
                   GError **error)
{
    g_autoptr(GError) local = NULL;
    gint64 id = start_at_source(job, app, row, peer, &local);

    if (local != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    return id == 0 || follow(job, peer, id, error);
}
