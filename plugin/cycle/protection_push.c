/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/protection_push.h"

#include <string.h>

#include "storage/util/file_util.h"
#include "storage/util/json_util.h"

static GMutex lock;
static GHashTable *pushed; /* uuid -> digest of the message sent last */

JsonArray *
vr_netmap_json(VrApp *app, const char *peer, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_netmap_list(app->state, peer, error);
    JsonArray *array;

    if (rows == NULL)
        return NULL;
    array = json_array_new();
    for (guint i = 0; i < rows->len; i++) {
        const VrNetmapRow *row = g_ptr_array_index(rows, i);
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "source", row->source);
        json_object_set_string_member(object, "target", row->target);
        if (row->test != NULL)
            json_object_set_string_member(object, "test", row->test);
        json_array_add_object_element(array, object);
    }
    return array;
}

static JsonNode *
message(VrApp *app, const VrProtection *row, GError **error)
{
    g_autoptr(VrPolicy) policy = vr_policy_files_in_force(app->policies, row->policy, error);
    g_autofree char *text = NULL;
    JsonArray *networks;
    JsonObject *object;

    if (policy == NULL)
        return NULL;
    networks = vr_netmap_json(app, row->peer, error);
    if (networks == NULL)
        return NULL;
    text = vr_policy_to_text(policy);
    object = json_object_new();
    json_object_set_string_member(object, "name", row->name);
    json_object_set_string_member(object, "store", row->store);
    json_object_set_string_member(object, "policy", row->policy);
    json_object_set_string_member(object, "policy_text", text);
    json_object_set_string_member(object, "generation", row->generation);
    json_object_set_string_member(object, "exclude", row->exclude);
    json_object_set_array_member(object, "networks", networks);
    return vr_json_node(object);
}

static gboolean
same_as_before(const char *uuid, const char *digest)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&lock);

    return pushed != NULL && g_strcmp0(g_hash_table_lookup(pushed, uuid), digest) == 0;
}

static void
remember(const char *uuid, const char *digest)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&lock);

    if (pushed == NULL)
        pushed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_hash_table_insert(pushed, g_strdup(uuid), g_strdup(digest));
}

void
vr_protection_push_forget(const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&lock);

    if (pushed != NULL)
        g_hash_table_remove(pushed, uuid);
}

gboolean
vr_protection_push(VrApp *app, const VrProtection *row, const char *xml, GCancellable *cancel,
                   GError **error)
{
    g_autoptr(JsonNode) request = message(app, row, error);
    g_autoptr(JsonNode) answer = NULL;
    g_autofree char *text = NULL;
    g_autofree char *digest = NULL;
    VrPeerClient *peer;

    if (request == NULL)
        return FALSE;
    text = vr_json_to_text(request);
    digest = vr_sha256_hex(text, strlen(text));
    if (same_as_before(row->uuid, digest))
        return TRUE;
    peer = vr_peer_pool_get(app->peers, row->peer, error);
    if (peer == NULL)
        return FALSE;
    json_object_set_string_member(json_node_get_object(request), "xml", xml);
    answer = vr_peer_client_protection_put(peer, row->uuid, request, cancel, error);
    if (answer == NULL)
        return FALSE;
    remember(row->uuid, digest);
    return TRUE;
}
