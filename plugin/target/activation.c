/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/target/activation.h"

#include <string.h>

#include "plugin/ownership.h"
#include "policies/error.h"
#include "policies/fault.h"
#include "policies/generation.h"
#include "policies/ids.h"
#include "qmp/domain/domain_ops.h"
#include "storage/wire/error_json.h"
#include "storage/util/json_util.h"

#define HOLD_REASON "failed-over"
#define ANSWER_SECONDS 15.0 /* well below the peer's time limit for a request */

gboolean
vr_activation_boot(VrApp *app, const VrProtection *row, const VrTransfer *transfer, VrBoot *boot,
                   char **ret_dir, char **ret_generation, GError **error)
{
    g_autoptr(VrGeneration) generation =
        transfer->generation ? vr_generation_from_line(transfer->generation, NULL) : NULL;

    *ret_dir = vr_boot_active_dir(app, row, error);
    if (*ret_dir == NULL)
        return FALSE;
    *ret_generation = g_strdup(generation ? vr_generation_id(generation) : "");
    *boot = (VrBoot){
        .row = row,
        .number = transfer->number,
        .dir = *ret_dir,
        .name = row->name,
        .uuid = row->uuid,
        .role = "replica",
        .generation = *ret_generation,
        .hold = HOLD_REASON,
    };
    return TRUE;
}

/* The fence first: what is left cannot be started by hand while it is removed. */
gboolean
vr_activation_take_back(VrApp *app, const VrProtection *row, const VrTransfer *transfer,
                        GError **error)
{
    g_autofree char *dir = NULL;
    g_autofree char *generation = NULL;
    VrBoot boot;

    return vr_activation_boot(app, row, transfer, &boot, &dir, &generation, error) &&
           vr_ownership_fence(app, row, error) && vr_boot_take_back(app, &boot, error) &&
           vr_ownership_given_back(app, row->uuid, error);
}

VrTargetNetworks *
vr_activation_networks(VrApp *app, const VrProtection *row, GError **error)
{
    g_autoptr(JsonNode) sent = row->networks ? json_from_string(row->networks, NULL) : NULL;

    return vr_target_networks(app, row->peer, vr_json_as_array(sent), error);
}

gboolean
vr_activation_run(VrApp *app, const VrProtection *row, const VrTransfer *transfer,
                  GCancellable *cancel, GError **error)
{
    g_autoptr(VrTargetNetworks) networks = vr_activation_networks(app, row, error);
    g_autofree char *dir = NULL;
    g_autofree char *generation = NULL;
    VrBoot boot;

    if (networks == NULL ||
        !vr_activation_boot(app, row, transfer, &boot, &dir, &generation, error))
        return FALSE;
    boot.networks = networks;
    return vr_ownership_unfence(app, row->uuid, error) && vr_boot_run(app, &boot, cancel, error) &&
           vr_fault_point(VR_STEP_F5, error) &&
           vr_dom_set_autostart(app->conn, row->uuid, transfer->autostart, error) &&
           vr_ownership_arrived(app, row->uuid, error) &&
           (row->last_error == NULL ||
            vr_state_protection_set_last_error(app->state, row->uuid, NULL, 0, error));
}

static GError *
source_gave_up(VrApp *app, const VrProtection *row, const char *peer)
{
    g_autofree char *word = vr_shell_word(row->name);
    g_autofree char *action = g_strdup_printf(
        "Look on host '%s'. If it does not run there: 'virt-replica unprotect %s --force' here, "
        "then 'virsh resume %s'.",
        peer, word, word);
    g_autofree char *message = g_strdup_printf(
        "domain '%s' was handed over to host '%s', which is not to start it any more: host '%s' "
        "does not know its protection any more, which was ended there by force, and may run it",
        row->name, app->config->name, peer);

    return vr_error_new(VR_ERROR_REFUSED, "source-gave-up", action, message);
}

/* That host's own answer: another failure to ask it says nothing of the protection. */
static gboolean
has_given_up(const GError *answer)
{
    const char *slug = vr_error_slug(answer);

    return g_error_matches(answer, VR_ERROR, VR_ERROR_NOT_FOUND) ||
           strcmp(slug, "peer-unknown") == 0 || strcmp(slug, "not-your-protection") == 0;
}

