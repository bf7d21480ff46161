/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_ops.h"

#include <string.h>

#include "plugin/check.h"
#include "plugin/job/activation.h"
#include "plugin/target_domain.h"
#include "policies/error.h"
#include "policies/generation.h"
#include "policies/ids.h"
#include "storage/file_util.h"
#include "storage/json_util.h"

static JsonNode *
empty_object(void)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, json_object_new());
    return node;
}

static JsonNode *
check(gpointer data, const char *peer, JsonNode *request, GError **error)
{
    return vr_check_target(data, peer, request, error);
}

typedef struct {
    const char *name, *store, *policy, *policy_text, *generation, *exclude, *xml;
    JsonArray *networks;
} Put;

static gboolean
read_put(JsonNode *request, Put *put, GError **error)
{
    JsonObject *object = vr_json_object(request, "protection", error);

    if (object == NULL || (put->name = vr_json_string(object, "name", 255, error)) == NULL ||
        (put->store = vr_json_string(object, "store", VR_NAME_MAX, error)) == NULL ||
        (put->policy = vr_json_string(object, "policy", VR_NAME_MAX, error)) == NULL ||
        (put->policy_text = vr_json_string(object, "policy_text", 64 * 1024, error)) == NULL ||
        (put->generation = vr_json_string(object, "generation", 4096, error)) == NULL ||
        (put->exclude = vr_json_string(object, "exclude", 4096, error)) == NULL ||
        (put->xml = vr_json_string(object, "xml", VR_DOMAIN_XML_MAX, error)) == NULL)
        return FALSE;
    return vr_json_array_opt(object, "networks", VR_NETWORKS_SENT_MAX, &put->networks, error);
}

static gboolean
policy_is_valid(const Put *put, GError **error)
{
    g_autoptr(VrPolicy) policy =
        vr_name_valid(put->policy)
            ? vr_policy_parse(put->policy, "policy of the source", put->policy_text,
                              strlen(put->policy_text), error)
            : NULL;

    if (policy == NULL && error != NULL && *error == NULL)
        vr_set_error(error, VR_ERROR_INVALID, "bad-policy-name", NULL,
                     "the policy's name is not valid");
    return policy != NULL;
}

/* The checks that were answered as findings before are repeated: a peer is not believed to have
 * asked. */
static gboolean
may_create(VrApp *app, const char *peer, JsonNode *request, GError **error)
{
    g_autoptr(JsonNode) answer = vr_check_target(app, peer, request, error);
    JsonArray *findings =
        answer ? json_object_get_array_member(json_node_get_object(answer), "findings") : NULL;

    if (findings == NULL)
        return FALSE;
    for (guint i = 0; i < json_array_get_length(findings); i++) {
        JsonObject *finding = json_array_get_object_element(findings, i);

        if (strcmp(json_object_get_string_member(finding, "severity"), "error") != 0)
            continue;
        vr_set_error(error, VR_ERROR_REFUSED, json_object_get_string_member(finding, "code"),
                     json_object_get_string_member(finding, "action"), "%s",
                     json_object_get_string_member(finding, "message"));
        return FALSE;
    }
    return TRUE;
}

static gboolean
same_generation(const VrProtection *row, const char *line, GError **error)
{
    g_autoptr(VrGeneration) theirs = vr_generation_from_line(line, error);
    g_autoptr(VrGeneration) mine = theirs ? vr_generation_from_line(row->generation, error) : NULL;

    if (mine == NULL)
        return FALSE;
    if (vr_generation_compare(mine, theirs) == VR_GENERATION_SAME)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "generation-mismatch",
                 "Compare 'virt-replica info' on both hosts.",
                 "domain '%s': the sender's generation is %s compared with the one here", row->name,
                 vr_generation_relation_name(vr_generation_compare(theirs, mine)));
    return FALSE;
}

static VrProtection *
new_row(const char *uuid, const char *peer, const Put *put)
{
    VrProtection *row = g_new0(VrProtection, 1);

    row->uuid = g_strdup(uuid);
    row->role = VR_ROLE_TARGET;
    row->peer = g_strdup(peer);
    row->state = VR_PROTECTION_INITIAL;
    row->store = g_strdup(put->store);
    row->generation = g_strdup(put->generation);
    row->created_us = g_get_real_time();
    return row;
}

static void
replace(char **field, const char *value)
{
    g_free(*field);
    *field = g_strdup(value);
}

/* The map as sent; without one the map of before stays. */
static void
take_networks(VrProtection *row, JsonArray *networks)
{
    g_autoptr(JsonNode) node = NULL;

    if (networks == NULL)
        return;
    node = json_node_new(JSON_NODE_ARRAY);
    json_node_set_array(node, networks);
    g_free(row->networks);
    row->networks = vr_json_to_text(node);
}

