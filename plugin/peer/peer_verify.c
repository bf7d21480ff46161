/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_verify.h"

#include <string.h>

#include "policies/error.h"
#include "policies/units.h"
#include "storage/json_util.h"
#include "storage/replica_verify.h"
#include "storage/source_policy.h"

static JsonNode *
answer_new(JsonObject *object)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, object);
    return node;
}

static VrProtection *
target_row(VrApp *app, const char *uuid, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, error);

    if (row == NULL || row->role == VR_ROLE_TARGET)
        return g_steal_pointer(&row);
    vr_set_error(error, VR_ERROR_REFUSED, "not-target", NULL,
                 "domain '%s': host '%s' is its source, not its target", row->name,
                 app->config->name);
    return NULL;
}

static gboolean
is_verify(VrApp *app, gint64 id, const char *uuid)
{
    g_autoptr(VrJobRow) job = id > 0 ? vr_state_job_get(app->state, id, NULL) : NULL;

    return job != NULL && strcmp(job->kind, "verify") == 0 && g_strcmp0(job->uuid, uuid) == 0;
}

/* @args: (transfer full). 0 with @error. */
static gint64
start(VrApp *app, const VrProtection *row, JsonObject *args, GError **error)
{
    gint64 running = vr_jobs_find(app->jobs, row->uuid, "verify");
    gint64 id = 0;

    if (running != 0) {
        json_object_unref(args);
        return running;
    }
    /* a failover that was ordered here follows the source's, which asks for this */
    return vr_jobs_start_child(app->jobs, vr_jobs_find(app->jobs, row->uuid, "failover"), "verify",
                               row->uuid, row->name, args, &id, error)
               ? id
               : 0;
}

JsonNode *
vr_peer_verify(VrApp *app, const char *uuid, JsonNode *request, GError **error)
{
    g_autoptr(VrProtection) row = target_row(app, uuid, error);
    JsonObject *asked = vr_json_as_object(request);
    JsonObject *object;
    guint64 number = 0;
    gint64 id;

    if (row == NULL)
        return NULL;
    if (asked != NULL && json_object_has_member(asked, "number") &&
        !vr_json_uint(asked, "number", G_MAXINT64, &number, error))
        return NULL;
    object = json_object_new();
    json_object_set_int_member(object, "number", (gint64) number);
    id = start(app, row, object, error);
    if (id == 0)
        return NULL;
    object = json_object_new();
    json_object_set_int_member(object, "job", id);
    return answer_new(object);
}

JsonNode *
vr_peer_verify_cancel(VrApp *app, const char *uuid, JsonNode *request, GError **error)
{
    JsonObject *asked = vr_json_object(request, "verify-cancel", error);
    guint64 id;

    if (asked == NULL || !vr_json_uint(asked, "job", G_MAXINT64, &id, error))
        return NULL;
    if (is_verify(app, (gint64) id, uuid))
        (void) vr_jobs_cancel(app->jobs, (gint64) id, NULL);
    return answer_new(json_object_new());
}

static gboolean
add_reading(VrApp *app, const VrProtection *row, const VrRecoveryPoint *head, gint64 since_us,
            JsonObject *object, GError **error)
{
    JsonObject *args = json_object_new();
    gint64 id;

    json_object_set_int_member(args, "number", (gint64) head->number);
    json_object_set_int_member(args, "good_since_us", since_us);
    id = start(app, row, args, error);
    if (id != 0)
        json_object_set_int_member(object, "job", id);
    return id != 0;
}

static JsonNode *
prove_head(VrApp *app, const VrProtection *row, VrReplica *replica, gboolean verify, GError **error)
{
    g_autoptr(VrRecoveryPoint) head = vr_replica_head(replica, error);
    g_autofree char *verified = NULL;
    g_autoptr(JsonNode) node = NULL;
    JsonObject *object = json_object_new();
    gint64 since_us = g_get_real_time() - vr_source_policy_verify_us(row);

    node = answer_new(object);
    if (head == NULL) {
        if (error != NULL && *error == NULL)
            vr_set_error(error, VR_ERROR_REFUSED, "no-recovery-point", "Run sync first.",
                         "domain '%s' has no recovery point on host '%s'", row->name,
                         app->config->name);
        return NULL;
    }
    if (!vr_replica_check_chain(replica, head->number, error) ||
        !vr_replica_require_sound(replica, head->number, error))
        return NULL;
    verified = head->verified_us ? vr_time_format(head->verified_us) : NULL;
    json_object_set_int_member(object, "number", (gint64) head->number);
    if (verified != NULL)
        json_object_set_string_member(object, "verified", verified);
    else
        json_object_set_null_member(object, "verified");
    if (verify && head->verified_us < since_us &&
        !add_reading(app, row, head, since_us, object, error))
        return NULL;
    return g_steal_pointer(&node);
}

JsonNode *
vr_peer_prove(VrApp *app, const char *uuid, JsonNode *request, GError **error)
{
    g_autoptr(VrProtection) row = target_row(app, uuid, error);
    JsonObject *asked = vr_json_as_object(request);
    VrReplica *replica = row != NULL ? vr_replicas_get(app->replicas, uuid, error) : NULL;
    gboolean verify =
        asked == NULL || json_object_get_boolean_member_with_default(asked, "verify", TRUE);
    JsonNode *node;

    if (replica == NULL)
        return NULL;
    node = prove_head(app, row, replica, verify, error);
    vr_replicas_put(app->replicas, replica);
    if (node == NULL)
        g_prefix_error(error, "domain '%s', replica on host '%s': ", row->name, app->config->name);
    return node;
}
