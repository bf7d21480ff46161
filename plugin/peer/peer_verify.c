/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_verify.h"

#include <string.h>

#include "plugin/log.h"
#include "policies/error.h"
#include "policies/units.h"
#include "storage/util/json_util.h"
#include "storage/replica/replica_verify.h"
#include "storage/state/source_policy.h"

#define END_SECONDS 10.0

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
is_verify(const VrJobRow *job, const char *uuid)
{
    return strcmp(job->kind, "verify") == 0 && g_strcmp0(job->uuid, uuid) == 0;
}

/* Who ordered it may end it; an operator of this host is not the peer. */
static gboolean
is_of_peer(const VrJobRow *job)
{
    return job->origin != NULL && g_strcmp0(job->origin, vr_log_peer()) == 0;
}

/* It reads that recovery point, and no less of it. */
static gboolean
reads_as_much(const VrJobRow *job, JsonObject *args)
{
    g_autoptr(JsonNode) node = job->args ? json_from_string(job->args, NULL) : NULL;
    JsonObject *theirs = vr_json_as_object(node);

    return theirs != NULL &&
           json_object_get_int_member_with_default(theirs, "number", 0) ==
               json_object_get_int_member_with_default(args, "number", 0) &&
           (!json_object_has_member(theirs, "good_since_us") ||
            json_object_has_member(args, "good_since_us"));
}

/* The verify under way if that is what is wanted, else 0; another one of that peer is ended. */
static gint64
find_running(VrApp *app, const VrProtection *row, JsonObject *args)
{
    gint64 running = vr_jobs_find(app->jobs, row->uuid, "verify");
    g_autoptr(VrJobRow) job = running > 0 ? vr_state_job_get(app->state, running, NULL) : NULL;

    if (job == NULL)
        return 0;
    if (reads_as_much(job, args))
        return running;
    if (is_of_peer(job) && vr_jobs_cancel(app->jobs, running, NULL))
        vr_jobs_wait(app->jobs, running, END_SECONDS);
    return 0;
}

/* @args: (transfer full). 0 with @error. */
static gint64
start(VrApp *app, const VrProtection *row, JsonObject *args, GError **error)
{
    gint64 running = find_running(app, row, args);
    gint64 id = 0;

    if (running > 0) {
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
    return vr_json_node(object);
}

JsonNode *
vr_peer_verify_cancel(VrApp *app, const char *uuid, JsonNode *request, GError **error)
{
    JsonObject *asked = vr_json_object(request, "verify-cancel", error);
    g_autoptr(VrJobRow) job = NULL;
    guint64 id;

    if (asked == NULL || !vr_json_uint(asked, "job", G_MAXINT64, &id, error))
        return NULL;
    job = vr_state_job_get(app->state, (gint64) id, NULL);
    if (job != NULL && is_verify(job, uuid) && is_of_peer(job))
        (void) vr_jobs_cancel(app->jobs, job->id, NULL);
    return vr_json_node(json_object_new());
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

VrRecoveryPoint *
vr_peer_head(const VrApp *app, const VrProtection *row, VrReplica *replica, GError **error)
{
    g_autoptr(GError) local = NULL;
    VrRecoveryPoint *head = vr_replica_head(replica, &local);

    if (local != NULL)
        g_propagate_error(error, g_steal_pointer(&local));
    else if (head == NULL)
        vr_set_error(error, VR_ERROR_REFUSED, "no-recovery-point", "Run sync first.",
                     "domain '%s' has no recovery point on host '%s'", row->name,
                     app->config->name);
    return head;
}

/* A job that holds the replica would be met when the guest is off. */
static gboolean
may_be_activated(VrApp *app, const VrProtection *row, GError **error)
{
    return vr_jobs_check_free(app->jobs, vr_jobs_find(app->jobs, row->uuid, "failover"), "activate",
                              row->uuid, row->name, error);
}

static JsonNode *
prove_head(VrApp *app, const VrProtection *row, VrReplica *replica, gboolean verify, GError **error)
{
    g_autoptr(VrRecoveryPoint) head = vr_peer_head(app, row, replica, error);
    g_autofree char *verified = NULL;
    g_autoptr(JsonNode) node = NULL;
    JsonObject *object = json_object_new();
    gint64 since_us = g_get_real_time() - vr_source_policy_verify_us(row);

    node = vr_json_node(object);
    if (head == NULL || !may_be_activated(app, row, error) ||
        !vr_replica_check_chain(replica, head->number, error) ||
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
    VrReplica *replica;
    gboolean verify;
    JsonNode *node;

    if (row == NULL || !vr_json_bool_opt(asked, "verify", TRUE, &verify, error))
        return NULL;
    replica = vr_replicas_get(app->replicas, uuid, error);
    if (replica == NULL)
        return NULL;
    node = prove_head(app, row, replica, verify, error);
    vr_replicas_put(app->replicas, replica);
    if (node == NULL)
        g_prefix_error(error, "domain '%s', replica on host '%s': ", row->name, app->config->name);
    return node;
}
