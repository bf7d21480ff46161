/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_replica.h"

#include <string.h>

#include "plugin/check.h"
#include "plugin/ownership.h"
#include "plugin/target_domain.h"
#include "policies/error.h"
#include "policies/generation.h"
#include "policies/ids.h"
#include "qmp/domain_model.h"
#include "storage/file_util.h"
#include "storage/json_util.h"
#include "storage/policy_before.h"
#include "storage/source_policy.h"
#include "storage/store_scan.h"

#define KEEP_FOR_EVER G_MAXINT64
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
    if (!vr_json_array_opt(object, "networks", VR_NETWORKS_SENT_MAX, &put->networks, error))
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

/* A new replica never begins over the recovery points of one that the database does not know. */
static gboolean
place_is_free(VrApp *app, const char *uuid, const Put *put, GError **error)
{
    VrStoreRow *store = vr_state_store_get(app->state, put->store, error);
    gboolean taken = store != NULL && vr_store_holds(store->path, uuid);
    gboolean ok = store != NULL && !taken;

    if (taken) {
        g_autofree char *action =
            g_strdup_printf("On host '%s': virt-replica store-scan %s --adopt %s, or --drop %s.",
                            app->config->name, store->name, uuid, uuid);

        vr_set_error(error, VR_ERROR_REFUSED, "replica-orphaned", action,
                     "domain '%s': store '%s' of host '%s' holds a replica of it that the host's "
                     "database does not know",
                     put->model->name, store->name, app->config->name);
    }
    vr_store_row_free(store);
    return ok;
}

static gboolean
is_replica(VrApp *app, const VrProtection *row, const char *slug, GError **error)
{
    if (row->role != VR_ROLE_TARGET) {
        vr_set_error(error, VR_ERROR_REFUSED, "not-target", "Unprotect it on this host first.",
                     "domain '%s' is protected by host '%s' itself", row->name, app->config->name);
        return FALSE;
    }
    if (row->state == VR_PROTECTION_INITIAL || row->state == VR_PROTECTION_PROTECTED ||
        row->state == VR_PROTECTION_PAUSED)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, slug, "Fail back first.",
                 "domain '%s' runs on host '%s' from this replica", row->name, app->config->name);
    return FALSE;
}

/* A source that ended replication and begins again makes a generation of its own, which has nothing
 * to do with the one of before. That is allowed for a kept replica only. */
static gboolean
generation_fits(const VrProtection *row, const Put *put, GError **error)
{
    g_autoptr(VrGeneration) theirs = vr_generation_from_line(put->generation, error);
    g_autoptr(VrGeneration) mine = theirs ? vr_generation_from_line(row->generation, error) : NULL;
    VrGenerationRelation relation;

    if (mine == NULL)
        return FALSE;
    relation = vr_generation_compare(theirs, mine);
    if (relation == VR_GENERATION_SAME ||
        (relation == VR_GENERATION_UNRELATED && row->kept_until_us != 0))
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
    if (!is_replica(app, row, "failed-over", error) || !generation_fits(row, put, error))
        return FALSE;
    if (row->kept_until_us == 0 || strcmp(row->store, put->store) == 0)
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
    replace(&row->generation, put->generation);
    return vr_state_protection_set_generation(app->state, row->uuid, row->generation, error) &&
           vr_state_protection_set_kept_until(app->state, row->uuid, 0, error) &&
           vr_app_set_state(app, row->uuid, VR_EVENT_RESUMED, NULL, error) &&
           vr_ownership_fence(app, row, error);
}

static gboolean
update(VrApp *app, const char *peer, VrProtection *row, const Put *put, GError **error)
{
    if (!may_change(app, peer, row, put, error) || !take_policy_before(app, row, put, error))
        return FALSE;
    take_settings(row, put);
    return vr_state_protection_set_settings(app->state, row, error) &&
           (row->kept_until_us == 0 || revive(app, row, put, error));
}

/* NULL without error if there is none. */
static gboolean
find_row(VrApp *app, const char *uuid, VrProtection **ret_row, GError **error)
{
    g_autoptr(GError) local = NULL;

    *ret_row = vr_state_protection_get(app->state, uuid, &local);
    if (*ret_row != NULL || g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* In the transaction that writes: the row as it is now decides. @checked: it may be made. */
static gboolean
write_put(VrApp *app, const char *peer, const char *uuid, const Put *put, gboolean checked,
          GError **error)
{
    g_autoptr(VrProtection) row = NULL;

    if (!vr_state_begin(app->state, error))
        return FALSE;
    if (find_row(app, uuid, &row, error) && row == NULL && !checked)
        vr_set_error(error, VR_ERROR_CONFLICT, "protection-changed", "Try again.",
                     "domain '%s': its replica was removed meanwhile", put->model->name);
    else if (row != NULL ? update(app, peer, row, put, error)
                         : checked && insert(app, peer, uuid, put, error))
        return vr_state_commit(app->state, error);
    vr_state_rollback(app->state);
    return FALSE;
}

static gboolean
put_guarded(VrApp *app, const char *peer, const char *uuid, JsonNode *request, const Put *put,
            GError **error)
{
    g_autoptr(VrProtection) row = NULL;

    if (!find_row(app, uuid, &row, error))
        return FALSE;
    if (row == NULL &&
        (!place_is_free(app, uuid, put, error) || !passes_check(app, peer, request, error)))
        return FALSE;
    if (!write_put(app, peer, uuid, put, row == NULL, error))
        return FALSE;
    if (row != NULL)
        vr_replicas_refresh_index(app->replicas, uuid);
    return TRUE;
}

static JsonNode *
answer(JsonObject *object)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, object);
    return node;
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
    return ok ? answer(json_object_new()) : NULL;
}

