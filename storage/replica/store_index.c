/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/replica/store_index.h"

#include <string.h>

#include "policies/error.h"
#include "policies/generation.h"
#include "policies/ids.h"
#include "policies/policy.h"
#include "storage/wire/cycle_field.h"
#include "storage/util/json_util.h"
#include "storage/replica/replica_private.h"
#include "storage/state/state_peer.h"
#include "storage/wire/token.h"

#define POINTS_MAX 10000
#define HOLDS_MAX 64
#define REASON_MAX 64
#define POLICY_MAX (64 * 1024)
#define NETWORKS_MAX (256 * 1024)
#define EXCLUDE_MAX 4096
#define DOMAIN_NAME_MAX 255

static void
hold_free(gpointer data)
{
    VrStoreHold *hold = data;

    g_free(hold->reason);
    g_free(hold);
}

void
vr_store_index_free(VrStoreIndex *self)
{
    if (!self)
        return;
    vr_protection_free(self->row);
    g_free(self->peer_name);
    g_ptr_array_unref(self->rps);
    g_ptr_array_unref(self->holds);
    g_free(self);
}

/* Out of the database. */

static void
set_text(JsonObject *object, const char *key, const char *value)
{
    if (value)
        json_object_set_string_member(object, key, value);
}

static void
add_protection(VrState *state, const char *uuid, JsonObject *object)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(state, uuid, NULL);
    g_autoptr(VrPeer) peer = row ? vr_state_peer_get(state, row->peer, NULL) : NULL;

    if (!row)
        return;
    set_text(object, "name", row->name);
    set_text(object, "peer", row->peer);
    set_text(object, "peer_name", peer ? peer->name : NULL);
    set_text(object, "store", row->store);
    set_text(object, "policy", row->policy);
    set_text(object, "policy_text", row->policy_text);
    set_text(object, "state", vr_protection_state_name(row->state));
    set_text(object, "generation", row->generation);
    set_text(object, "exclude", row->exclude);
    set_text(object, "networks", row->networks);
    set_text(object, "policy_before", row->policy_before);
    json_object_set_int_member(object, "policy_before_until_us", row->policy_before_until_us);
    json_object_set_int_member(object, "created_us", row->created_us);
    json_object_set_boolean_member(object, "autostart", row->autostart);
    json_object_set_int_member(object, "kept_until_us", row->kept_until_us);
}

static void
add_parsed(JsonObject *object, const char *key, const char *text)
{
    JsonNode *node = text ? vr_json_parse(text, strlen(text), VR_JSON_MAX_BYTES, NULL) : NULL;

    if (node)
        json_object_set_member(object, key, node);
}

static gboolean
add_holds(VrState *state, const VrRpRow *row, JsonObject *object, GError **error)
{
    g_autoptr(GPtrArray) reasons = NULL;
    JsonArray *array;

    if (!row->rp.pinned)
        return TRUE;
    reasons = vr_state_hold_list(state, row->uuid, row->rp.number, error);
    if (!reasons)
        return FALSE;
    array = json_array_new();
    for (guint i = 0; i < reasons->len; i++)
        json_array_add_string_element(array, reasons->pdata[i]);
    json_object_set_array_member(object, "holds", array);
    return TRUE;
}

static gboolean
add_points(VrState *state, const char *uuid, JsonObject *index, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(state, uuid, error);
    JsonArray *listed = json_array_new();
    JsonArray *retiring = json_array_new();

    json_object_set_array_member(index, "rps", listed);
    json_object_set_array_member(index, "retiring", retiring);
    for (guint i = 0; rows && i < rows->len; i++) {
        const VrRpRow *row = rows->pdata[i];
        JsonNode *node = vr_recovery_point_to_json(&row->rp);
        JsonObject *object = json_node_get_object(node);

        json_array_add_element(row->state == VR_RP_LISTED ? listed : retiring, node);
        add_parsed(object, "disks", row->disks);
        add_parsed(object, "attachments", row->attachments);
        if (!add_holds(state, row, object, error))
            return FALSE;
    }
    return rows != NULL;
}

