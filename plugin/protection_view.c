/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/protection_view.h"

#include <string.h>

#include "plugin/ownership_watch.h"
#include "plugin/peer/peer_word.h"
#include "policies/error.h"
#include "policies/generation.h"
#include "policies/health.h"
#include "policies/units.h"
#include "storage/wire/error_json.h"
#include "storage/state/source_policy.h"
#include "storage/state/state_rp.h"
#include "storage/util/json_util.h"

/* Since when a reason is seen to hold, in this run of the daemon: "uuid code" -> wall time. */
static GMutex since_lock;
static GHashTable *since;

/* The newest RP: what the source recorded, or what the store holds. */
typedef struct {
    guint64 number;
    gint64 time_us;
    VrConsistency consistency;
    char *root;         /* owned */
    gint64 verified_us; /* 0: not known */
    char *damaged_disk; /* owned, nullable */
    guint64 damaged_chunks;
    guint damaged_older; /* RPs */
    GError *error;       /* owned, nullable: the replica cannot be used */
} Newest;

static void
newest_clear(Newest *self)
{
    g_free(self->root);
    g_free(self->damaged_disk);
    g_clear_error(&self->error);
}

/* What the target said last. */
static void
damage_heard(VrApp *app, const VrProtection *row, Newest *newest)
{
    g_autoptr(VrReplicaDamage) damage = vr_state_damage_get(app->state, row->uuid, NULL);

    if (damage == NULL)
        return;
    newest->damaged_disk = g_steal_pointer(&damage->disk);
    newest->damaged_chunks = damage->chunks;
}

/* NULL with newest->error if it cannot be used, without if it is just being closed. */
static GPtrArray *
stored_points(VrApp *app, const VrProtection *row, Newest *newest)
{
    VrReplica *replica = vr_replicas_get(app->replicas, row->uuid, &newest->error);
    GPtrArray *points = replica ? vr_replica_list(replica, &newest->error) : NULL;

    if (points != NULL)
        (void) vr_replica_check_there(replica, &newest->error);
    if (replica != NULL)
        vr_replicas_put(app->replicas, replica);
    if (g_error_matches(newest->error, VR_ERROR, VR_ERROR_CONFLICT))
        g_clear_error(&newest->error);
    return points;
}

static void
newest_of(VrApp *app, const VrProtection *row, Newest *newest)
{
    g_autoptr(GPtrArray) points = NULL;
    const VrRecoveryPoint *head;
    GError *error;

    *newest = (Newest){row->base_number, row->base_time_us, row->base_consistency, NULL};
    newest->root = g_strdup(row->base_root);
    if (row->role == VR_ROLE_SOURCE) {
        damage_heard(app, row, newest);
        return;
    }
    points = stored_points(app, row, newest);
    if (points == NULL || points->len == 0)
        return;
    head = g_ptr_array_index(points, points->len - 1);
    error = g_steal_pointer(&newest->error);
    newest_clear(newest);
    *newest = (Newest){
        .error = error,
        .number = head->number,
        .time_us = head->time_us,
        .consistency = head->consistency,
        .root = g_strdup(head->root),
        .verified_us = head->verified_us,
        .damaged_disk = g_strdup(head->damaged_disk),
        .damaged_chunks = head->damaged_chunks,
    };
    for (guint i = 0; i + 1 < points->len; i++)
        newest->damaged_older += ((VrRecoveryPoint *) points->pdata[i])->damaged_disk != NULL;
}

static VrPolicy *
policy_of(VrApp *app, const VrProtection *row)
{
    VrPolicy *policy = row->role == VR_ROLE_SOURCE
                           ? vr_policy_files_in_force(app->policies, row->policy, NULL)
                           : vr_source_policy(row, NULL);

    return policy ? policy : vr_policy_default();
}

/* What health borrows of this host, of the other one, and of the job at work. */
typedef struct {
    char *libvirt_away, *peer_silent; /* owned */
    gint64 libvirt_since_us, peer_since_us;
    VrJobWait wait;
    GError *past_failure;   /* owned */
    GError *policy_problem; /* owned */
    GError *failover;       /* owned, like the next of the last failover if that failed */
    gint64 failover_job, failover_us;
    gint store_percent;
    gboolean idle;
} Surroundings;

