/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PUT: what a source says of one of its replicas. */
#include <string.h>

#include "plugin/check.h"
#include "plugin/ownership.h"
#include "plugin/peer/peer_replica.h"
#include "plugin/target_domain.h"
#include "policies/error.h"
#include "policies/generation.h"
#include "policies/ids.h"
#include "qmp/domain/domain_model.h"
#include "storage/state/policy_before.h"
#include "storage/state/source_policy.h"
#include "storage/util/json_util.h"

#define GUARD_WAIT_MS 5000

typedef struct {
    const char *store, *policy, *policy_text, *generation, *exclude, *xml; /* borrowed */
    JsonArray *networks;                                                   /* borrowed, nullable */
    VrPolicy *parsed;                                                      /* owned */
    VrDomainModel *model;                                                  /* owned */
} Put;

static void
put_clear(Put *put)
{
    g_clear_pointer(&put->parsed, vr_policy_free);
    g_clear_pointer(&put->model, vr_domain_model_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Put, put_clear)

static gboolean
read_put(JsonNode *request, Put *put, GError **error)
{
    JsonObject *object = vr_json_object(request, "protection", error);

    if (object == NULL || vr_json_string(object, "name", 255, error) == NULL ||
        (put->store = vr_json_string(object, "store", VR_NAME_MAX, error)) == NULL ||
        (put->policy = vr_json_string(object, "policy", VR_NAME_MAX, error)) == NULL ||
        (put->policy_text = vr_json_string(object, "policy_text", 64 * 1024, error)) == NULL ||
        (put->generation = vr_json_string(object, "generation", 4096, error)) == NULL ||
        (put->exclude = vr_json_string(object, "exclude", 4096, error)) == NULL ||
        (put->xml = vr_json_string(object, "xml", VR_DOMAIN_XML_MAX, error)) == NULL)
        return FALSE;
    if (!vr_target_networks_read(object, &put->networks, error))
        return FALSE;
    put->parsed = vr_policy_parse(put->policy, "policy of the source", put->policy_text,
                                  strlen(put->policy_text), error);
    put->model = put->parsed ? vr_domain_model_parse(put->xml, strlen(put->xml), error) : NULL;
    return put->model != NULL;
}

/* Who replicates a domain owns it. */
static gboolean
check_identity(VrApp *app, const char *peer, const char *uuid, const Put *put, GError **error)
{
    g_autoptr(VrGeneration) generation = vr_generation_from_line(put->generation, error);

    if (generation == NULL)
        return FALSE;
    if (strcmp(put->model->uuid, uuid) != 0) {
        vr_set_error(error, VR_ERROR_INVALID, "uuid-differs", NULL, "the domain's UUID is not %s",
                     uuid);
        return FALSE;
    }
    if (strcmp(vr_generation_owner(generation), peer) == 0)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "generation-owner",
                 "Compare 'virt-replica info' on both hosts.",
                 "domain '%s': host '%s' takes a replica only from the host that owns the domain",
                 put->model->name, app->config->name);
    return FALSE;
}

/* The checks that were answered as findings before are repeated: a peer is not believed to have
 * asked. */
static gboolean
passes_check(VrApp *app, const char *peer, JsonNode *request, GError **error)
{
    g_autoptr(JsonNode) answer = vr_check_target(app, peer, request, error);
    JsonArray *findings =
        answer ? vr_json_array_in(json_node_get_object(answer), "findings") : NULL;

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

/* A source that ended replication, or lost its database, and begins again makes a generation of its
 * own, which has nothing to do with the one of before. That is allowed for a replica that is kept,
 * or whose owner it still is: this host has not run it. */
static gboolean
begins_anew(const VrProtection *row, const Put *put)
{
    g_autoptr(VrGeneration) theirs = vr_generation_from_line(put->generation, NULL);
    g_autoptr(VrGeneration) mine = vr_generation_from_line(row->generation, NULL);

    return theirs != NULL && mine != NULL &&
           vr_generation_compare(theirs, mine) == VR_GENERATION_UNRELATED &&
           (row->kept_until_us != 0 || strcmp(vr_generation_owner(mine), row->peer) == 0);
}

/* A source that never ended replication does not undo what the operator of this host has ended; one
 * that protects the domain again comes with a generation of its own. */
static gboolean
may_revive(VrApp *app, const VrProtection *row, const Put *put, GError **error)
{
    return begins_anew(row, put) || vr_peer_replica_check_going(app, row, error);
}

static gboolean
generation_fits(const VrProtection *row, const Put *put, GError **error)
{
    g_autoptr(VrGeneration) theirs = vr_generation_from_line(put->generation, error);
    g_autoptr(VrGeneration) mine = theirs ? vr_generation_from_line(row->generation, error) : NULL;
    VrGenerationRelation relation;

    if (mine == NULL)
        return FALSE;
    relation = vr_generation_compare(theirs, mine);
    if (relation == VR_GENERATION_SAME || begins_anew(row, put))
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "generation-mismatch",
                 "Compare 'virt-replica info' on both hosts.",
                 "domain '%s': the sender's generation is %s compared with the one here", row->name,
                 vr_generation_relation_name(relation));
    return FALSE;
}

