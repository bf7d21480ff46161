/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/activation.h"

#include <string.h>

#include "plugin/target_domain.h"
#include "policies/error.h"
#include "policies/fault.h"
#include "policies/generation.h"
#include "qmp/domain_ops.h"
#include "qmp/domain_run.h"
#include "storage/error_json.h"
#include "storage/file_util.h"
#include "storage/json_util.h"
#include "storage/run_program.h"

/*
 * Host facts: "activation:<uuid>" = number of the RP that is being prepared, until the generation
 * advances; "starting:<uuid>" from then until the domain was seen running, "autostart" or "once";
 * "refused:<uuid>" = the id that must not be activated.
 */

#define HOLD_REASON "failed-over"
#define RUNNING_TIMEOUT_MS 60000

typedef struct {
    VrApp *app;
    VrProtection *row;        /* owned */
    VrReplica *replica;       /* from the cache, put back */
    VrGeneration *generation; /* owned; requested */
    const char *line;         /* borrowed */
    guint64 number;
    const char *root; /* borrowed */
    gboolean autostart;
    JsonArray *networks; /* borrowed, nullable */
    char *dir;           /* owned: where overlays and copies of attachments live */
} Activation;

static void
activation_clear(Activation *self)
{
    if (self->replica != NULL)
        vr_replicas_put(self->app->replicas, self->replica);
    g_clear_pointer(&self->row, vr_protection_free);
    g_clear_pointer(&self->generation, vr_generation_free);
    g_clear_pointer(&self->dir, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Activation, activation_clear)

static char *
fact_key(const char *what, const char *uuid)
{
    return g_strdup_printf("%s:%s", what, uuid);
}

/* STORE/<uuid>/active: beside the layers, so that an overlay's backing file is on the same file
 * system. */
static char *
active_dir(VrApp *app, const VrProtection *row, GError **error)
{
    VrStoreRow *store = vr_state_store_get(app->state, row->store, error);
    char *dir;

    if (store == NULL)
        return NULL;
    dir = g_build_filename(store->path, row->uuid, "active", NULL);
    vr_store_row_free(store);
    return dir;
}

/* Whoever was the source must never be started by a message of the new owner. */
static gboolean
is_target(VrApp *app, const VrProtection *row, GError **error)
{
    if (row->role == VR_ROLE_TARGET)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "not-target", NULL,
                 "domain '%s': host '%s' is its source, not its target", row->name,
                 app->config->name);
    return FALSE;
}

static gboolean
load(Activation *self, VrApp *app, const char *uuid, JsonNode *request, GError **error)
{
    JsonObject *object = vr_json_object(request, "activate", error);
    JsonNode *networks;

    self->app = app;
    self->line = object ? vr_json_string(object, "generation", 4096, error) : NULL;
    self->root = self->line ? vr_json_string(object, "root", 64, error) : NULL;
    if (self->root == NULL || !vr_json_uint(object, "number", G_MAXINT64, &self->number, error))
        return FALSE;
    self->autostart = json_object_get_boolean_member_with_default(object, "autostart", FALSE);
    networks = json_object_get_member(object, "networks");
    self->networks = vr_json_as_array(networks);
    self->generation = vr_generation_from_line(self->line, error);
    self->row = self->generation ? vr_state_protection_get(app->state, uuid, error) : NULL;
    if (self->row == NULL || !is_target(app, self->row, error))
        return FALSE;
    self->dir = active_dir(app, self->row, error);
    return self->dir != NULL;
}

/* Is the requested generation the child of ours? */
static gboolean
check_generation(Activation *self, GError **error)
{
    g_autofree char *key = fact_key("refused", self->row->uuid);
    g_autofree char *refused = vr_state_get(self->app->state, key, NULL);
    g_autoptr(VrGeneration) mine = vr_generation_from_line(self->row->generation, error);

    if (mine == NULL)
        return FALSE;
    if (g_strcmp0(refused, vr_generation_id(self->generation)) == 0) {
        vr_set_error(error, VR_ERROR_REFUSED, "activation-refused", "Start a new failover.",
                     "domain '%s': the source gave up this failover before", self->row->name);
        return FALSE;
    }
    if (vr_generation_compare(mine, self->generation) != VR_GENERATION_BEHIND ||
        strcmp(vr_generation_owner(self->generation),
               vr_identity_fingerprint(self->app->identity)) != 0) {
        vr_set_error(error, VR_ERROR_REFUSED, "generation-mismatch",
                     "Compare 'virt-replica info' on both hosts.",
                     "domain '%s': the generation to activate does not follow the one of this host",
                     self->row->name);
        return FALSE;
    }
    return TRUE;
}