gboolean
vr_activation_confirmed(VrApp *app, const VrProtection *row, GCancellable *cancel, GError **error)
{
    VrPeerClient *peer = vr_peer_pool_get(app->peers, row->peer, NULL);
    g_autoptr(GError) local = NULL;
    g_autoptr(GError) said = NULL;
    g_autoptr(JsonNode) answer =
        peer ? vr_peer_client_action(peer, row->uuid, "known", NULL, cancel, &local) : NULL;
    g_autofree char *text = NULL;

    if (answer != NULL || local == NULL || !has_given_up(local))
        return TRUE;
    said = source_gave_up(app, row, vr_peer_client_name(peer));
    text = vr_error_to_json_text(said);
    if (g_strcmp0(row->last_error, text) != 0) /* since when it holds stays */
        (void) vr_state_protection_set_last_error(app->state, row->uuid, text, g_get_real_time(),
                                                  NULL);
    g_propagate_error(error, g_steal_pointer(&said));
    return FALSE;
}

gboolean
vr_activation_is_left(VrApp *app, const VrProtection *row)
{
    g_autoptr(VrTransfer) transfer = NULL;

    return row->role == VR_ROLE_TARGET &&
           vr_state_transfer_get(app->state, row->uuid, &transfer, NULL) && transfer != NULL &&
           (transfer->phase == VR_TRANSFER_PREPARING || transfer->phase == VR_TRANSFER_STARTING) &&
           vr_jobs_find(app->jobs, row->uuid, "activate") == 0;
}

gboolean
vr_activation_recover(VrApp *app, const VrProtection *row, GError **error)
{
    g_autoptr(VrTransfer) transfer = NULL;

    if (!vr_state_transfer_get(app->state, row->uuid, &transfer, error))
        return FALSE;
    if (transfer == NULL || vr_jobs_find(app->jobs, row->uuid, "activate") != 0)
        return TRUE;
    switch (transfer->phase) {
    case VR_TRANSFER_PREPARING:
        g_message("domain '%s': an interrupted failover to this host is undone", row->name);
        return vr_activation_take_back(app, row, transfer, error);
    case VR_TRANSFER_STARTING:
        return vr_activation_confirmed(app, row, NULL, error) &&
               vr_activation_run(app, row, transfer, NULL, error);
    case VR_TRANSFER_LEAVING:
    case VR_TRANSFER_HANDING_OVER:
    case VR_TRANSFER_REFUSED:
    case VR_TRANSFER_GIVEN_UP:
        return TRUE;
    }
    return TRUE;
}

typedef struct {
    VrProtection *row; /* owned */
    const char *line, *root;
    guint64 number;
    JsonObject *args; /* owned: of the job */
} Request;

