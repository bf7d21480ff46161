/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_ops.h"

#include <string.h>

#include "plugin/check.h"
#include "plugin/ownership_compare.h"
#include "plugin/peer/peer_replica.h"
#include "plugin/peer/peer_room.h"
#include "plugin/peer/peer_verify.h"
#include "plugin/target/activation.h"
#include "plugin/target/boot.h"
#include "plugin/target_domain.h"
#include "policies/error.h"
#include "policies/generation.h"
#include "policies/ids.h"
#include "storage/state/state_transfer.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"

static JsonNode *
check(gpointer data, const char *peer, JsonNode *request, GError **error)
{
    return vr_check_target(data, peer, request, error);
}

static JsonNode *
protection_put(gpointer data, const char *peer, const char *uuid, JsonNode *request, GError **error)
{
    return vr_peer_replica_put(data, peer, uuid, request, error);
}

static JsonNode *
protection_delete(gpointer data, const char *peer G_GNUC_UNUSED, const char *uuid,
                  gboolean keep_replica, GError **error)
{
    return vr_peer_replica_end(data, uuid, keep_replica, error);
}

/* Would the newest RP start here as it is? */
static JsonNode *
finalize(VrApp *app, const char *peer, const char *uuid, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, error);
    VrReplica *replica = row ? vr_replicas_get(app->replicas, uuid, error) : NULL;
    g_autoptr(VrRecoveryPoint) head = replica ? vr_peer_head(app, row, replica, error) : NULL;
    g_autoptr(JsonNode) sent = row && row->networks ? json_from_string(row->networks, NULL) : NULL;
    g_autofree char *xml = head ? vr_replica_domain_xml(replica, head->number, error) : NULL;
    g_autoptr(VrDomainModel) model = xml ? vr_domain_model_parse(xml, strlen(xml), error) : NULL;
    g_autoptr(VrTargetNetworks) networks =
        model ? vr_target_networks(app, peer, sent ? json_node_get_array(sent) : NULL, error)
              : NULL;
    g_autoptr(VrFindings) findings = vr_findings_new();
    gboolean ok = networks != NULL &&
                  vr_target_check_domain(app, model, networks, findings, error) &&
                  vr_target_check_taken(app, uuid, row->name, findings, error) &&
                  vr_check_passed(findings, row->name, error);

    if (replica != NULL)
        vr_replicas_put(app->replicas, replica);
    return ok ? vr_json_node(json_object_new()) : NULL;
}

/* A message of the peer alone never stops a guest of this host. */
static gboolean
consents(VrApp *app, const VrProtection *row, GError **error)
{
    g_autoptr(VrPolicy) policy = vr_policy_files_in_force(app->policies, row->policy, error);
    g_autofree char *domain = vr_shell_word(row->name);
    g_autofree char *action = NULL;

    if (policy == NULL || policy->allow_remote_failover)
        return policy != NULL;
    action = g_strdup_printf("On host '%s': virt-replica failover %s --planned; or set "
                             "allow-remote-failover=yes in the domain's policy there.",
                             app->config->name, domain);
    vr_set_error(error, VR_ERROR_REFUSED, "remote-failover-not-allowed", action,
                 "domain '%s': its policy '%s' on host '%s' does not allow a planned failover "
                 "that another host orders",
                 row->name, row->policy, app->config->name);
    return FALSE;
}

static JsonNode *
planned_failover(VrApp *app, const char *uuid, JsonNode *request, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, error);
    JsonObject *asked = vr_json_as_object(request);
    JsonObject *args;
    JsonObject *reply;
    gboolean force, no_verify;
    gint64 id;

    if (row == NULL)
        return NULL;
    if (row->role != VR_ROLE_SOURCE) {
        vr_set_error(error, VR_ERROR_REFUSED, "not-source", NULL,
                     "domain '%s': host '%s' is not its source", row->name, app->config->name);
        return NULL;
    }
    if (!consents(app, row, error))
        return NULL;
    if (!vr_json_bool_opt(asked, "force", FALSE, &force, error) ||
        !vr_json_bool_opt(asked, "no_verify", FALSE, &no_verify, error))
        return NULL;
    args = json_object_new();
    json_object_set_boolean_member(args, "force", force);
    json_object_set_boolean_member(args, "no_verify", no_verify);
    if (!vr_jobs_start(app->jobs, "failover", uuid, row->name, args, &id, error))
        return NULL;
    reply = json_object_new();
    json_object_set_int_member(reply, "job", id);
    return vr_json_node(reply);
}