char *
vr_store_index_text(VrState *state, const char *uuid, GError **error)
{
    g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
    JsonObject *object = json_object_new();

    json_node_take_object(root, object);
    json_object_set_int_member(object, "version", VR_STORE_INDEX_VERSION);
    json_object_set_string_member(object, "uuid", uuid);
    add_protection(state, uuid, object);
    return add_points(state, uuid, object, error) ? vr_json_to_text(root) : NULL;
}

/* Out of the file. */

static char *
text_member(JsonObject *object, const char *key, gsize max, GError **error)
{
    return g_strdup(vr_json_string(object, key, max, error));
}

static gboolean
time_member(JsonObject *object, const char *key, gint64 *ret_us, GError **error)
{
    guint64 value;

    if (!vr_json_uint(object, key, G_MAXINT64, &value, error))
        return FALSE;
    *ret_us = (gint64) value;
    return TRUE;
}

static gboolean
policy_ok(const VrProtection *row, const char *text, GError **error)
{
    g_autoptr(VrPolicy) policy =
        vr_policy_parse(row->policy, "policy of the source", text, strlen(text), error);

    return policy != NULL;
}

static gboolean
exclude_ok(const char *exclude, GError **error)
{
    g_auto(GStrv) names = g_strsplit(exclude, ",", -1);

    for (guint i = 0; names[i]; i++) {
        if (!vr_disk_name_valid(names[i]))
            return vr_field_bad(error, "exclude", "not a list of disks");
    }
    return TRUE;
}

static gboolean
networks_ok(const char *networks, GError **error)
{
    g_autoptr(JsonNode) node = vr_json_parse(networks, strlen(networks), NETWORKS_MAX, NULL);

    return vr_json_as_array(node) || vr_field_bad(error, "networks", "not a list of networks");
}

static gboolean
state_ok(JsonObject *object, VrProtectionState *ret_state, GError **error)
{
    const char *state = vr_json_string(object, "state", REASON_MAX, error);

    return state && (vr_protection_state_from_name(state, ret_state) ||
                     vr_field_bad(error, "state", "not a state of a protection"));
}

static gboolean
identity_ok(const VrProtection *row, GError **error)
{
    g_autoptr(VrGeneration) generation = vr_generation_from_line(row->generation, error);

    if (!generation)
        return FALSE;
    if (*row->name == '\0')
        return vr_field_bad(error, "name", "is empty");
    if (!vr_fingerprint_valid(row->peer))
        return vr_field_bad(error, "peer", "not the fingerprint of a key");
    if (!vr_name_valid(row->store))
        return vr_field_bad(error, "store", "not the name of a store");
    return vr_name_valid(row->policy) || vr_field_bad(error, "policy", "not the name of a policy");
}

static gboolean
parse_settings(JsonObject *object, VrProtection *row, GError **error)
{
    const char *networks, *before;

    if (!vr_json_string_opt(object, "networks", NETWORKS_MAX, &networks, error) ||
        !vr_json_string_opt(object, "policy_before", POLICY_MAX, &before, error) ||
        !time_member(object, "created_us", &row->created_us, error) ||
        !time_member(object, "kept_until_us", &row->kept_until_us, error) ||
        !time_member(object, "policy_before_until_us", &row->policy_before_until_us, error))
        return FALSE;
    row->autostart = json_object_get_boolean_member_with_default(object, "autostart", FALSE);
    row->networks = g_strdup(networks);
    row->policy_before = g_strdup(before);
    return policy_ok(row, row->policy_text, error) && (!before || policy_ok(row, before, error)) &&
           (*row->exclude == '\0' || exclude_ok(row->exclude, error)) &&
           (!networks || networks_ok(networks, error));
}

