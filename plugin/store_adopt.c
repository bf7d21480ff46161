/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/store_adopt.h"

#include <string.h>

#include "plugin/api/api.h"
#include "plugin/ownership.h"
#include "plugin/peer/peer_replica.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "qmp/domain_model.h"
#include "qmp/domain_ops.h"
#include "storage/file_util.h"

#define FINGERPRINT_SHOWN 16

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

/* What there is. */

static const char *
finding_name(VrStoreFinding finding)
{
    switch (finding) {
    case VR_STORE_KNOWN:
        return "known";
    case VR_STORE_ORPHANED:
        return "orphaned";
    case VR_STORE_DAMAGED:
        return "damaged";
    case VR_STORE_MISSING:
        return "missing";
    }
    return "?";
}

static JsonObject *
finding_object(VrApp *app, VrStoreFinding finding, const VrProtection *row, const char *uuid)
{
    g_autoptr(VrPeer) peer = row ? vr_state_peer_get(app->state, row->peer, NULL) : NULL;
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "uuid", uuid);
    json_object_set_string_member(object, "state", finding_name(finding));
    if (row == NULL)
        return object;
    json_object_set_string_member(object, "name", row->name);
    json_object_set_string_member(object, "protection_state", vr_protection_state_name(row->state));
    json_object_set_string_member(object, "peer_fingerprint", row->peer);
    json_object_set_boolean_member(object, "paired", peer != NULL);
    if (peer != NULL)
        json_object_set_string_member(object, "peer", peer->name);
    return object;
}

static void
add_points(JsonObject *object, const GPtrArray *rps)
{
    const VrRpRow *newest = NULL;
    guint listed = 0;

    for (guint i = 0; i < rps->len; i++) {
        const VrRpRow *row = g_ptr_array_index(rps, i);

        listed += row->state == VR_RP_LISTED;
        newest = row->state == VR_RP_LISTED ? row : newest;
    }
    json_object_set_int_member(object, "points", listed);
    vr_api_set_time(object, "newest", newest ? newest->rp.time_us : 0);
}

static JsonObject *
entry_object(VrApp *app, const VrStoreEntry *entry, gboolean known)
{
    VrStoreFinding finding = known           ? VR_STORE_KNOWN
                             : entry->damage ? VR_STORE_DAMAGED
                                             : VR_STORE_ORPHANED;
    JsonObject *object =
        finding_object(app, finding, entry->index ? entry->index->row : NULL, entry->uuid);

    json_object_set_int_member(object, "bytes", (gint64) entry->bytes);
    if (entry->index != NULL) {
        add_points(object, entry->index->rps);
        if (!json_object_has_member(object, "peer") && entry->index->peer_name != NULL)
            json_object_set_string_member(object, "peer", entry->index->peer_name);
    }
    if (entry->damage != NULL)
        json_object_set_string_member(object, "damage", entry->damage);
    return object;
}

static gboolean
lies_in(const VrProtection *row, const VrStoreRow *store)
{
    return row->role == VR_ROLE_TARGET && strcmp(row->store, store->name) == 0;
}

static const VrProtection *
row_of(const GPtrArray *rows, const char *uuid)
{
    for (guint i = 0; i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);

        if (strcmp(row->uuid, uuid) == 0)
            return row;
    }
    return NULL;
}

static gboolean
has_entry(const GPtrArray *entries, const char *uuid)
{
    for (guint i = 0; i < entries->len; i++) {
        if (strcmp(((VrStoreEntry *) g_ptr_array_index(entries, i))->uuid, uuid) == 0)
            return TRUE;
    }
    return FALSE;
}

static void
add_missing(VrApp *app, const VrStoreRow *store, const GPtrArray *rows, const GPtrArray *entries,
            JsonArray *array)
{
    for (guint i = 0; i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);
        g_autoptr(GPtrArray) points = NULL;
        JsonObject *object;

        if (!lies_in(row, store) || has_entry(entries, row->uuid))
            continue;
        points = vr_state_rp_list(app->state, row->uuid, NULL);
        if (points == NULL || points->len == 0)
            continue;
        object = finding_object(app, VR_STORE_MISSING, row, row->uuid);
        add_points(object, points);
        json_object_set_int_member(object, "bytes", 0);
        json_array_add_object_element(array, object);
    }
}

