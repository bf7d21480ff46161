/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/failover_follow.h"

#include <string.h>

#include "plugin/job/remote_job.h"
#include "plugin/ownership.h"
#include "policies/error.h"
#include "storage/wire/cycle_field.h"
#include "storage/util/json_util.h"

#define STEPS_MAX 256
#define TEXT_MAX 128
#define ASK_AGAIN_US (G_TIME_SPAN_MILLISECOND * 500)
#define CONFIRM_US G_TIME_SPAN_MINUTE

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
                 "the failover of domain '%s' is not awaited any more", domain);
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

/* @ret_step: name of the step that runs there, or NULL. */
static gboolean
running_step(JsonObject *object, const char **ret_step, GError **error)
{
    JsonArray *steps;

    *ret_step = NULL;
    if (!vr_json_array_opt(object, "steps", STEPS_MAX, &steps, error))
        return FALSE;
    for (guint i = 0; steps != NULL && i < json_array_get_length(steps); i++) {
        JsonObject *step = vr_json_object(json_array_get_element(steps, i), "a step", error);
        const char *state = step ? vr_json_string(step, "state", TEXT_MAX, error) : NULL;
        const char *name = state ? vr_json_string(step, "name", TEXT_MAX, error) : NULL;

        if (name == NULL)
            return FALSE;
        if (strcmp(state, "running") == 0)
            *ret_step = name;
    }
    return TRUE;
}

static gboolean
take_result(VrJob *job, JsonObject *object, GError **error)
{
    JsonObject *result = vr_json_object_in(object, "result");
    static const char *const roots[] = {"root_source", "root_target"};
    double downtime;
    guint64 number;

    if (result == NULL)
        return TRUE;
    if (!vr_json_double_opt(result, "downtime_seconds", 0, &downtime, error) ||
        !vr_json_uint_opt(result, "number", G_MAXINT64, 0, &number, error))
        return FALSE;
    vr_job_result_double(job, "downtime_seconds", downtime);
    vr_job_result_int(job, "number", (gint64) number);
    for (guint i = 0; i < G_N_ELEMENTS(roots); i++) {
        g_autofree char *root = vr_field_sha256(result, roots[i], NULL);

        if (root != NULL)
            vr_job_result_string(job, roots[i], root);
    }
    return TRUE;
}

static gboolean
show_step(VrJob *job, JsonObject *theirs, GError **error)
{
    const char *step;

    if (!running_step(theirs, &step, error))
        return FALSE;
    if (step != NULL && g_strcmp0(step, vr_job_running_step(job)) != 0)
        vr_job_step(job, step);
    return TRUE;
}

/* That it is done is the source's word: this host knows whether it has the domain. Its own part may
 * be just ending. */
static gboolean
confirm(VrJob *job, VrApp *app, const char *uuid, VrPeerClient *peer, GError **error)
{
    gint64 until = g_get_monotonic_time() + CONFIRM_US;
    g_autoptr(VrProtection) row = NULL;

    do {
        g_clear_pointer(&row, vr_protection_free);
        row = vr_state_protection_get(app->state, uuid, error);
        if (row == NULL)
            return FALSE;
        if (vr_ownership_settled(app, row))
            return TRUE;
        if (!wait_again(job, row->name, error))
            return FALSE;
    } while (g_get_monotonic_time() < until);
    vr_set_error(error, VR_ERROR_INTERNAL, "failover-unconfirmed",
                 "Compare 'virt-replica info' on both hosts.",
                 "domain '%s': host '%s' says that it was failed over, but host '%s' has not taken "
                 "it over",
                 row->name, vr_peer_client_name(peer), app->config->name);
    return FALSE;
}

static gboolean
follow(VrJob *job, VrApp *app, const char *uuid, VrPeerClient *peer, gint64 id, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;

    return vr_remote_job_follow(job, peer, id, show_step, NULL, &answer, error) &&
           confirm(job, app, uuid, peer, error) &&
           take_result(job, vr_json_as_object(answer), error);
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
    return id == 0 || follow(job, app, row->uuid, peer, id, error);
}