static gboolean
fence_replica(VrApp *app, const VrProtection *row, GError **error)
{
    g_autoptr(VrPeer) peer = vr_state_peer_get(app->state, row->peer, error);
    g_autoptr(VrGeneration) generation =
        peer ? vr_generation_from_line(row->generation, error) : NULL;

    return generation != NULL && vr_fence_put(app->fence, row->uuid, VR_FENCE_RECORD_REPLICA,
                                              peer->name, vr_generation_id(generation), error);
}

static gboolean
store_row(VrApp *app, const VrProtection *row, gboolean created, GError **error)
{
    if (!vr_state_begin(app->state, error))
        return FALSE;
    if (created
            ? vr_state_protection_insert(app->state, row, error) && fence_replica(app, row, error)
            : vr_state_protection_set_settings(app->state, row, error))
        return vr_state_commit(app->state, error);
    vr_state_rollback(app->state);
    return FALSE;
}

static JsonNode *
protection_put(gpointer data, const char *peer, const char *uuid, JsonNode *request, GError **error)
{
    VrApp *app = data;
    g_autoptr(VrDomainModel) model = NULL;
    g_autoptr(VrProtection) row = NULL;
    gboolean created;
    Put put = {0};

    if (!read_put(request, &put, error) || !policy_is_valid(&put, error))
        return NULL;
    model = vr_domain_model_parse(put.xml, strlen(put.xml), error);
    if (model == NULL)
        return NULL;
    if (strcmp(model->uuid, uuid) != 0) {
        vr_set_error(error, VR_ERROR_INVALID, "uuid-differs", NULL, "the domain's UUID is not %s",
                     uuid);
        return NULL;
    }
    row = vr_state_protection_get(app->state, uuid, NULL);
    created = row == NULL;
    if (created && !may_create(app, peer, request, error))
        return NULL;
    if (created) {
        g_autoptr(VrGeneration) generation = vr_generation_from_line(put.generation, error);

        if (generation == NULL)
            return NULL;
        row = new_row(uuid, peer, &put);
    } else if (row->role != VR_ROLE_TARGET) {
        vr_set_error(error, VR_ERROR_REFUSED, "not-target", "Unprotect it on this host first.",
                     "domain '%s' is protected by host '%s' itself", row->name, app->config->name);
        return NULL;
    } else if (!same_generation(row, put.generation, error)) {
        return NULL;
    }
    replace(&row->name, model->name);
    replace(&row->policy, put.policy);
    replace(&row->policy_text, put.policy_text);
    replace(&row->exclude, put.exclude);
    take_networks(row, put.networks);
    if (!store_row(app, row, created, error))
        return NULL;
    return empty_object();
}

static JsonNode *
delete_guarded(VrApp *app, const char *uuid, gboolean keep_replica, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, error);
    g_autofree char *manifests = vr_app_manifest_dir(app, uuid);

    if (row == NULL)
        return NULL;
    if (row->role != VR_ROLE_TARGET || row->state == VR_PROTECTION_FAILED_OVER) {
        vr_set_error(error, VR_ERROR_REFUSED, "replica-in-use", "Fail back first.",
                     "domain '%s' runs on host '%s' from this replica", row->name,
                     app->config->name);
        return NULL;
    }
    if (keep_replica)
        vr_replicas_close(app->replicas, uuid);
    else if (!vr_replicas_destroy(app->replicas, uuid, error))
        return NULL;
    if (!vr_remove_tree(manifests, error) || !vr_fence_remove(app->fence, uuid, error) ||
        !vr_state_protection_delete(app->state, uuid, error))
        return NULL;
    return empty_object();
}

/* Never under an activation, which may be about to own these layers. */
static JsonNode *
protection_delete(gpointer data, const char *peer G_GNUC_UNUSED, const char *uuid,
                  gboolean keep_replica, GError **error)
{
    VrApp *app = data;
    JsonNode *node;

    if (!vr_guard_take(app->guards, uuid, "removal of the replica", 0, NULL, error))
        return NULL;
    node = delete_guarded(app, uuid, keep_replica, error);
    vr_guard_release(app->guards, uuid);
    return node;
}

/* Would the newest RP start here as it is? */
static JsonNode *
finalize(VrApp *app, const char *peer, const char *uuid, GError **error)
{
    VrReplica *replica = vr_replicas_get(app->replicas, uuid, error);
    g_autoptr(VrRecoveryPoint) head = replica ? vr_replica_head(replica, error) : NULL;
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, NULL);
    g_autoptr(JsonNode) sent = row && row->networks ? json_from_string(row->networks, NULL) : NULL;
    g_autofree char *xml = head ? vr_replica_domain_xml(replica, head->number, error) : NULL;
    g_autoptr(VrDomainModel) model = xml ? vr_domain_model_parse(xml, strlen(xml), error) : NULL;
    g_autoptr(GHashTable) networks =
        model ? vr_target_networks(app, peer, sent ? json_node_get_array(sent) : NULL, error)
              : NULL;
    g_autoptr(VrFindings) findings = vr_findings_new();
    gboolean ok = networks != NULL &&
                  vr_target_check_domain(app, model, networks, findings, error) &&
                  vr_check_passed(findings, model->name, error);

    if (replica != NULL)
        vr_replicas_put(app->replicas, replica);
    return ok ? empty_object() : NULL;
}