static void
surroundings_clear(Surroundings *self)
{
    g_clear_pointer(&self->libvirt_away, g_free);
    g_clear_pointer(&self->peer_silent, g_free);
    vr_job_wait_clear(&self->wait);
    g_clear_error(&self->past_failure);
    g_clear_error(&self->failover);
    g_clear_error(&self->policy_problem);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Surroundings, surroundings_clear)

static void
look_at_failover(VrApp *app, const VrProtection *row, Surroundings *around)
{
    g_autoptr(VrJobRow) job = vr_state_job_last(app->state, row->uuid, "failover", "activate");

    if (job == NULL || job->state != VR_JOB_FAILED || job->error == NULL ||
        g_get_real_time() - job->ended_us > G_TIME_SPAN_DAY)
        return;
    around->failover = vr_error_from_json_text(job->error);
    around->failover_job = job->id;
    around->failover_us = job->ended_us;
}

static void
look_around(VrApp *app, const VrProtection *row, const VrScheduleInfo *schedule,
            Surroundings *ret_around)
{
    gboolean is_target = row->role == VR_ROLE_TARGET;
    VrPeerWord word = {.store_percent = VR_HEALTH_UNKNOWN};

    *ret_around = (Surroundings){NULL};
    ret_around->libvirt_away = vr_conn_why_away(app->conn, &ret_around->libvirt_since_us);
    ret_around->peer_silent =
        vr_peer_contact_why_silent(app->contact, row->peer, &ret_around->peer_since_us);
    (void) vr_peer_contact_get_word(app->contact, row->peer, row->uuid, &word);
    vr_jobs_get_wait(app->jobs, row->uuid, &ret_around->wait);
    look_at_failover(app, row, ret_around);
    if (!is_target)
        ret_around->policy_problem = vr_policy_files_problem(app->policies, row->policy);
    ret_around->past_failure = vr_scheduler_last_failure(app->scheduler, row->uuid);
    ret_around->store_percent =
        is_target ? vr_peer_word_store_percent(app, row) : word.store_percent;
    ret_around->idle = is_target ? word.idle : schedule->idle;
}

/* What health borrows of the fence and of the comparison with the other host. */
typedef struct {
    VrFenceStatus status;
    GPtrArray *notes; /* owned */
    char *message;    /* owned: of two owners */
    char *action;     /* owned */
} FenceView;

