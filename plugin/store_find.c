/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/store_find.h"

#include <string.h>

#include "plugin/api/api.h"

typedef enum {
    VR_STORE_KNOWN,    /* the database has it */
    VR_STORE_NEWER,    /* the database is older than what the store says */
    VR_STORE_DIVERGED, /* the two contradict each other */
    VR_STORE_ORPHANED, /* no row: it can be adopted or dropped */
    VR_STORE_LET_GO,   /* no row any more: its protection was ended by force, its domain goes on */
    VR_STORE_DAMAGED,  /* no row, and files are missing or the index cannot be read */
    VR_STORE_MISSING,  /* a row with recovery points and no directory */
} VrStoreFinding;

static const char *
finding_name(VrStoreFinding finding)
{
    switch (finding) {
    case VR_STORE_KNOWN:
        return "known";
    case VR_STORE_NEWER:
        return "newer";
    case VR_STORE_DIVERGED:
        return "diverged";
    case VR_STORE_ORPHANED:
        return "orphaned";
    case VR_STORE_LET_GO:
        return "let-go";
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

gboolean
vr_store_entry_age(VrApp *app, const VrStoreEntry *entry, const VrProtection *row,
                   VrStoreAge *ret_age, GError **error)
{
    g_autoptr(GPtrArray) rps = vr_state_rp_list(app->state, row->uuid, error);

    if (rps == NULL)
        return FALSE;
    *ret_age = entry->index ? vr_store_age(entry->index, row, rps) : VR_STORE_AGE_CURRENT;
    return TRUE;
}

/* @row: (nullable): of the database. */
static VrStoreFinding
judge(VrApp *app, const VrStoreEntry *entry, const VrProtection *row)
{
    VrStoreAge age;

    if (row == NULL && entry->let_go)
        return VR_STORE_LET_GO;
    if (row == NULL)
        return entry->damage ? VR_STORE_DAMAGED : VR_STORE_ORPHANED;
    if (!vr_store_entry_age(app, entry, row, &age, NULL))
        return VR_STORE_KNOWN;
    switch (age) {
    case VR_STORE_AGE_CURRENT:
        return VR_STORE_KNOWN;
    case VR_STORE_AGE_NEWER:
        return VR_STORE_NEWER;
    case VR_STORE_AGE_DIVERGED:
        return VR_STORE_DIVERGED;
    }
    return VR_STORE_KNOWN;
}

/* All files are there: what reading them back has found is in the database. */
static void
add_known_damage(VrApp *app, const VrProtection *row, JsonObject *object)
{
    VrReplica *replica = vr_replicas_get(app->replicas, row->uuid, NULL);
    g_autoptr(GPtrArray) points = replica ? vr_replica_list(replica, NULL) : NULL;
    g_autofree char *text = NULL;
    guint damaged = 0;

    for (guint i = 0; points != NULL && i < points->len; i++)
        damaged += ((const VrRecoveryPoint *) points->pdata[i])->damaged_disk != NULL;
    if (replica != NULL)
        vr_replicas_put(app->replicas, replica);
    if (damaged == 0)
        return;
    text = g_strdup_printf("%u of its recovery points, see rp-list", damaged);
    json_object_set_string_member(object, "damage", text);
}

static JsonObject *
entry_object(VrApp *app, const VrStoreEntry *entry, const VrProtection *row)
{
    JsonObject *object = finding_object(app, judge(app, entry, row),
                                        entry->index ? entry->index->row : NULL, entry->uuid);

    json_object_set_int_member(object, "bytes", (gint64) entry->bytes);
    if (entry->index != NULL) {
        add_points(object, entry->index->rps);
        if (!json_object_has_member(object, "peer") && entry->index->peer_name != NULL)
            json_object_set_string_member(object, "peer", entry->index->peer_name);
    }
    if (entry->damage != NULL)
        json_object_set_string_member(object, "damage", entry->damage);
    else if (row != NULL)
        add_known_damage(app, row, object);
    return object;
}

gboolean
vr_store_has_row(const VrProtection *row, const VrStoreRow *store)
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

        if (!vr_store_has_row(row, store) || has_entry(entries, row->uuid))
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

        if (row != NULL && !vr_store_has_row(row, store))
            row = NULL;
        json_array_add_object_element(array, entry_object(app, entry, row));
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
                !vr_store_holds(store->path, g_ptr_array_index(uuids, k)) ||
                vr_store_is_let_go(store->path, g_ptr_array_index(uuids, k)))
                continue;
            orphans++;
            if (*ret_store == NULL)
                *ret_store = g_strdup(store->name);
        }
    }
    return orphans;
}