JsonArray *
vr_store_findings(VrApp *app, const VrStoreRow *store, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, error);
    g_autoptr(GPtrArray) entries = rows ? vr_store_scan(store->path, error) : NULL;
    JsonArray *array;

    if (entries == NULL)
        return NULL;
    array = json_array_new();
    for (guint i = 0; i < entries->len; i++) {
        const VrStoreEntry *entry = g_ptr_array_index(entries, i);
        const VrProtection *row = row_of(rows, entry->uuid);

        json_array_add_object_element(array,
                                      entry_object(app, entry, row != NULL && lies_in(row, store)));
    }
    add_missing(app, store, rows, entries, array);
    return array;
}

guint
vr_store_count_orphans(VrApp *app, char **ret_store)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, NULL);
    g_autoptr(GPtrArray) stores = vr_state_store_list(app->state, NULL);
    guint orphans = 0;

    *ret_store = NULL;
    for (guint i = 0; rows != NULL && stores != NULL && i < stores->len; i++) {
        const VrStoreRow *store = g_ptr_array_index(stores, i);
        g_autoptr(GPtrArray) uuids = vr_store_uuids(store->path, NULL);

        for (guint k = 0; uuids != NULL && k < uuids->len; k++) {
            if (row_of(rows, g_ptr_array_index(uuids, k)) != NULL ||
                !vr_store_holds(store->path, g_ptr_array_index(uuids, k)))
                continue;
            orphans++;
            if (*ret_store == NULL)
                *ret_store = g_strdup(store->name);
        }
    }
    return orphans;
}

/* Having it back. */

static VrStoreEntry *
find_entry(const VrStoreRow *store, const char *domain, GError **error)
{
    g_autoptr(GPtrArray) entries = NULL;
    VrStoreEntry *found = NULL;
    g_autofree char *shown = NULL;

    if (vr_uuid_valid(domain))
        return vr_store_scan_one(store->path, domain, error);
    entries = vr_store_scan(store->path, error);
    shown = vr_display_name(domain, 255);
    for (guint i = 0; entries != NULL && i < entries->len; i++) {
        VrStoreEntry *entry = g_ptr_array_index(entries, i);

        if (entry->index == NULL || strcmp(entry->index->row->name, domain) != 0)
            continue;
        if (found != NULL) {
            vr_set_error(error, VR_ERROR_INVALID, "ambiguous-name", "Name it by its UUID.",
                         "store '%s' holds two replicas named '%s': %s and %s", store->name, shown,
                         found->uuid, entry->uuid);
            return NULL;
        }
        found = entry;
    }
    if (found != NULL)
        return vr_store_scan_one(store->path, found->uuid, error);
    if (entries != NULL)
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-replica",
                     "See 'virt-replica store-scan' for what the store holds.",
                     "store '%s' holds no replica of a domain '%s' whose index can be read",
                     store->name, shown);
    return NULL;
}

static gboolean
is_whole(const VrStoreRow *store, const VrStoreEntry *entry, GError **error)
{
    if (entry->index != NULL && entry->damage == NULL)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "replica-damaged",
                 "Put the files back from a backup, or drop it and protect the domain again.",
                 "replica %s in store '%s' cannot be used: %s", entry->uuid, store->name,
                 entry->damage);
    return FALSE;
}

static gboolean
is_paired(VrApp *app, const VrStoreIndex *index, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrPeer) peer = vr_state_peer_get(app->state, index->row->peer, &local);
    const char *name = index->peer_name ? index->peer_name : "its source";

    if (peer != NULL)
        return TRUE;
    if (!g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    vr_set_error(error, VR_ERROR_REFUSED, "peer-unknown",
                 "Pair the two hosts anew: 'virt-replica peer-invite' on one, 'peer-join TOKEN' on "
                 "the other; then adopt it.",
                 "domain '%s' was replicated by host '%s' (key %.*s…), which is not paired with "
                 "host '%s'",
                 index->row->name, name, FINGERPRINT_SHOWN, index->row->peer, app->config->name);
    return FALSE;
}