static gboolean
check_head(Activation *self, GError **error)
{
    g_autoptr(VrRecoveryPoint) head = NULL;

    self->replica = vr_replicas_get(self->app->replicas, self->row->uuid, error);
    head = self->replica ? vr_replica_head(self->replica, error) : NULL;
    if (self->replica == NULL || (head == NULL && error != NULL && *error != NULL))
        return FALSE;
    if (head != NULL && head->number == self->number && strcmp(head->root, self->root) == 0)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "root-differs", "Start the failover again.",
                 "domain '%s': the newest recovery point here is not number %" G_GUINT64_FORMAT
                 " with the root of the source",
                 self->row->name, self->number);
    return FALSE;
}

static gboolean
release(VrApp *app, const char *uuid, const char *number, GError **error)
{
    VrReplica *replica = vr_replicas_get(app->replicas, uuid, error);
    gboolean ok;

    if (replica == NULL)
        return FALSE;
    ok = vr_replica_release(replica, g_ascii_strtoull(number, NULL, 10), HOLD_REASON, error);
    vr_replicas_put(app->replicas, replica);
    return ok;
}

/* Nothing of a replica that was being started is left: domain, overlays, the hold of their layers;
 * the fence stands again. Repeatable. */
static gboolean
take_back(VrApp *app, const VrProtection *row, const char *dir, GError **error)
{
    g_autofree char *key = fact_key("activation", row->uuid);
    g_autofree char *number = vr_state_get(app->state, key, NULL);
    g_autoptr(VrPeer) peer = vr_state_peer_get(app->state, row->peer, NULL);
    g_autoptr(VrGeneration) generation = vr_generation_from_line(row->generation, error);

    return generation != NULL &&
           vr_fence_put(app->fence, row->uuid, VR_FENCE_RECORD_REPLICA,
                        peer ? peer->name : row->peer, vr_generation_id(generation), error) &&
           vr_dom_destroy(app->conn, row->uuid, error) &&
           vr_dom_undefine(app->conn, row->uuid, TRUE, error) && vr_remove_tree(dir, error) &&
           (number == NULL || release(app, row->uuid, number, error)) &&
           vr_state_set(app->state, key, NULL, error);
}

static gboolean
copy_attachment(Activation *self, const char *name, GHashTable *paths, GError **error)
{
    g_autofree char *from = vr_replica_attachment(self->replica, self->number, name);
    g_autofree char *to = g_build_filename(self->dir, name, NULL);
    const char *argv[] = {"cp", "--reflink=auto", "--", from, to, NULL};

    if (from == NULL)
        return TRUE;
    if (!vr_run_program(argv, NULL, NULL, error))
        return FALSE;
    g_hash_table_insert(paths, g_strdup(name), g_steal_pointer(&to));
    return TRUE;
}

static gboolean
make_files(Activation *self, GHashTable *disks, GHashTable *attachments, GError **error)
{
    static const char *const names[] = {"nvram", "kernel", "initrd", "dtb"};
    g_autoptr(GPtrArray) layers = NULL;

    if (!vr_replica_hold(self->replica, self->number, HOLD_REASON, error) ||
        !vr_make_dir(self->dir, 0711, error))
        return FALSE;
    layers = vr_replica_disks(self->replica, self->number, error);
    if (layers == NULL)
        return FALSE;
    for (guint i = 0; i < layers->len; i++) {
        const VrReplicaDisk *layer = g_ptr_array_index(layers, i);
        char *path = g_strdup_printf("%s/%s.qcow2", self->dir, layer->name);

        g_hash_table_insert(disks, g_strdup(layer->name), path);
        if (!vr_replica_make_overlay(self->replica, self->number, layer->name, path, error))
            return FALSE;
    }
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!copy_attachment(self, names[i], attachments, error))
            return FALSE;
    }
    return vr_fsync_dir(self->dir, error);
}