/* Not one that an operator has ended by force under a failover: the domain may be started here. */
static JsonNode *
known(VrApp *app, const char *uuid, GError **error)
{
    g_autoptr(VrTransfer) transfer = NULL;

    if (!vr_state_transfer_get(app->state, uuid, &transfer, error))
        return NULL;
    if (transfer == NULL || transfer->phase != VR_TRANSFER_GIVEN_UP)
        return vr_json_node(json_object_new());
    vr_set_error(error, VR_ERROR_NOT_FOUND, "given-up", "Wait until it has ended.",
                 "host '%s': the protection of domain %s is being ended by force",
                 app->config->name, uuid);
    return NULL;
}

static JsonNode *
action(gpointer data, const char *peer, const char *uuid, const char *name, JsonNode *request,
       GError **error)
{
    VrApp *app = data;

    if (strcmp(name, "known") == 0)
        return known(app, uuid, error);
    if (strcmp(name, "compare") == 0)
        return vr_ownership_answer(app, uuid, request, error);
    if (strcmp(name, "finalize") == 0)
        return finalize(app, peer, uuid, error);
    if (strcmp(name, "activate") == 0)
        return vr_activate(app, uuid, request, error);
    if (strcmp(name, "deactivate") == 0)
        return vr_deactivate(app, uuid, request, error);
    if (strcmp(name, "verify") == 0)
        return vr_peer_verify(app, uuid, request, error);
    if (strcmp(name, "verify-cancel") == 0)
        return vr_peer_verify_cancel(app, uuid, request, error);
    if (strcmp(name, "prove") == 0)
        return vr_peer_prove(app, uuid, request, error);
    if (strcmp(name, "planned-failover") == 0)
        return planned_failover(app, uuid, request, error);
    vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-action", "Use the same version on both hosts.",
                 "this version knows no action '%s'", name);
    return NULL;
}

/* Only jobs of protections shared with that peer, and of these those that it ordered, or joined: a
 * verify. */