static gboolean
owned_here(const VrProtection *row)
{
    return row->state == VR_PROTECTION_FAILED_OVER || row->state == VR_PROTECTION_COMMITTED;
}

/* A domain of that UUID must be one that we made. Beside a replica that was not failed over it must
 * not run either: then the index is older than what happened here. */
static gboolean
domain_fits(VrApp *app, const VrProtection *row, GError **error)
{
    g_autoptr(GPtrArray) domains = vr_dom_list(app->conn, error);

    for (guint i = 0; domains != NULL && i < domains->len; i++) {
        const VrDomInfo *info = g_ptr_array_index(domains, i);
        g_autofree char *xml = NULL;

        if (strcmp(info->uuid, row->uuid) != 0)
            continue;
        xml = vr_dom_xml_inactive(app->conn, info->uuid, error);
        if (xml == NULL)
            return FALSE;
        if (strstr(xml, VR_DOMAIN_XMLNS) != NULL &&
            (owned_here(row) || info->state == VR_DOM_SHUTOFF))
            return TRUE;
        vr_set_error(error, VR_ERROR_REFUSED, "domain-exists-uuid",
                     "If it is the domain that counts, drop the replica; else shut it off and "
                     "undefine it.",
                     "host '%s' has a domain '%s' with UUID %s, which is not this replica",
                     app->config->name, info->name, info->uuid);
        return FALSE;
    }
    return domains != NULL;
}

/* What a job was doing when the index was written nobody does any more. */
static VrProtectionState
settled_state(const VrStoreIndex *index)
{
    if (owned_here(index->row))
        return index->row->state;
    if (index->row->kept_until_us != 0)
        return VR_PROTECTION_PAUSED;
    return index->rps->len > 0 ? VR_PROTECTION_PROTECTED : VR_PROTECTION_INITIAL;
}

static gboolean
insert_all(VrApp *app, const VrStoreIndex *index, GError **error)
{
    const VrProtection *row = index->row;

    if (!vr_state_rp_delete_all(app->state, row->uuid, error) ||
        !vr_state_protection_insert(app->state, row, error))
        return FALSE;
    for (guint i = 0; i < index->rps->len; i++) {
        if (!vr_state_rp_insert(app->state, g_ptr_array_index(index->rps, i), error))
            return FALSE;
    }
    for (guint i = 0; i < index->holds->len; i++) {
        const VrStoreHold *hold = g_ptr_array_index(index->holds, i);

        if (!vr_state_hold_add(app->state, row->uuid, hold->number, hold->reason, error))
            return FALSE;
    }
    return owned_here(row) ? vr_ownership_unfence(app, row->uuid, error)
                           : vr_ownership_fence(app, row, error);
}

static gboolean
write_all(VrApp *app, const VrStoreIndex *index, GError **error)
{
    if (!vr_state_begin(app->state, error))
        return FALSE;
    if (insert_all(app, index, error))
        return vr_state_commit(app->state, error);
    vr_state_rollback(app->state);
    return FALSE;
}

/* The digests that this host had of the newest RP may be older than the store: they are read from
 * the layers' again. */
static gboolean
adopt_entry(VrApp *app, const VrStoreRow *store, VrStoreEntry *entry, GError **error)
{
    g_autofree char *manifests = vr_app_manifest_dir(app, entry->uuid);
    g_autoptr(VrProtection) known = NULL;
    VrProtection *row;

    if (!find_row(app, entry->uuid, &known, error))
        return FALSE;
    if (known != NULL && lies_in(known, store))
        return TRUE;
    if (known != NULL) {
        vr_set_error(error, VR_ERROR_REFUSED, "protected-otherwise",
                     "See 'virt-replica info'; unprotect it first.",
                     "host '%s' has another protection of domain '%s', as its %s",
                     app->config->name, known->name, vr_role_name(known->role));
        return FALSE;
    }
    if (!is_whole(store, entry, error) || !is_paired(app, entry->index, error))
        return FALSE;
    row = entry->index->row;
    g_free(row->store);
    row->store = g_strdup(store->name);
    row->state = settled_state(entry->index);
    if (!domain_fits(app, row, error) || !vr_remove_tree(manifests, error) ||
        !write_all(app, entry->index, error))
        return FALSE;
    vr_replicas_close(app->replicas, row->uuid);
    vr_replicas_refresh_index(app->replicas, row->uuid);
    g_message("domain '%s': its replica in store '%s' was adopted with %u recovery points",
              row->name, store->name, entry->index->rps->len);
    return TRUE;
}