static gboolean
define(Activation *self, GError **error)
{
    g_autoptr(GHashTable) disks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr(GHashTable) attachments =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autofree char *source = NULL;
    g_autofree char *xml = NULL;
    g_autoptr(VrDomainModel) model = NULL;
    g_autoptr(GHashTable) networks = NULL;
    VrTargetFiles files = {disks, attachments, vr_generation_id(self->generation)};

    if (!make_files(self, disks, attachments, error))
        return FALSE;
    source = vr_replica_domain_xml(self->replica, self->number, error);
    model = source ? vr_domain_model_parse(source, strlen(source), error) : NULL;
    networks = model ? vr_target_networks(self->app, self->row->peer, self->networks, error) : NULL;
    xml = networks ? vr_target_domain_xml(self->app, model, networks, &files, NULL, error) : NULL;
    return xml != NULL && vr_dom_define(self->app->conn, xml, NULL, error);
}

/* The commit point of ownership (F4). */
static gboolean
advance(Activation *self, GError **error)
{
    g_autofree char *key = fact_key("activation", self->row->uuid);
    g_autofree char *starting = fact_key("starting", self->row->uuid);
    g_autoptr(VrProtection) row = NULL;
    VrApp *app = self->app;

    if (!vr_state_begin(app->state, error))
        return FALSE;
    row = vr_state_protection_get(app->state, self->row->uuid, error);
    if (row != NULL && vr_app_set_state(app, row->uuid, VR_EVENT_FAILOVER_STARTED, row, error) &&
        vr_app_set_state(app, row->uuid, VR_EVENT_FAILOVER_DONE, row, error)) {
        if (vr_state_protection_set_generation(app->state, row->uuid, self->line, error) &&
            vr_state_set(app->state, key, NULL, error) &&
            vr_state_set(app->state, starting, self->autostart ? "autostart" : "once", error))
            return vr_state_commit(app->state, error);
    }
    vr_state_rollback(app->state);
    return FALSE;
}

static gboolean
prepare(Activation *self, GError **error)
{
    g_autofree char *key = fact_key("activation", self->row->uuid);
    g_autofree char *number = g_strdup_printf("%" G_GUINT64_FORMAT, self->number);
    VrApp *app = self->app;

    return take_back(app, self->row, self->dir, error) &&
           vr_state_set(app->state, key, number, error) && define(self, error) &&
           vr_fence_remove(app->fence, self->row->uuid, error) &&
           vr_dom_start_paused(app->conn, self->row->uuid, error);
}

static JsonNode *
answer(gboolean running, const char *root, const GError *error)
{
    JsonObject *object = json_object_new();
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_object_set_boolean_member(object, "running", running);
    if (root != NULL)
        json_object_set_string_member(object, "root", root);
    if (error != NULL)
        json_object_set_object_member(object, "error", vr_error_to_json_object(error));
    json_node_take_object(node, object);
    return node;
}

/* We own the workload: whatever it takes, it must run. A domain that died meanwhile is started
 * anew. */
static gboolean
run_owned(VrApp *app, const char *uuid, GError **error)
{
    g_autofree char *key = fact_key("starting", uuid);
    g_autofree char *how = vr_state_get(app->state, key, NULL);

    if (how == NULL)
        return TRUE;
    return vr_fence_remove(app->fence, uuid, error) &&
           vr_dom_start_paused(app->conn, uuid, error) && vr_dom_resume(app->conn, uuid, error) &&
           vr_dom_wait_running(app->conn, uuid, RUNNING_TIMEOUT_MS, NULL, error) &&
           vr_fault_point(VR_STEP_F5, error) &&
           vr_dom_set_autostart(app->conn, uuid, strcmp(how, "autostart") == 0, error) &&
           vr_state_set(app->state, key, NULL, error);
}

static JsonNode *
run_and_answer(Activation *self)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrRecoveryPoint) head = NULL;
    gboolean ok;

    if (self->replica == NULL)
        self->replica = vr_replicas_get(self->app->replicas, self->row->uuid, &error);
    head = self->replica ? vr_replica_head(self->replica, &error) : NULL;
    ok = head != NULL && run_owned(self->app, self->row->uuid, &error);
    if (!ok)
        g_warning("domain '%s' is owned by this host but does not run: %s", self->row->name,
                  error->message);
    return answer(ok, head ? head->root : NULL, error);
}