static void
fence_view_clear(FenceView *view)
{
    vr_fence_status_clear(&view->status);
    g_clear_pointer(&view->notes, g_ptr_array_unref);
    g_clear_pointer(&view->message, g_free);
    g_clear_pointer(&view->action, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FenceView, fence_view_clear)

static void
judge_fence(VrApp *app, const VrProtection *row, FenceView *view, VrHealthInput *input)
{
    vr_fence_status(app->fence, &view->status);
    input->fence = view->status.state;
    input->fence_message = view->status.message;
    input->fence_action = view->status.action;
    view->notes = vr_fence_notes(app->fence);
    for (guint i = 0; i < view->notes->len; i++) {
        const VrFenceNote *note = g_ptr_array_index(view->notes, i);

        if (strcmp(note->uuid, row->uuid) != 0)
            continue;
        input->record_message = note->message;
        input->record_action = note->action;
    }
    if (vr_ownership_watch_get(app->ownership, row->uuid, &view->message, &view->action)) {
        input->two_owners = view->message;
        input->two_owners_action = view->action;
    }
}

static GPtrArray *
reasons_of(VrApp *app, const VrProtection *row, const VrPolicy *policy, const char *peer,
           const Newest *newest, const VrScheduleInfo *schedule, const Surroundings *around,
           VrHealth *ret_health)
{
    g_autoptr(GError) last_error =
        row->last_error ? vr_error_from_json_text(row->last_error) : NULL;
    gint64 now = g_get_real_time();
    g_auto(FenceView) fence = {0};
    VrHealthInput input = {
        .domain = row->name,
        .peer = peer,
        .host = app->config->name,
        .store = row->store,
        .is_target = row->role == VR_ROLE_TARGET,
        .state = row->state,
        .rpo_target_us = policy->rpo_target_us,
        .rpo_us = newest->number ? MAX(now - newest->time_us, 0) : VR_HEALTH_UNKNOWN,
        .cycles_due_hour = schedule->due_hour,
        .cycles_missed_hour = schedule->missed_hour,
        .app_interval_us = row->role == VR_ROLE_SOURCE ? policy->app_consistent_us : 0,
        .app_age_us = schedule->app_age_us >= 0 ? schedule->app_age_us : VR_HEALTH_UNKNOWN,
        .protected_us = now - row->created_us,
        .last_error = last_error,
        .attempts = around->wait.attempts ? around->wait.attempts : schedule->attempts,
        .next_attempt_us =
            around->wait.next_attempt_us ? around->wait.next_attempt_us : schedule->next_due_us,
        .blocked = schedule->blocked,
        .past_failure = around->past_failure,
        .at_work = vr_jobs_running(app->jobs, row->uuid) != 0,
        .job_waits = around->wait.error,
        .job_kind = around->wait.kind,
        .policy_problem = around->policy_problem,
        .failover = around->failover,
        .failover_job = around->failover_job,
        .libvirt_away = around->libvirt_away,
        .peer_silent = around->peer_silent,
        .late_us = row->role == VR_ROLE_SOURCE ? vr_scheduler_late_us(app->scheduler) : 0,
        .resync_running = row->state == VR_PROTECTION_RESYNC,
        .store_percent = around->store_percent,
        .cert_days = (gint) ((vr_identity_expires_us(app->identity) - now) / G_TIME_SPAN_DAY),
        .idle_replicated = around->idle,
        .kept_until_us = row->kept_until_us,
        .replica_error = newest->error,
        .damaged_disk = newest->damaged_disk,
        .damaged_rp = newest->number,
        .damaged_chunks = newest->damaged_chunks,
        .damaged_older = newest->damaged_older,
    };
    GPtrArray *reasons = NULL;

    judge_fence(app, row, &fence, &input);
    *ret_health = vr_health_evaluate(&input, &reasons);
    return reasons;
}

/* Since when, where the reason's own data tell; 0 if they do not. */
static gint64
known_since(const VrProtection *row, const Newest *newest, const Surroundings *around,
            gint64 target_us, const char *code)
{
    if (vr_health_since_error(code))
        return row->last_error_us;
    if (strcmp(code, "rpo-over-target") == 0)
        return newest->time_us + target_us;
    if (strcmp(code, "rpo-far-over-target") == 0)
        return newest->time_us + 3 * target_us;
    if (strcmp(code, "failover-failed") == 0)
        return around->failover_us;
    if (strcmp(code, "libvirt-unreachable") == 0)
        return around->libvirt_since_us;
    if (strcmp(code, "peer-unreachable") == 0)
        return around->peer_since_us;
    return 0;
}

static gint64
holds_since(const char *uuid, const char *code)
{
    g_autofree char *key = g_strdup_printf("%s %s", uuid, code);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&since_lock);
    gint64 *when;

    if (since == NULL)
        since = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    when = g_hash_table_lookup(since, key);
    if (when == NULL) {
        when = g_new(gint64, 1);
        *when = g_get_real_time();
        g_hash_table_insert(since, g_steal_pointer(&key), when);
    }
    return *when;
}

/* Reasons that do not hold any more begin anew the next time. */
static void
forget_others(const char *uuid, GPtrArray *reasons)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&since_lock);
    GHashTableIter iter;
    gpointer key;

    if (since == NULL)
        return;
    g_hash_table_iter_init(&iter, since);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        gboolean holds = !g_str_has_prefix(key, uuid);

        for (guint i = 0; !holds && i < reasons->len; i++) {
            const VrHealthReason *reason = g_ptr_array_index(reasons, i);

            holds = strcmp((char *) key + strlen(uuid) + 1, reason->code) == 0;
        }
        if (!holds)
            g_hash_table_iter_remove(&iter);
    }
}

/* Of a reason behind which an error stands that something is tried again for. */
static void
set_attempts(JsonObject *object, const VrHealthReason *reason)
{
    g_autofree char *next = NULL;

    if (reason->cause != NULL)
        json_object_set_string_member(object, "cause", reason->cause);
    if (reason->attempts == 0)
        return;
    json_object_set_int_member(object, "attempts", reason->attempts);
    next = reason->next_attempt_us != 0 ? vr_time_format(reason->next_attempt_us) : NULL;
    if (next != NULL)
        json_object_set_string_member(object, "next_attempt", next);
    else
        json_object_set_null_member(object, "next_attempt");
}

