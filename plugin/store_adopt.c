/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/store_adopt.h"

#include <string.h>

#include "plugin/fence_restore.h"
#include "plugin/ownership.h"
#include "plugin/store_use.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "qmp/domain/domain_mark.h"
#include "qmp/domain/domain_ops.h"
#include "storage/util/file_util.h"

#define FINGERPRINT_SHOWN 16

/* Having it back. */

/* (transfer full) */
static char *
find_uuid(const VrStoreRow *store, const char *domain, GError **error)
{
    g_autoptr(GPtrArray) entries = NULL;
    const VrStoreEntry *found = NULL;
    g_autofree char *shown = NULL;

    if (vr_uuid_valid(domain))
        return g_strdup(domain);
    entries = vr_store_scan(store->path, error);
    shown = vr_display_name(domain, 255);
    for (guint i = 0; entries != NULL && i < entries->len; i++) {
        const VrStoreEntry *entry = g_ptr_array_index(entries, i);

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
    if (entries != NULL && found == NULL)
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-replica",
                     "See 'virt-replica store-scan' for what the store holds.",
                     "store '%s' holds no replica of a domain '%s' whose index can be read",
                     store->name, shown);
    return found ? g_strdup(found->uuid) : NULL;
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
    g_auto(VrDomMark) mark = {0};
    VrDomState state = VR_DOM_SHUTOFF;

    if (!vr_dom_mark_read(app->conn, row->uuid, &mark, error) ||
        (mark.exists && !vr_dom_state(app->conn, row->uuid, &state, error)))
        return FALSE;
    if (!mark.exists ||
        (g_strcmp0(mark.role, "replica") == 0 && (owned_here(row) || state == VR_DOM_SHUTOFF)))
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "domain-exists-uuid",
                 "If it is the domain that counts, drop the replica; else shut it off and "
                 "undefine it.",
                 "host '%s' has a domain with UUID %s (of replica '%s'), which %s",
                 app->config->name, row->uuid, row->name,
                 mark.role ? "runs although the store does not say so"
                           : "virt-replica did not make");
    return FALSE;
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
    return TRUE;
}

/* An older row goes with all that hangs on it: the store knows what came of that. */
static gboolean
write_all(VrApp *app, const VrStoreIndex *index, const VrProtection *known, GError **error)
{
    if (!vr_state_begin(app->state, error))
        return FALSE;
    if ((known == NULL || vr_state_protection_delete(app->state, known->uuid, error)) &&
        insert_all(app, index, error))
        return vr_state_commit(app->state, error);
    vr_state_rollback(app->state);
    return FALSE;
}

/* TRUE if there is something to take over. */
static gboolean
is_wanted(VrApp *app, const VrStoreRow *store, const VrStoreEntry *entry, const VrProtection *known,
          GError **error)
{
    VrStoreAge age;

    if (known == NULL)
        return TRUE;
    if (!vr_store_has_row(known, store)) {
        vr_set_error(error, VR_ERROR_REFUSED, "protected-otherwise",
                     "See 'virt-replica info'; unprotect it first.",
                     "host '%s' has another protection of domain '%s', as its %s",
                     app->config->name, known->name, vr_role_name(known->role));
        return FALSE;
    }
    if (!vr_store_entry_age(app, entry, known, &age, error))
        return FALSE;
    if (age == VR_STORE_AGE_DIVERGED)
        vr_set_error(error, VR_ERROR_REFUSED, "replica-diverged",
                     "Put the current state.db back. If there is none and the store counts: stop "
                     "the daemon, move state.db away, start it, pair the hosts anew and adopt. If "
                     "the replica is not wanted: store-scan --drop.",
                     "domain '%s': store '%s' of host '%s' holds recovery points that the database "
                     "does not know, of a history that does not follow from the database's",
                     known->name, store->name, app->config->name);
    return age == VR_STORE_AGE_NEWER;
}

/* The digests that this host had of the newest RP may be older than the store: they are read from
 * the layers' again. The fence follows the database as it does after a restart, which is what
 * happens if we are killed in between. */
static gboolean
take_over(VrApp *app, const VrStoreRow *store, VrStoreEntry *entry, const VrProtection *known,
          GError **error)
{
    g_autofree char *manifests = vr_app_manifest_dir(app, entry->uuid);
    VrProtection *row;

    if (!is_whole(store, entry, error) || !is_paired(app, entry->index, error))
        return FALSE;
    row = entry->index->row;
    g_free(row->store);
    row->store = g_strdup(store->name);
    row->state = settled_state(entry->index);
    if (!domain_fits(app, row, error))
        return FALSE;
    vr_replicas_close(app->replicas, row->uuid);
    if (!vr_remove_tree(manifests, error) || !vr_store_take_back(store->path, row->uuid, error) ||
        !write_all(app, entry->index, known, error))
        return FALSE;
    vr_fence_restore_row(app, row->uuid);
    vr_replicas_refresh_index(app->replicas, row->uuid);
    g_message("domain '%s': its replica in store '%s' was adopted with %u recovery points",
              row->name, store->name, entry->index->rps->len);
    return TRUE;
}