static VrProtection *
parse_protection(JsonObject *object, const char *uuid, GError **error)
{
    g_autoptr(VrProtection) row = g_new0(VrProtection, 1);

    row->uuid = g_strdup(uuid);
    row->role = VR_ROLE_TARGET;
    if (!(row->name = text_member(object, "name", DOMAIN_NAME_MAX, error)) ||
        !(row->peer = text_member(object, "peer", 64, error)) ||
        !(row->store = text_member(object, "store", VR_NAME_MAX, error)) ||
        !(row->policy = text_member(object, "policy", VR_NAME_MAX, error)) ||
        !(row->policy_text = text_member(object, "policy_text", POLICY_MAX, error)) ||
        !(row->generation = text_member(object, "generation", 4096, error)) ||
        !(row->exclude = text_member(object, "exclude", EXCLUDE_MAX, error)) ||
        !state_ok(object, &row->state, error) || !identity_ok(row, error) ||
        !parse_settings(object, row, error))
        return NULL;
    return g_steal_pointer(&row);
}

static gboolean
parse_holds(JsonObject *object, guint64 number, GPtrArray *holds, GError **error)
{
    JsonArray *array;

    if (!json_object_has_member(object, "holds"))
        return TRUE;
    array = vr_field_array(object, "holds", HOLDS_MAX, error);
    for (guint i = 0; array && i < json_array_get_length(array); i++) {
        JsonNode *node = json_array_get_element(array, i);
        VrStoreHold *hold;

        if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_STRING ||
            strlen(json_node_get_string(node)) > REASON_MAX)
            return vr_field_bad(error, "holds", "not a list of reasons");
        hold = g_new0(VrStoreHold, 1);
        hold->number = number;
        hold->reason = g_strdup(json_node_get_string(node));
        g_ptr_array_add(holds, hold);
    }
    return array != NULL;
}

static gboolean
disks_ok(const VrRpRow *row, GError **error)
{
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(row, error);

    if (!disks)
        return FALSE;
    if (disks->len == 0 || disks->len > VR_MAX_DISKS)
        return vr_field_bad(error, "disks", "none or too many");
    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];

        for (guint k = 0; k < i; k++) {
            if (strcmp(((VrCycleDisk *) disks->pdata[k])->name, disk->name) == 0)
                return vr_field_bad(error, "disks", "one is there twice");
        }
    }
    return TRUE;
}

static VrRpRow *
parse_point(JsonNode *node, const char *uuid, VrRpState state, GError **error)
{
    g_autoptr(VrRecoveryPoint) rp = vr_recovery_point_from_json(node, error);
    g_autoptr(VrRpRow) row = NULL;
    g_autoptr(GPtrArray) attachments = NULL;
    JsonObject *object;

    if (!rp)
        return NULL;
    object = json_node_get_object(node);
    attachments = vr_attachments_from_json(object, error);
    if (!attachments || !vr_field_array(object, "disks", VR_MAX_DISKS, error))
        return NULL;
    row = g_new0(VrRpRow, 1);
    row->uuid = g_strdup(uuid);
    row->rp = *rp;
    row->rp.cycle = g_strdup(rp->cycle);
    row->rp.root = g_strdup(rp->root);
    row->rp.damaged_disk = g_strdup(rp->damaged_disk);
    row->state = state;
    row->disks = vr_json_to_text(json_object_get_member(object, "disks"));
    row->attachments = vr_json_to_text(json_object_get_member(object, "attachments"));
    return disks_ok(row, error) ? g_steal_pointer(&row) : NULL;
}

static gboolean
parse_points(JsonObject *index, const char *key, VrRpState state, VrStoreIndex *self,
             GError **error)
{
    JsonArray *array = vr_field_array(index, key, POINTS_MAX, error);

    for (guint i = 0; array && i < json_array_get_length(array); i++) {
        JsonNode *node = json_array_get_element(array, i);
        VrRpRow *row = parse_point(node, self->row->uuid, state, error);

        if (!row)
            return FALSE;
        g_ptr_array_add(self->rps, row);
        if (!parse_holds(json_node_get_object(node), row->rp.number, self->holds, error))
            return FALSE;
    }
    return array != NULL;
}

