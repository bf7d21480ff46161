/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/ownership_compare.h"

#include "plugin/peer/peer_word.h"
#include "policies/error.h"
#include "qmp/domain/domain_ops.h"
#include "storage/util/json_util.h"

#define LINE_MAX_BYTES 4096

void
vr_ownership_side_clear(VrOwnershipSide *side)
{
    g_clear_pointer(&side->generation, vr_generation_free);
}

/* A domain that is not defined does not run. */
static gboolean
look_at_domain(VrApp *app, const char *uuid, VrOwnershipSide *side, GError **error)
{
    g_autoptr(GError) local = NULL;
    VrDomState state;

    if (vr_dom_state(app->conn, uuid, &state, &local)) {
        side->active = state != VR_DOM_SHUTOFF;
        side->running = side->active && state != VR_DOM_PAUSED;
        return TRUE;
    }
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean
vr_ownership_side_here(VrApp *app, const VrProtection *row, VrOwnershipSide *ret_side,
                       GError **error)
{
    *ret_side = (VrOwnershipSide){.moving = row->state == VR_PROTECTION_FAILING_OVER};
    ret_side->generation = vr_generation_from_line(row->generation, error);
    return ret_side->generation != NULL && look_at_domain(app, row->uuid, ret_side, error);
}

gboolean
vr_ownership_side_there(VrPeerClient *peer, const VrProtection *row, GCancellable *cancel,
                        VrOwnershipSide *ret_side, GError **error)
{
    JsonObject *ask = json_object_new();
    g_autoptr(JsonNode) request = vr_json_node(ask);
    g_autoptr(JsonNode) answer = NULL;
    JsonObject *said;
    const char *line;
    gboolean active, running, moving;
    VrPeerWord word;

    json_object_set_string_member(ask, "generation", row->generation);
    answer = vr_peer_client_action(peer, row->uuid, "compare", request, cancel, error);
    said = answer ? vr_json_object(answer, "the other host's answer", error) : NULL;
    line = said ? vr_json_string(said, "generation", LINE_MAX_BYTES, error) : NULL;
    if (line == NULL || !vr_json_bool_opt(said, "active", FALSE, &active, error) ||
        !vr_json_bool_opt(said, "running", FALSE, &running, error) ||
        !vr_json_bool_opt(said, "moving", FALSE, &moving, error) ||
        !vr_peer_word_read(said, &word, error))
        return FALSE;
    *ret_side = (VrOwnershipSide){
        .active = active,
        .running = running,
        .moving = moving,
        .word = word,
    };
    ret_side->generation = vr_generation_from_line(line, error);
    return ret_side->generation != NULL;
}

JsonNode *
vr_ownership_answer(VrApp *app, const char *uuid, JsonNode *request, GError **error)
{
    JsonObject *asked = vr_json_object(request, "compare", error);
    const char *line = asked ? vr_json_string(asked, "generation", LINE_MAX_BYTES, error) : NULL;
    g_autoptr(VrGeneration) theirs = line ? vr_generation_from_line(line, error) : NULL;
    g_autoptr(VrProtection) row = theirs ? vr_state_protection_get(app->state, uuid, error) : NULL;
    g_auto(VrOwnershipSide) here = {0};
    g_autoptr(GError) unknown = NULL;
    JsonObject *said;

    if (row == NULL)
        return NULL;
    if (!vr_ownership_side_here(app, row, &here, &unknown) && here.generation == NULL) {
        g_propagate_error(error, g_steal_pointer(&unknown));
        return NULL;
    }
    said = json_object_new();
    json_object_set_string_member(said, "generation", row->generation);
    json_object_set_string_member(
        said, "relation",
        vr_generation_relation_name(vr_generation_compare(theirs, here.generation)));
    json_object_set_boolean_member(said, "moving", here.moving);
    if (unknown == NULL) {
        json_object_set_boolean_member(said, "active", here.active);
        json_object_set_boolean_member(said, "running", here.running);
    }
    vr_peer_word_add(app, row, said);
    return vr_json_node(said);
}