static JsonArray *
reasons_json(const VrProtection *row, const Newest *newest, const Surroundings *around,
             gint64 target_us, GPtrArray *reasons)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < reasons->len; i++) {
        const VrHealthReason *reason = g_ptr_array_index(reasons, i);
        gint64 known = known_since(row, newest, around, target_us, reason->code);
        g_autofree char *when =
            vr_time_format(known ? known : holds_since(row->uuid, reason->code));
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "code", reason->code);
        json_object_set_string_member(object, "severity", vr_health_name(reason->severity));
        json_object_set_string_member(object, "message", reason->message);
        json_object_set_string_member(object, "since", when);
        json_object_set_string_member(object, "action", reason->action);
        set_attempts(object, reason);
        json_array_add_object_element(array, object);
    }
    return array;
}

/* @idle: the domain is shut off and nothing is newer than the replica. */
static void
set_newest(JsonObject *object, const Newest *newest, gboolean idle)
{
    g_autofree char *when = newest->number ? vr_time_format(newest->time_us) : NULL;
    JsonObject *rp;

    if (newest->number == 0) {
        json_object_set_null_member(object, "rpo_seconds");
        json_object_set_null_member(object, "last_rp");
        return;
    }
    json_object_set_double_member(
        object, "rpo_seconds",
        idle ? 0 : (double) MAX(g_get_real_time() - newest->time_us, 0) / G_USEC_PER_SEC);
    rp = json_object_new();
    json_object_set_int_member(rp, "number", (gint64) newest->number);
    json_object_set_string_member(rp, "time", when);
    json_object_set_string_member(rp, "consistency", vr_consistency_name(newest->consistency));
    json_object_set_string_member(rp, "root", newest->root);
    if (newest->verified_us != 0) {
        g_autofree char *verified = vr_time_format(newest->verified_us);

        json_object_set_string_member(rp, "verified", verified);
    } else {
        json_object_set_null_member(rp, "verified");
    }
    json_object_set_object_member(object, "last_rp", rp);
}

static void
set_schedule(VrApp *app, JsonObject *object, const VrProtection *row,
             const VrScheduleInfo *schedule)
{
    gint64 job = vr_jobs_running(app->jobs, row->uuid);

    if (schedule->next_due_us != 0) {
        g_autofree char *when = vr_time_format(schedule->next_due_us);

        json_object_set_string_member(object, "next_cycle", when);
    } else {
        json_object_set_null_member(object, "next_cycle");
    }
    if (job != 0)
        json_object_set_int_member(object, "job", job);
    else
        json_object_set_null_member(object, "job");
}

/* What the base tells of the last cycle when this daemon has run none yet. NULL: nothing. */
static JsonObject *
last_cycle_of_base(const VrProtection *row)
{
    static const char *const unknown[] = {"kind", "seconds", "bytes_read", "bytes_sent", "error"};
    g_autofree char *when = vr_time_format(row->base_time_us);
    JsonObject *object;

    if (row->role != VR_ROLE_SOURCE || row->base_number == 0 || row->last_error != NULL)
        return NULL;
    object = json_object_new();
    for (guint i = 0; i < G_N_ELEMENTS(unknown); i++)
        json_object_set_null_member(object, unknown[i]);
    json_object_set_string_member(object, "state", "completed");
    json_object_set_string_member(object, "started", when);
    json_object_set_double_member(object, "progress", 1);
    json_object_set_int_member(object, "rp", (gint64) row->base_number);
    return object;
}

static void
set_cycle(JsonObject *object, const char *key, JsonObject *cycle)
{
    if (cycle != NULL)
        json_object_set_object_member(object, key, cycle);
    else
        json_object_set_null_member(object, key);
}

static void
set_cycles(VrApp *app, JsonObject *object, const VrProtection *row)
{
    JsonObject *last = vr_cycle_log_last(app->cycles, row->uuid);

    set_cycle(object, "cycle", vr_cycle_log_current(app->cycles, row->uuid));
    set_cycle(object, "last_cycle", last != NULL ? last : last_cycle_of_base(row));
}