static void
request_clear(Request *self)
{
    g_clear_pointer(&self->row, vr_protection_free);
    g_clear_pointer(&self->args, json_object_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Request, request_clear)

/* The job's arguments are checked copies, not the message. */
static gboolean
read_request(Request *self, VrApp *app, const char *uuid, JsonNode *node, GError **error)
{
    JsonObject *object = vr_json_object(node, "activate", error);
    gboolean autostart;

    self->line = object ? vr_json_string(object, "generation", 4096, error) : NULL;
    self->root = self->line ? vr_json_string(object, "root", 64, error) : NULL;
    if (self->root == NULL || !vr_json_uint(object, "number", G_MAXINT64, &self->number, error) ||
        !vr_json_bool_opt(object, "autostart", FALSE, &autostart, error))
        return FALSE;
    self->row = vr_state_protection_get(app->state, uuid, error);
    if (self->row == NULL)
        return FALSE;
    self->args = json_object_new();
    json_object_set_string_member(self->args, "generation", self->line);
    json_object_set_string_member(self->args, "root", self->root);
    json_object_set_int_member(self->args, "number", (gint64) self->number);
    json_object_set_boolean_member(self->args, "autostart", autostart);
    return TRUE;
}

/* The job that activates @line already. */
static gboolean
find_running(VrApp *app, const char *uuid, const char *line, gint64 *ret_id)
{
    gint64 id = vr_jobs_find(app->jobs, uuid, "activate");
    g_autoptr(VrJobRow) job = id != 0 ? vr_state_job_get(app->state, id, NULL) : NULL;
    g_autoptr(JsonNode) args = job && job->args ? json_from_string(job->args, NULL) : NULL;

    if (g_strcmp0(vr_json_text_in(vr_json_as_object(args), "generation", NULL), line) != 0)
        return FALSE;
    *ret_id = id;
    return TRUE;
}

static gboolean
find_or_start(Request *self, VrApp *app, gint64 *ret_id, GError **error)
{
    const char *uuid = self->row->uuid;

    if (find_running(app, uuid, self->line, ret_id))
        return TRUE;
    /* a failover that was ordered here follows the source's: this is a part of it */
    return vr_jobs_start_child(app->jobs, vr_jobs_find(app->jobs, uuid, "failover"), "activate",
                               uuid, self->row->name, json_object_ref(self->args), ret_id, error);
}

static GError *
job_error(VrApp *app, gint64 id)
{
    g_autoptr(VrJobRow) job = vr_state_job_get(app->state, id, NULL);
    GError *cause = job && job->error ? vr_error_from_json_text(job->error) : NULL;

    return cause ? cause
                 : vr_error_new(VR_ERROR_TRANSIENT, "activation-running", NULL,
                                "the replica is being started");
}

static JsonNode *
answer(VrApp *app, const VrProtection *row, const char *root, gint64 job)
{
    gboolean running = vr_ownership_settled(app, row);
    JsonObject *object = json_object_new();

    json_object_set_boolean_member(object, "owner", row->state == VR_PROTECTION_FAILED_OVER);
    json_object_set_boolean_member(object, "running", running);
    json_object_set_int_member(object, "job", job);
    if (running) {
        json_object_set_string_member(object, "root", root);
    } else {
        g_autoptr(GError) cause = job_error(app, job);

        json_object_set_object_member(object, "error", vr_error_to_json_object(cause));
    }
    return vr_json_node(object);
}

static gboolean
has_ended(VrApp *app, gint64 id)
{
    g_autoptr(VrJobRow) job = vr_state_job_get(app->state, id, NULL);

    return job != NULL && job->ended_us != 0;
}

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

/* The RP it runs from is the one whose root was compared before the generation advanced. */
JsonNode *
vr_activate(VrApp *app, const char *uuid, JsonNode *node, GError **error)
{
    g_auto(Request) self = {0};
    g_autoptr(VrProtection) now = NULL;
    gboolean owner;
    gint64 id = 0;

    if (!read_request(&self, app, uuid, node, error))
        return NULL;
    if (!is_target(app, self.row, error))
        return NULL;
    owner = strcmp(self.row->generation, self.line) == 0;
    if (owner && vr_ownership_settled(app, self.row))
        return answer(app, self.row, self.root, 0);
    if (owner && self.row->state != VR_PROTECTION_FAILED_OVER) {
        vr_set_error(error, VR_ERROR_REFUSED, "generation-mismatch",
                     "Compare 'virt-replica info' on both hosts.",
                     "domain '%s': host '%s' takes it over in a new generation only, not in the "
                     "one in which it holds the replica",
                     self.row->name, app->config->name);
        return NULL;
    }
    if (!find_or_start(&self, app, &id, error))
        return NULL;
    vr_jobs_wait(app->jobs, id, ANSWER_SECONDS);
    now = vr_state_protection_get(app->state, uuid, error);
    if (now == NULL)
        return NULL;
    if (strcmp(now->generation, self.line) == 0 || !has_ended(app, id))
        return answer(app, now, self.root, id);
    g_propagate_error(error, job_error(app, id));
    return NULL;
}

/* What was made so far does not execute, and is taken away as soon as that is possible. */
static void
take_back_now(VrApp *app, const VrProtection *row)
{
    g_autoptr(GError) error = NULL;

    if (!vr_guard_take(app->guards, row->uuid, "a failover that was given up", 0, NULL, NULL))
        return;
    if (!vr_activation_recover(app, row, &error))
        g_warning("domain '%s': the failover that failed is not undone completely: %s", row->name,
                  error->message);
    vr_guard_release(app->guards, row->uuid);
}

JsonNode *
vr_deactivate(VrApp *app, const char *uuid, JsonNode *request, GError **error)
{
    JsonObject *object = vr_json_object(request, "deactivate", error);
    const char *line = object ? vr_json_string(object, "generation", 4096, error) : NULL;
    g_autoptr(VrProtection) row = line ? vr_state_protection_get(app->state, uuid, error) : NULL;
    gboolean refused = FALSE;

    if (row == NULL)
        return NULL;
    if (!is_target(app, row, error) || !vr_ownership_refuse(app, uuid, line, &refused, error))
        return NULL;
    if (refused)
        take_back_now(app, row);
    object = json_object_new();
    json_object_set_boolean_member(object, "refused", refused);
    return vr_json_node(object);
}