static JsonNode *
planned_failover(VrApp *app, const char *uuid, JsonNode *request, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, error);
    JsonObject *args;
    JsonObject *reply;
    JsonNode *node;
    gint64 id;

    if (row == NULL)
        return NULL;
    if (row->role != VR_ROLE_SOURCE) {
        vr_set_error(error, VR_ERROR_REFUSED, "not-source", NULL,
                     "domain '%s': host '%s' is not its source", row->name, app->config->name);
        return NULL;
    }
    args = json_object_new();
    json_object_set_boolean_member(args, "force",
                                   request && JSON_NODE_HOLDS_OBJECT(request) &&
                                       json_object_get_boolean_member_with_default(
                                           json_node_get_object(request), "force", FALSE));
    if (!vr_jobs_start(app->jobs, "failover", uuid, row->name, args, &id, error))
        return NULL;
    reply = json_object_new();
    json_object_set_int_member(reply, "job", id);
    node = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(node, reply);
    return node;
}

static JsonNode *
action(gpointer data, const char *peer, const char *uuid, const char *name, JsonNode *request,
       GError **error)
{
    VrApp *app = data;

    if (strcmp(name, "known") == 0)
        return empty_object();
    if (strcmp(name, "finalize") == 0)
        return finalize(app, peer, uuid, error);
    if (strcmp(name, "activate") == 0)
        return vr_activate(app, uuid, request, error);
    if (strcmp(name, "deactivate") == 0)
        return vr_deactivate(app, uuid, request, error);
    if (strcmp(name, "planned-failover") == 0)
        return planned_failover(app, uuid, request, error);
    vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-action", "Use the same version on both hosts.",
                 "this version knows no action '%s'", name);
    return NULL;
}

/* Only jobs of protections shared with that peer. */
static JsonNode *
job(gpointer data, const char *peer, gint64 id, GError **error)
{
    VrApp *app = data;
    g_autoptr(VrJobRow) row = vr_state_job_get(app->state, id, error);
    g_autoptr(VrProtection) protection =
        row && row->uuid ? vr_state_protection_get(app->state, row->uuid, NULL) : NULL;

    if (row == NULL)
        return NULL;
    if (protection == NULL || strcmp(protection->peer, peer) != 0) {
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-job", NULL,
                     "there is no job %" G_GINT64_FORMAT, id);
        return NULL;
    }
    return vr_jobs_get(app->jobs, id, error);
}

static VrReplica *
replica(gpointer data, const char *uuid, const char *peer G_GNUC_UNUSED, const char *generation,
        GError **error)
{
    VrApp *app = data;
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, error);
    g_autoptr(VrGeneration) mine = row ? vr_generation_from_line(row->generation, error) : NULL;

    if (mine == NULL)
        return NULL;
    if (generation != NULL && strcmp(generation, vr_generation_id(mine)) != 0) {
        vr_set_error(
            error, VR_ERROR_REFUSED, "generation-behind", "See 'virt-replica info' on both hosts.",
            "domain '%s': host '%s' does not know the sender's generation as the newest one",
            row->name, app->config->name);
        return NULL;
    }
    if (generation != NULL && row->state == VR_PROTECTION_FAILED_OVER) {
        vr_set_error(error, VR_ERROR_REFUSED, "failed-over", NULL,
                     "domain '%s' was failed over to host '%s'", row->name, app->config->name);
        return NULL;
    }
    return vr_replicas_get(app->replicas, uuid, error);
}

static void
replica_done(gpointer data, VrReplica *done)
{
    VrApp *app = data;

    vr_replicas_put(app->replicas, done);
}

static void
cycle_committed(gpointer data, const char *uuid, const VrRecoveryPoint *rp G_GNUC_UNUSED)
{
    VrApp *app = data;
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, NULL);

    if (row != NULL && row->state == VR_PROTECTION_INITIAL)
        (void) vr_app_set_state(app, uuid, VR_EVENT_INITIAL_DONE, NULL, NULL);
    vr_replicas_retain(app->replicas, uuid);
}

const VrPeerServerOps vr_peer_ops = {
    .check = check,
    .protection_put = protection_put,
    .protection_delete = protection_delete,
    .action = action,
    .job = job,
    .replica = replica,
    .replica_done = replica_done,
    .cycle_committed = cycle_committed,
};