static void
set_identity(VrApp *app, JsonObject *object, const VrProtection *row, const char *peer)
{
    g_autoptr(VrGeneration) generation = vr_generation_from_line(row->generation, NULL);
    const char *own = vr_identity_fingerprint(app->identity);

    json_object_set_string_member(object, "name", row->name);
    json_object_set_string_member(object, "uuid", row->uuid);
    json_object_set_string_member(object, "role", vr_role_name(row->role));
    json_object_set_string_member(object, "state", vr_protection_state_name(row->state));
    json_object_set_string_member(object, "peer", peer);
    json_object_set_string_member(object, "store", row->store);
    json_object_set_string_member(object, "policy", row->policy);
    json_object_set_string_member(object, "generation",
                                  generation ? vr_generation_id(generation) : "");
    json_object_set_boolean_member(object, "owner",
                                   generation && strcmp(vr_generation_owner(generation), own) == 0);
}

/* Only for a replica whose source ended replication: a time, or null if it is kept without end. */
static void
set_kept_until(JsonObject *object, const VrProtection *row)
{
    g_autofree char *when = row->kept_until_us ? vr_time_format(row->kept_until_us) : NULL;

    if (row->kept_until_us == 0)
        return;
    json_object_set_boolean_member(object, "kept", TRUE);
    if (when != NULL)
        json_object_set_string_member(object, "kept_until", when);
    else
        json_object_set_null_member(object, "kept_until");
}

/* Of the last cycle, if that failed. */
static void
set_last_error(JsonObject *object, const VrProtection *row)
{
    g_autoptr(GError) error = vr_error_from_json_text(row->last_error);
    g_autofree char *when = error ? vr_time_format(row->last_error_us) : NULL;
    JsonObject *shown;

    if (error == NULL) {
        json_object_set_null_member(object, "last_error");
        return;
    }
    shown = vr_error_to_json_object(error);
    json_object_set_string_member(shown, "time", when);
    json_object_set_object_member(object, "last_error", shown);
}

JsonNode *
vr_protection_view(VrApp *app, const VrProtection *row)
{
    g_autoptr(VrPeer) peer = vr_state_peer_get(app->state, row->peer, NULL);
    const char *peer_name = peer ? peer->name : row->peer;
    g_autoptr(VrPolicy) policy = policy_of(app, row);
    g_autoptr(GPtrArray) reasons = NULL;
    JsonObject *object = json_object_new();
    g_auto(Surroundings) around = {NULL};
    VrScheduleInfo schedule;
    VrHealth health;
    Newest newest;

    vr_scheduler_info(app->scheduler, row->uuid, &schedule);
    look_around(app, row, &schedule, &around);
    newest_of(app, row, &newest);
    reasons = reasons_of(app, row, policy, peer_name, &newest, &schedule, &around, &health);
    set_identity(app, object, row, peer_name);
    json_object_set_string_member(object, "health", vr_health_name(health));
    json_object_set_array_member(
        object, "reasons", reasons_json(row, &newest, &around, policy->rpo_target_us, reasons));
    forget_others(row->uuid, reasons);
    set_kept_until(object, row);
    set_last_error(object, row);
    set_newest(object, &newest, around.idle);
    set_schedule(app, object, row, &schedule);
    set_cycles(app, object, row);
    newest_clear(&newest);
    return vr_json_node(object);
}

static GPtrArray *
list_points(VrApp *app, const VrProtection *row, GCancellable *cancel, GError **error)
{
    VrPeerClient *peer;
    VrReplica *replica;
    GPtrArray *points;

    if (row->role == VR_ROLE_SOURCE) {
        peer = vr_peer_pool_get(app->peers, row->peer, error);
        return peer ? vr_peer_client_rps(peer, row->uuid, cancel, error) : NULL;
    }
    replica = vr_replicas_get(app->replicas, row->uuid, error);
    if (replica == NULL)
        return NULL;
    points = vr_replica_list(replica, error);
    vr_replicas_put(app->replicas, replica);
    return points;
}

JsonNode *
vr_recovery_points_view(VrApp *app, const VrProtection *row, GCancellable *cancel, GError **error)
{
    g_autoptr(GPtrArray) points = list_points(app, row, cancel, error);
    JsonArray *array;
    JsonNode *node;

    if (points == NULL)
        return NULL;
    array = json_array_new();
    for (guint i = 0; i < points->len; i++)
        json_array_add_element(array, vr_recovery_point_to_json(g_ptr_array_index(points, i)));
    node = json_node_new(JSON_NODE_ARRAY);
    json_node_take_array(node, array);
    return node;
}