gboolean
vr_store_adopt(VrApp *app, const VrStoreRow *store, const char *domain, char **ret_uuid,
               GError **error)
{
    g_autoptr(VrStoreEntry) entry = find_entry(store, domain, error);
    gboolean ok;

    if (entry == NULL ||
        !vr_guard_take(app->guards, entry->uuid, "the adoption of a replica", 0, NULL, error))
        return FALSE;
    ok = adopt_entry(app, store, entry, error);
    vr_guard_release(app->guards, entry->uuid);
    if (ok && ret_uuid != NULL)
        *ret_uuid = g_strdup(entry->uuid);
    return ok;
}

/* Having it away. */

static gboolean
uses_dir(VrApp *app, const char *uuid, const char *dir, gboolean *ret_uses, GError **error)
{
    g_autoptr(GPtrArray) disks = vr_dom_disks(app->conn, uuid, error);

    *ret_uses = FALSE;
    for (guint i = 0; disks != NULL && i < disks->len; i++) {
        const VrDomDisk *disk = g_ptr_array_index(disks, i);

        *ret_uses = *ret_uses || (disk->path != NULL && g_str_has_prefix(disk->path, dir));
    }
    return disks != NULL;
}

static gboolean
is_unused(VrApp *app, const char *path, const char *uuid, GError **error)
{
    g_autofree char *dir = g_strdup_printf("%s/%s/", path, uuid);
    g_autoptr(GPtrArray) domains = vr_dom_list(app->conn, error);

    for (guint i = 0; domains != NULL && i < domains->len; i++) {
        const VrDomInfo *info = g_ptr_array_index(domains, i);
        g_autoptr(GError) local = NULL;
        gboolean uses;

        if (!uses_dir(app, info->uuid, dir, &uses, &local)) {
            if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
                continue;
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        if (!uses)
            continue;
        vr_set_error(error, VR_ERROR_REFUSED, "replica-in-use", "Undefine that domain first.",
                     "domain '%s' of host '%s' has disks in %s", info->name, app->config->name,
                     dir);
        return FALSE;
    }
    return domains != NULL;
}

static gboolean
drop_guarded(VrApp *app, const VrStoreRow *store, const char *uuid, GError **error)
{
    g_autofree char *dir = g_build_filename(store->path, uuid, NULL);
    g_autofree char *manifests = vr_app_manifest_dir(app, uuid);
    g_autoptr(VrProtection) row = NULL;

    if (!find_row(app, uuid, &row, error))
        return FALSE;
    if (row != NULL) {
        vr_set_error(error, VR_ERROR_REFUSED, "replica-known",
                     "Use 'virt-replica unprotect' to end its protection.",
                     "domain '%s' (%s) is protected by or replicated to host '%s'", row->name, uuid,
                     app->config->name);
        return FALSE;
    }
    if (!is_unused(app, store->path, uuid, error) || !vr_remove_tree(dir, error) ||
        !vr_fsync_dir(store->path, error) || !vr_remove_tree(manifests, error) ||
        !vr_state_rp_delete_all(app->state, uuid, error))
        return FALSE;
    g_message("the replica %s in store '%s', which no protection knew, was removed", uuid,
              store->name);
    return TRUE;
}

gboolean
vr_store_drop(VrApp *app, const VrStoreRow *store, const char *uuid, GError **error)
{
    g_autoptr(VrStoreEntry) entry = vr_store_scan_one(store->path, uuid, error);
    gboolean ok;

    if (entry == NULL || !vr_guard_take(app->guards, uuid, "removal of a replica", 0, NULL, error))
        return FALSE;
    ok = drop_guarded(app, store, uuid, error);
    vr_guard_release(app->guards, uuid);
    return ok;
}