static gint
by_number(gconstpointer a, gconstpointer b)
{
    const VrRpRow *x = *(const VrRpRow *const *) a;
    const VrRpRow *y = *(const VrRpRow *const *) b;

    return x->rp.number < y->rp.number ? -1 : x->rp.number > y->rp.number;
}

static gboolean
points_ok(GPtrArray *rps, GError **error)
{
    g_autoptr(GHashTable) cycles = g_hash_table_new(g_str_hash, g_str_equal);

    g_ptr_array_sort(rps, by_number);
    for (guint i = 0; i < rps->len; i++) {
        const VrRpRow *row = rps->pdata[i];

        if ((i > 0 && ((VrRpRow *) rps->pdata[i - 1])->rp.number == row->rp.number) ||
            !g_hash_table_add(cycles, row->rp.cycle))
            return vr_field_bad(error, "rps", "a recovery point is there twice");
    }
    /* The newest is never retired: there is nothing above it to hold its data. */
    return rps->len == 0 || ((VrRpRow *) rps->pdata[rps->len - 1])->state == VR_RP_LISTED ||
           vr_field_bad(error, "retiring", "the newest recovery point cannot be");
}

static gboolean
version_ok(JsonObject *object, GError **error)
{
    guint64 version;

    if (!vr_json_uint(object, "version", G_MAXINT, &version, error))
        return FALSE;
    if (version == VR_STORE_INDEX_VERSION)
        return TRUE;
    vr_set_error(error, VR_ERROR_INVALID,
                 version < VR_STORE_INDEX_VERSION ? "index-too-old" : "index-too-new",
                 "Use the version of virt-replica that wrote it.",
                 "its index has version %" G_GUINT64_FORMAT ", this program knows %d", version,
                 VR_STORE_INDEX_VERSION);
    return FALSE;
}

VrStoreIndex *
vr_store_index_parse(const char *text, gsize len, const char *uuid, GError **error)
{
    g_autoptr(JsonNode) node =
        vr_json_parse_large(text, len, VR_STORE_INDEX_MAX_BYTES, VR_STORE_INDEX_MAX_VALUES, error);
    JsonObject *object = node ? vr_json_object(node, "the index", error) : NULL;
    g_autoptr(VrStoreIndex) self = NULL;
    const char *name;

    if (!object || !version_ok(object, error))
        return NULL;
    name = vr_json_string(object, "uuid", VR_UUID_LENGTH, error);
    if (!name)
        return NULL;
    if (strcmp(name, uuid) != 0) {
        vr_field_bad(error, "uuid", "not that of the directory");
        return NULL;
    }
    self = g_new0(VrStoreIndex, 1);
    self->rps = g_ptr_array_new_with_free_func((GDestroyNotify) vr_rp_row_free);
    self->holds = g_ptr_array_new_with_free_func(hold_free);
    self->row = parse_protection(object, uuid, error);
    if (!self->row || !vr_json_string_opt(object, "peer_name", VR_NAME_MAX, &name, error))
        return NULL;
    self->peer_name = g_strdup(vr_name_valid(name) ? name : NULL);
    if (!parse_points(object, "rps", VR_RP_LISTED, self, error) ||
        !parse_points(object, "retiring", VR_RP_RETIRING, self, error) ||
        !points_ok(self->rps, error))
        return NULL;
    return g_steal_pointer(&self);
}

guint64
vr_store_index_newest(const char *text, gsize len)
{
    g_autoptr(JsonNode) node =
        vr_json_parse_large(text, len, VR_STORE_INDEX_MAX_BYTES, VR_STORE_INDEX_MAX_VALUES, NULL);
    JsonArray *points = vr_json_array_in(vr_json_as_object(node), "rps");
    guint64 newest = 0, number;

    for (guint i = 0; points && i < json_array_get_length(points); i++) {
        JsonObject *point = vr_json_object_at(points, i);

        if (point && vr_json_uint(point, "number", G_MAXINT64, &number, NULL))
            newest = MAX(newest, number);
    }
    return newest;
}