/* Retention may have opened it anew, empty, as long as there was a row. */
static gboolean
remove_directories(VrApp *app, const VrProtection *row, GError **error)
{
    VrStoreRow *store = vr_state_store_get(app->state, row->store, error);
    g_autofree char *dir = store ? g_build_filename(store->path, row->uuid, NULL) : NULL;
    g_autofree char *manifests = vr_app_manifest_dir(app, row->uuid);

    vr_store_row_free(store);
    vr_replicas_close(app->replicas, row->uuid);
    return dir && vr_remove_tree(dir, error) && vr_remove_tree(manifests, error);
}

static gboolean
drop(VrApp *app, const VrProtection *row, GError **error)
{
    g_autofree char *manifests = vr_app_manifest_dir(app, row->uuid);

    return vr_replicas_destroy(app->replicas, row->uuid, error) &&
           vr_remove_tree(manifests, error) && vr_ownership_unfence(app, row->uuid, error) &&
           vr_state_protection_delete(app->state, row->uuid, error) &&
           remove_directories(app, row, error);
}

/* Until when the replica stays; 0: there is nothing to keep, or nobody wants it kept. */
static gboolean
keep_until(VrApp *app, const VrProtection *row, gboolean keep, gint64 *ret_until_us, GError **error)
{
    g_autoptr(GPtrArray) points = vr_state_rp_list(app->state, row->uuid, error);
    g_autoptr(VrPeer) peer = points ? vr_state_peer_get(app->state, row->peer, error) : NULL;
    gint64 now_us = g_get_real_time();
    gint64 grace_us = peer ? peer->delete_grace_us : 0;

    if (peer == NULL)
        return FALSE;
    if (points->len == 0)
        *ret_until_us = 0;
    else if (keep || grace_us > KEEP_FOR_EVER - now_us)
        *ret_until_us = KEEP_FOR_EVER;
    else
        *ret_until_us = grace_us > 0 ? now_us + grace_us : 0;
    return TRUE;
}

static gboolean
write_kept(VrApp *app, const VrProtection *row, gint64 until_us, GError **error)
{
    if (!vr_state_begin(app->state, error))
        return FALSE;
    if (vr_state_protection_set_kept_until(app->state, row->uuid, until_us, error) &&
        (row->state == VR_PROTECTION_PAUSED ||
         vr_app_set_state(app, row->uuid, VR_EVENT_PAUSED, NULL, error)))
        return vr_state_commit(app->state, error);
    vr_state_rollback(app->state);
    return FALSE;
}

static gboolean
end_guarded(VrApp *app, const char *uuid, gboolean keep, gint64 *ret_until_us, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, error);
    gint64 until_us;

    if (row == NULL || !is_replica(app, row, "replica-in-use", error) ||
        !keep_until(app, row, keep, &until_us, error))
        return FALSE;
    /* Asked again: the time runs since it was asked first. */
    if (row->kept_until_us != 0 && !keep)
        until_us = row->kept_until_us;
    *ret_until_us = until_us;
    if (until_us == 0)
        return drop(app, row, error);
    if (!write_kept(app, row, until_us, error))
        return FALSE;
    vr_replicas_close(app->replicas, uuid);
    vr_replicas_refresh_index(app->replicas, uuid);
    g_message("domain '%s': its source ended replication; the replica is kept", row->name);
    return TRUE;
}

JsonNode *
vr_peer_replica_end(VrApp *app, const char *uuid, gboolean keep, GError **error)
{
    JsonObject *object;
    gint64 until_us = 0;
    gboolean ok;

    /* Never under an activation, which may be about to own these layers. */
    if (!vr_guard_take(app->guards, uuid, "the end of replication", 0, NULL, error))
        return NULL;
    ok = end_guarded(app, uuid, keep, &until_us, error);
    vr_guard_release(app->guards, uuid);
    if (!ok)
        return NULL;
    object = json_object_new();
    json_object_set_int_member(object, "kept_until_us", until_us);
    return answer(object);
}

/* @due_us: only if it is kept and its time was over then; 0: in any case. */
static gboolean
drop_guarded(VrApp *app, const char *uuid, gint64 due_us, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, error);

    if (row == NULL)
        return FALSE;
    if (due_us != 0 && (row->kept_until_us == 0 || row->kept_until_us > due_us))
        return TRUE;
    if (!is_replica(app, row, "replica-in-use", error) || !drop(app, row, error))
        return FALSE;
    g_message("domain '%s': its replica was removed", row->name);
    return TRUE;
}

static gboolean
take_and_drop(VrApp *app, const char *uuid, gint64 due_us, GError **error)
{
    gboolean ok;

    if (!vr_guard_take(app->guards, uuid, "removal of the replica", 0, NULL, error))
        return FALSE;
    ok = drop_guarded(app, uuid, due_us, error);
    vr_guard_release(app->guards, uuid);
    return ok;
}

gboolean
vr_peer_replica_drop(VrApp *app, const char *uuid, GError **error)
{
    return take_and_drop(app, uuid, 0, error);
}

void
vr_peer_replica_drop_due(VrApp *app, gint64 now_us)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, NULL);

    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);
        g_autoptr(GError) error = NULL;

        if (row->role != VR_ROLE_TARGET || row->kept_until_us == 0 || row->kept_until_us > now_us)
            continue;
        if (!take_and_drop(app, row->uuid, now_us, &error))
            g_warning("domain '%s': its replica, kept until now, cannot be removed: %s", row->name,
                      error->message);
    }
}