static gboolean
adopt_entry(VrApp *app, const VrStoreRow *store, VrStoreEntry *entry, gboolean *ret_known,
            GError **error)
{
    g_autoptr(VrProtection) known = NULL;
    g_autoptr(GError) local = NULL;

    if (!vr_state_protection_find(app->state, entry->uuid, &known, error))
        return FALSE;
    if (is_wanted(app, store, entry, known, &local))
        return take_over(app, store, entry, known, error);
    *ret_known = local == NULL;
    if (local == NULL)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean
is_paused_here(VrApp *app, const VrStoreEntry *entry)
{
    VrDomState state;

    return entry->index != NULL && owned_here(entry->index->row) &&
           vr_dom_state(app->conn, entry->uuid, &state, NULL) && state == VR_DOM_PAUSED;
}

void
vr_store_adopted_clear(VrStoreAdopted *self)
{
    g_clear_pointer(&self->uuid, g_free);
    g_clear_pointer(&self->name, g_free);
}

gboolean
vr_store_adopt(VrApp *app, const VrStoreRow *store, const char *domain, VrStoreAdopted *ret_adopted,
               GError **error)
{
    g_autofree char *uuid = find_uuid(store, domain, error);
    g_autoptr(VrStoreEntry) entry = NULL;
    gboolean known = FALSE;
    gboolean ok;

    if (uuid == NULL ||
        !vr_guard_take(app->guards, uuid, "the adoption of a replica", 0, NULL, error))
        return FALSE;
    entry = vr_store_scan_one(store->path, uuid, error);
    ok = entry != NULL && adopt_entry(app, store, entry, &known, error);
    vr_guard_release(app->guards, uuid);
    if (ok && ret_adopted != NULL)
        *ret_adopted = (VrStoreAdopted){
            .uuid = g_steal_pointer(&uuid),
            .name = g_strdup(entry->index ? entry->index->row->name : NULL),
            .was_known = known,
            .is_paused = is_paused_here(app, entry),
        };
    return ok;
}

/* Having it away. */

/* One that the database knows better than this goes by unprotect. */
static gboolean
may_drop(VrApp *app, const VrStoreRow *store, const VrStoreEntry *entry, const VrProtection *known,
         GError **error)
{
    VrStoreAge age = VR_STORE_AGE_CURRENT;

    if (known != NULL && !vr_store_entry_age(app, entry, known, &age, error))
        return FALSE;
    if (known == NULL ||
        (vr_store_has_row(known, store) && !owned_here(known) && age != VR_STORE_AGE_CURRENT))
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "replica-known",
                 "Use 'virt-replica unprotect' to end its protection.",
                 "domain '%s' (%s) is protected by or replicated to host '%s'", known->name,
                 known->uuid, app->config->name);
    return FALSE;
}

/* The row goes last: killed in between, it is that of a replica whose files are missing. */
static gboolean
remove_row(VrApp *app, const VrProtection *row, GError **error)
{
    return row == NULL || (vr_ownership_unfence(app, row->uuid, error) &&
                           vr_state_protection_delete(app->state, row->uuid, error));
}

static gboolean
drop_entry(VrApp *app, const VrStoreRow *store, const VrStoreEntry *entry, GError **error)
{
    g_autofree char *dir = g_build_filename(store->path, entry->uuid, NULL);
    g_autofree char *manifests = vr_app_manifest_dir(app, entry->uuid);
    g_autoptr(VrProtection) row = NULL;

    if (!vr_state_protection_find(app->state, entry->uuid, &row, error) ||
        !may_drop(app, store, entry, row, error) ||
        !vr_store_check_unused(app, dir, entry->uuid, error))
        return FALSE;
    vr_replicas_close(app->replicas, entry->uuid);
    if (!vr_remove_tree(dir, error) || !vr_fsync_dir(store->path, error) ||
        !vr_remove_tree(manifests, error) ||
        !vr_state_rp_delete_all(app->state, entry->uuid, error) || !remove_row(app, row, error))
        return FALSE;
    g_message("the replica %s in store '%s' was removed", entry->uuid, store->name);
    return TRUE;
}

gboolean
vr_store_drop(VrApp *app, const VrStoreRow *store, const char *domain, GError **error)
{
    g_autofree char *uuid = find_uuid(store, domain, error);
    g_autoptr(VrStoreEntry) entry = NULL;
    gboolean ok;

    if (uuid == NULL || !vr_guard_take(app->guards, uuid, "removal of a replica", 0, NULL, error))
        return FALSE;
    entry = vr_store_scan_one(store->path, uuid, error);
    ok = entry != NULL && drop_entry(app, store, entry, error);
    vr_guard_release(app->guards, uuid);
    return ok;
}