static gboolean
may_change(VrApp *app, const char *peer, const VrProtection *row, const Put *put, GError **error)
{
    if (strcmp(row->peer, peer) != 0) {
        vr_set_error(error, VR_ERROR_AUTH, "not-your-protection", NULL,
                     "the protection of domain %s belongs to another peer", row->uuid);
        return FALSE;
    }
    if (!vr_peer_replica_check_role(app, row, "failed-over", error) ||
        !generation_fits(row, put, error) || !may_revive(app, row, put, error))
        return FALSE;
    if ((row->kept_until_us == 0 && !begins_anew(row, put)) || strcmp(row->store, put->store) == 0)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "store-differs",
                 "Protect it with that store, or unprotect it on the target.",
                 "domain '%s': host '%s' keeps its replica in store '%s', not in '%s'", row->name,
                 app->config->name, row->store, put->store);
    return FALSE;
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

static void
take_settings(VrProtection *row, const Put *put)
{
    replace(&row->name, put->model->name);
    replace(&row->policy, put->policy);
    replace(&row->policy_text, put->policy_text);
    replace(&row->exclude, put->exclude);
    take_networks(row, put->networks);
}

/* A policy that keeps less takes hold of what is there only after the grace. */
static gboolean
take_policy_before(VrApp *app, VrProtection *row, const Put *put, GError **error)
{
    g_autoptr(VrPolicy) present = vr_source_policy(row, error);
    g_autoptr(VrPeer) peer = present ? vr_state_peer_get(app->state, row->peer, error) : NULL;
    VrRetentionBefore before;

    if (peer == NULL || !vr_policy_before_get(row, &before, error))
        return FALSE;
    vr_retention_change(&before, &present->keep, &put->parsed->keep, peer->delete_grace_us,
                        g_get_real_time());
    vr_policy_before_set(row, &before);
    return TRUE;
}

static gboolean
insert(VrApp *app, const char *peer, const char *uuid, const Put *put, GError **error)
{
    g_autoptr(VrProtection) row = g_new0(VrProtection, 1);

    row->uuid = g_strdup(uuid);
    row->role = VR_ROLE_TARGET;
    row->peer = g_strdup(peer);
    row->state = VR_PROTECTION_INITIAL;
    row->store = g_strdup(put->store);
    row->generation = g_strdup(put->generation);
    row->created_us = g_get_real_time();
    take_settings(row, put);
    return vr_peer_quota_check_new(app->quota, peer, error) &&
           vr_state_protection_insert(app->state, row, error) &&
           vr_ownership_fence(app, row, error);
}

static gboolean
revive(VrApp *app, VrProtection *row, const Put *put, GError **error)
{
    if (row->kept_until_us == 0)
        g_message("domain '%s': its source begins its protection anew", row->name);
    return vr_state_protection_set_kept_until(app->state, row->uuid, 0, error) &&
           (row->state != VR_PROTECTION_PAUSED ||
            vr_app_set_state(app, row->uuid, VR_EVENT_RESUMED, NULL, error)) &&
           vr_ownership_revive(app, row, put->generation, error);
}

static gboolean
update(VrApp *app, const char *peer, VrProtection *row, const Put *put, GError **error)
{
    if (!may_change(app, peer, row, put, error) || !take_policy_before(app, row, put, error))
        return FALSE;
    take_settings(row, put);
    return vr_state_protection_set_settings(app->state, row, error) &&
           ((row->kept_until_us == 0 && !begins_anew(row, put)) || revive(app, row, put, error));
}

/* In the transaction that writes: the row as it is now decides. @checked: it may be made. */
static gboolean
write_put(VrApp *app, const char *peer, const char *uuid, const Put *put, gboolean checked,
          GError **error)
{
    g_autoptr(VrProtection) row = NULL;

    if (!vr_state_begin(app->state, error))
        return FALSE;
    if (vr_state_protection_find(app->state, uuid, &row, error) && row == NULL && !checked)
        vr_set_error(error, VR_ERROR_CONFLICT, "protection-changed", "Try again.",
                     "domain '%s': its replica was removed meanwhile", put->model->name);
    else if (row != NULL ? update(app, peer, row, put, error)
                         : checked && insert(app, peer, uuid, put, error))
        return vr_state_commit(app->state, error);
    vr_state_rollback(app->state);
    return FALSE;
}

/* A replica does not take the name of a domain of this host, beside which it could not be defined.
 */
static gboolean
may_be_named(VrApp *app, const VrProtection *row, const Put *put, GError **error)
{
    g_autoptr(VrFindings) findings = vr_findings_new();

    return strcmp(row->name, put->model->name) == 0 ||
           (vr_target_check_taken(app, row->uuid, put->model->name, findings, error) &&
            vr_check_passed(findings, put->model->name, error));
}

static gboolean
put_guarded(VrApp *app, const char *peer, const char *uuid, JsonNode *request, const Put *put,
            GError **error)
{
    g_autoptr(VrProtection) row = NULL;

    if (!vr_state_protection_find(app->state, uuid, &row, error))
        return FALSE;
    if (row == NULL && !passes_check(app, peer, request, error))
        return FALSE;
    if (row != NULL && !may_be_named(app, row, put, error))
        return FALSE;
    if (!write_put(app, peer, uuid, put, row == NULL, error))
        return FALSE;
    if (row != NULL)
        vr_replicas_refresh_index(app->replicas, uuid);
    return TRUE;
}

JsonNode *
vr_peer_replica_put(VrApp *app, const char *peer, const char *uuid, JsonNode *request,
                    GError **error)
{
    g_auto(Put) put = {0};
    gboolean ok;

    if (!read_put(request, &put, error) || !check_identity(app, peer, uuid, &put, error) ||
        !vr_guard_take(app->guards, uuid, "new settings of the source", GUARD_WAIT_MS, NULL, error))
        return NULL;
    ok = put_guarded(app, peer, uuid, request, &put, error);
    vr_guard_release(app->guards, uuid);
    return ok ? vr_json_node(json_object_new()) : NULL;
}