static JsonNode *
activate(Activation *self, GError **error)
{
    g_autoptr(GError) undo = NULL;
    JsonNode *node;

    if (strcmp(self->row->generation, self->line) == 0)
        return run_and_answer(self);
    if (!check_generation(self, error) || !check_head(self, error))
        return NULL;
    if (prepare(self, error) && advance(self, error)) {
        node = vr_fault_point(VR_STEP_F4, error) ? run_and_answer(self) : NULL;
        vr_replicas_refresh_index(self->app->replicas, self->row->uuid);
        return node;
    }
    if (!take_back(self->app, self->row, self->dir, &undo))
        g_warning("domain '%s': the failover that failed is not undone completely: %s",
                  self->row->name, undo->message);
    return NULL;
}

JsonNode *
vr_activate(VrApp *app, const char *uuid, JsonNode *request, GError **error)
{
    g_auto(Activation) self = {0};
    JsonNode *node;

    if (!vr_guard_take(app->guards, uuid, "a planned failover", 60000, NULL, error))
        return NULL;
    node = load(&self, app, uuid, request, error) ? activate(&self, error) : NULL;
    vr_guard_release(app->guards, uuid);
    return node;
}

gboolean
vr_activation_done(VrApp *app, const VrProtection *row)
{
    g_autofree char *key = fact_key("starting", row->uuid);
    g_autofree char *how = vr_state_get(app->state, key, NULL);

    return row->state == VR_PROTECTION_FAILED_OVER && how == NULL;
}

/* An activation whose own undo failed, or that a restart interrupted. */
static gboolean
undo_interrupted(VrApp *app, const VrProtection *row, GError **error)
{
    g_autofree char *dir = active_dir(app, row, error);

    g_message("domain '%s': an interrupted failover to this host is undone", row->name);
    return dir != NULL && take_back(app, row, dir, error);
}

static gboolean
is_interrupted(VrApp *app, const char *uuid)
{
    g_autofree char *key = fact_key("activation", uuid);
    g_autofree char *number = vr_state_get(app->state, key, NULL);

    return number != NULL;
}

/* Durable before anything else: what is left here does not execute, and is taken away as soon as
 * that is possible. */
static gboolean
refuse(VrApp *app, const VrProtection *row, const VrGeneration *generation, GError **error)
{
    g_autofree char *key = fact_key("refused", row->uuid);
    g_autoptr(GError) undo = NULL;

    if (!vr_state_set(app->state, key, vr_generation_id(generation), error))
        return FALSE;
    if (is_interrupted(app, row->uuid) && !undo_interrupted(app, row, &undo))
        g_warning("domain '%s': the failover that failed is not undone completely: %s", row->name,
                  undo->message);
    return TRUE;
}

JsonNode *
vr_deactivate(VrApp *app, const char *uuid, JsonNode *request, GError **error)
{
    JsonObject *object = vr_json_object(request, "deactivate", error);
    const char *line = object ? vr_json_string(object, "generation", 4096, error) : NULL;
    g_autoptr(VrGeneration) generation = line ? vr_generation_from_line(line, error) : NULL;
    g_autoptr(VrProtection) row = NULL;
    JsonObject *reply;
    JsonNode *node;
    gboolean refused;

    if (generation == NULL ||
        !vr_guard_take(app->guards, uuid, "a planned failover", -1, NULL, error))
        return NULL;
    row = vr_state_protection_get(app->state, uuid, error);
    refused = row != NULL && strcmp(row->generation, line) != 0;
    if (row == NULL || !is_target(app, row, error) ||
        (refused && !refuse(app, row, generation, error))) {
        vr_guard_release(app->guards, uuid);
        return NULL;
    }
    vr_guard_release(app->guards, uuid);
    reply = json_object_new();
    json_object_set_boolean_member(reply, "refused", refused);
    node = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(node, reply);
    return node;
}

gboolean
vr_activation_recover(VrApp *app, const VrProtection *row, GError **error)
{
    return is_interrupted(app, row->uuid) ? undo_interrupted(app, row, error)
                                          : run_owned(app, row->uuid, error);
}