static JsonNode *
job(gpointer data, const char *peer, gint64 id, GError **error)
{
    VrApp *app = data;
    g_autoptr(VrJobRow) row = vr_state_job_get(app->state, id, error);
    g_autoptr(VrProtection) protection =
        row && row->uuid ? vr_state_protection_get(app->state, row->uuid, NULL) : NULL;

    if (row == NULL)
        return NULL;
    if (protection == NULL || strcmp(protection->peer, peer) != 0 ||
        (g_strcmp0(row->origin, peer) != 0 && strcmp(row->kind, "verify") != 0)) {
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
    if (generation != NULL && !vr_peer_replica_check_going(app, row, error))
        return NULL;
    if (generation != NULL && row->state == VR_PROTECTION_FAILED_OVER) {
        vr_set_error(error, VR_ERROR_REFUSED, "failed-over", NULL,
                     "domain '%s' was failed over to host '%s'", row->name, app->config->name);
        return NULL;
    }
    return vr_replicas_get(app->replicas, uuid, error);
}

/* No commit asks for retention now: what is due to go must go without one. FALSE: not yet. */
static gboolean
make_room(VrApp *app, const char *uuid)
{
    vr_replicas_retain(app->replicas, uuid);
    return FALSE;
}

guint64
vr_peer_ops_room(gpointer data, const VrProtection *row)
{
    const VrApp *app = data;
    VrStoreRow *store = vr_state_store_get(app->state, row->store, NULL);
    g_autofree char *dir = store ? g_build_filename(store->path, row->uuid, NULL) : NULL;
    g_autofree char *manifests = vr_app_manifest_dir(app, row->uuid);

    vr_store_row_free(store);
    return dir ? vr_peer_room_held(dir, manifests) : 0;
}

static gboolean
cycle_begins(gpointer data, const char *uuid, const char *peer, const VrCycleBegin *begin,
             guint64 bytes, GError **error)
{
    VrApp *app = data;

    return vr_replicas_check_behind(app->replicas, uuid, app->config->name,
                                    begin->kind == VR_CYCLE_FINAL, error) &&
           (vr_peer_quota_prepare(app->quota, peer, uuid, begin->disks->len, bytes, error) ||
            make_room(app, uuid));
}

static gboolean
reserve(gpointer data, const char *uuid, const char *peer, guint64 bytes, GError **error)
{
    VrApp *app = data;

    return vr_peer_quota_reserve(app->quota, peer, bytes, error) || make_room(app, uuid);
}

static void
release(gpointer data, const char *peer, guint64 bytes)
{
    VrApp *app = data;

    vr_peer_quota_release(app->quota, peer, bytes);
}

static void
charge(gpointer data, const char *uuid, const char *peer, const char *cycle, guint64 bytes)
{
    VrApp *app = data;

    vr_peer_quota_charge(app->quota, peer, uuid, cycle, bytes);
}

static gboolean
cycle_begun(gpointer data, const char *uuid, const char *peer, const char *cycle, guint64 held,
            GError **error)
{
    VrApp *app = data;

    return vr_peer_quota_begin(app->quota, peer, uuid, cycle, held, error) || make_room(app, uuid);
}

static gboolean
cycle_grows(gpointer data, const char *uuid, const char *peer, const char *cycle, guint64 bytes,
            GError **error)
{
    VrApp *app = data;

    return vr_peer_quota_take(app->quota, peer, uuid, cycle, bytes, error) || make_room(app, uuid);
}

static void
replica_done(gpointer data, VrReplica *done)
{
    VrApp *app = data;

    vr_replicas_put(app->replicas, done);
}

static char **
attachment_names(const VrCycleCommit *commit)
{
    char **names = g_new0(char *, commit->attachments->len + 1);

    for (guint i = 0; i < commit->attachments->len; i++)
        names[i] = g_strdup(((const VrAttachment *) commit->attachments->pdata[i])->name);
    return names;
}

/* The definition becomes part of an RP and is what a failover is made from: it is judged like the
 * one that the protection was made with. A libvirt that cannot be asked now does not keep data from
 * being safe. */
static gboolean
may_commit(gpointer data, const char *uuid, VrReplica *commit_to, const VrCycleCommit *commit,
           GError **error)
{
    VrApp *app = data;
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, error);
    g_auto(GStrv) own_disks = NULL;
    g_auto(GStrv) own_attachments = attachment_names(commit);
    const char *const *disks;
    const char *const *attachments = (const char *const *) own_attachments;
    g_autoptr(GError) local = NULL;

    /* What is not open now may be when it is committed, and nobody would have judged it. */
    if (row == NULL || !vr_replica_cycle_disks(commit_to, commit->cycle, &own_disks, error))
        return FALSE;
    disks = (const char *const *) own_disks;
    if (disks == NULL ||
        vr_checked_definitions_has(app->checked, uuid, commit->domain_xml, disks, attachments))
        return TRUE;
    if (vr_boot_check_definition(app, row, commit->domain_xml, disks, attachments, &local)) {
        vr_checked_definitions_put(app->checked, uuid, commit->domain_xml, disks, attachments);
        return TRUE;
    }
    if (vr_error_is_transient(local))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static void
cycle_committed(gpointer data, const char *uuid, const VrRecoveryPoint *rp)
{
    VrApp *app = data;
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, NULL);

    if (row != NULL)
        vr_peer_quota_end(app->quota, row->peer, uuid, rp->cycle);
    if (row != NULL && row->state == VR_PROTECTION_INITIAL)
        (void) vr_app_set_state(app, uuid, VR_EVENT_INITIAL_DONE, NULL, NULL);
    vr_replicas_retain(app->replicas, uuid);
}

static void
cycle_ended(gpointer data, const char *uuid, const char *peer, const char *cycle)
{
    const VrApp *app = data;

    vr_peer_quota_end(app->quota, peer, uuid, cycle);
}

const VrPeerServerOps vr_peer_ops = {
    .check = check,
    .protection_put = protection_put,
    .protection_delete = protection_delete,
    .action = action,
    .job = job,
    .replica = replica,
    .cycle_begins = cycle_begins,
    .reserve = reserve,
    .release = release,
    .charge = charge,
    .cycle_begun = cycle_begun,
    .cycle_grows = cycle_grows,
    .replica_done = replica_done,
    .may_commit = may_commit,
    .cycle_committed = cycle_committed,
    .cycle_ended = cycle_ended,
};
