/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_replica.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "plugin/ownership.h"
#include "plugin/store_use.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"
#include "storage/replica/store_scan.h"

#define KEEP_FOR_EVER G_MAXINT64
#define GUARD_WAIT_MS 5000

gboolean
vr_peer_replica_check_role(VrApp *app, const VrProtection *row, const char *slug, GError **error)
{
    g_autofree char *word = NULL;
    g_autofree char *action = NULL;

    if (row->role != VR_ROLE_TARGET) {
        vr_set_error(error, VR_ERROR_REFUSED, "not-target", "Unprotect it on this host first.",
                     "domain '%s' is protected by host '%s' itself", row->name, app->config->name);
        return FALSE;
    }
    if (row->state == VR_PROTECTION_INITIAL || row->state == VR_PROTECTION_PROTECTED ||
        row->state == VR_PROTECTION_PAUSED)
        return TRUE;
    word = vr_shell_word(row->name);
    action =
        g_strdup_printf("On host '%s': 'virt-replica unprotect %s --force' ends the protection "
                        "and leaves the domain there as it is.",
                        app->config->name, word);
    vr_set_error(error, VR_ERROR_REFUSED, slug, action,
                 "domain '%s' was failed over to host '%s', which owns it", row->name,
                 app->config->name);
    return FALSE;
}

gboolean
vr_peer_replica_check_going(VrApp *app, const VrProtection *row, GError **error)
{
    if (row->kept_until_us == 0)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "replica-kept",
                 "Unprotect the domain on its source; to protect it there again takes the replica "
                 "back.",
                 "domain '%s': its replication to host '%s' was ended", row->name,
                 app->config->name);
    return FALSE;
}

/* Retention may have opened it anew, empty, as long as there was a row. */
static gboolean
remove_directories(VrApp *app, const VrProtection *row, GError **error)
{
    VrStoreRow *store = vr_state_store_get(app->state, row->store, error);
    g_autofree char *dir = store ? g_build_filename(store->path, row->uuid, NULL) : NULL;
    g_autofree char *manifests = vr_app_manifest_dir(app, row->uuid);

    vr_store_row_free(store);
    vr_replicas_close(app->replicas, row->uuid);
    return dir && vr_remove_tree(dir, error) && vr_remove_tree(manifests, error);
}

/* A domain that somebody made over a layer, by hand or to look into it, keeps it. */
static gboolean
is_unused(VrApp *app, const VrProtection *row, GError **error)
{
    VrStoreRow *store = vr_state_store_get(app->state, row->store, error);
    g_autofree char *dir = store ? g_build_filename(store->path, row->uuid, NULL) : NULL;

    vr_store_row_free(store);
    if (dir == NULL)
        return FALSE;
    vr_replicas_close(app->replicas, row->uuid); /* a merge of ours has them open */
    return (access(dir, F_OK) < 0 && errno == ENOENT) ||
           vr_store_check_unused(app, dir, row->uuid, error);
}

static gboolean
drop(VrApp *app, const VrProtection *row, GError **error)
{
    g_autofree char *manifests = vr_app_manifest_dir(app, row->uuid);

    vr_checked_definitions_forget(app->checked, row->uuid);
    return is_unused(app, row, error) && vr_replicas_destroy(app->replicas, row->uuid, error) &&
           vr_remove_tree(manifests, error) && vr_ownership_unfence(app, row->uuid, error) &&
           vr_state_protection_delete(app->state, row->uuid, error) &&
           remove_directories(app, row, error);
}

/* A store that is not there, or full, must not keep the operator in this. */
static void
mark_let_go(VrApp *app, const VrProtection *row)
{
    g_autoptr(GError) error = NULL;
    VrStoreRow *store = vr_state_store_get(app->state, row->store, &error);

    if (store == NULL || !vr_store_let_go(store->path, row->uuid, &error))
        g_warning("domain '%s': its files will be listed as an orphaned replica: %s", row->name,
                  error->message);
    vr_store_row_free(store);
}

static gboolean
let_go_guarded(VrApp *app, const char *uuid, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, error);
    g_autofree char *manifests = vr_app_manifest_dir(app, uuid);

    if (row == NULL)
        return FALSE;
    if (row->role != VR_ROLE_TARGET || row->state != VR_PROTECTION_FAILED_OVER) {
        vr_set_error(error, VR_ERROR_REFUSED, "not-failed-over", "See 'virt-replica info'.",
                     "domain '%s' was not failed over to host '%s'", row->name, app->config->name);
        return FALSE;
    }
    vr_replicas_close(app->replicas, uuid);
    mark_let_go(app, row);
    return vr_ownership_unfence(app, uuid, error) &&
           vr_state_protection_delete(app->state, uuid, error) && vr_remove_tree(manifests, error);
}

gboolean
vr_peer_replica_let_go(VrApp *app, const char *uuid, GError **error)
{
    gboolean ok;

    if (!vr_guard_take(app->guards, uuid, "the end of its protection", GUARD_WAIT_MS, NULL, error))
        return FALSE;
    ok = let_go_guarded(app, uuid, error);
    vr_guard_release(app->guards, uuid);
    return ok;
}

/* Until when the replica stays; 0: there is nothing to keep, or nobody wants it kept. */
static gboolean
keep_until(VrApp *app, const VrProtection *row, gboolean keep, gint64 *ret_until_us, GError **error)
{
    g_autoptr(GPtrArray) points = vr_state_rp_list(app->state, row->uuid, error);
    g_autoptr(VrPeer) peer = points ? vr_state_peer_get(app->state, row->peer, error) : NULL;
    gint64 now_us = g_get_real_time();
    gint64 grace_us = peer ? peer->delete_grace_us : 0;

    if (peer == NULL)
        return FALSE;
    if (points->len == 0)
        *ret_until_us = 0;
    else if (keep || grace_us > KEEP_FOR_EVER - now_us)
        *ret_until_us = KEEP_FOR_EVER;
    else
        *ret_until_us = grace_us > 0 ? now_us + grace_us : 0;
    return TRUE;
}

static gboolean
write_kept(VrApp *app, const VrProtection *row, gint64 until_us, GError **error)
{
    if (!vr_state_begin(app->state, error))
        return FALSE;
    if (vr_state_protection_set_kept_until(app->state, row->uuid, until_us, error) &&
        (row->state == VR_PROTECTION_PAUSED ||
         vr_app_set_state(app, row->uuid, VR_EVENT_PAUSED, NULL, error)))
        return vr_state_commit(app->state, error);
    vr_state_rollback(app->state);
    return FALSE;
}

static gboolean
end_guarded(VrApp *app, const char *uuid, gboolean keep, gint64 *ret_until_us, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, error);
    gint64 until_us;

    if (row == NULL || !vr_peer_replica_check_role(app, row, "replica-in-use", error) ||
        !keep_until(app, row, keep, &until_us, error))
        return FALSE;
    /* Asked again: the time runs since it was asked first. */
    if (row->kept_until_us != 0 && !keep)
        until_us = row->kept_until_us;
    *ret_until_us = until_us;
    if (until_us == 0)
        return drop(app, row, error);
    if (!write_kept(app, row, until_us, error))
        return FALSE;
    vr_replicas_close(app->replicas, uuid);
    vr_replicas_refresh_index(app->replicas, uuid);
    g_message("domain '%s': its source ended replication; the replica is kept", row->name);
    return TRUE;
}

JsonNode *
vr_peer_replica_end(VrApp *app, const char *uuid, gboolean keep, GError **error)
{
    JsonObject *object;
    gint64 until_us = 0;
    gboolean ok;

    /* Never under an activation, which may be about to own these layers. */
    if (!vr_guard_take(app->guards, uuid, "the end of replication", GUARD_WAIT_MS, NULL, error))
        return NULL;
    ok = end_guarded(app, uuid, keep, &until_us, error);
    vr_guard_release(app->guards, uuid);
    if (!ok)
        return NULL;
    object = json_object_new();
    json_object_set_int_member(object, "kept_until_us", until_us);
    return vr_json_node(object);
}

/* @due_us: only if it is kept and its time was over then; 0: in any case. */
static gboolean
drop_guarded(VrApp *app, const char *uuid, gint64 due_us, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, error);

    if (row == NULL)
        return FALSE;
    if (due_us != 0 && (row->kept_until_us == 0 || row->kept_until_us > due_us))
        return TRUE;
    if (!vr_peer_replica_check_role(app, row, "replica-in-use", error) || !drop(app, row, error))
        return FALSE;
    g_message("domain '%s': its replica was removed", row->name);
    return TRUE;
}

static gboolean
take_and_drop(VrApp *app, const char *uuid, gint64 due_us, GError **error)
{
    gboolean ok;

    if (!vr_guard_take(app->guards, uuid, "removal of the replica", GUARD_WAIT_MS, NULL, error))
        return FALSE;
    ok = drop_guarded(app, uuid, due_us, error);
    vr_guard_release(app->guards, uuid);
    return ok;
}

gboolean
vr_peer_replica_drop(VrApp *app, const char *uuid, GError **error)
{
    return take_and_drop(app, uuid, 0, error);
}

void
vr_peer_replica_drop_due(VrApp *app, VrSaid *said, gint64 now_us)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, NULL);

    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);
        g_autoptr(GError) error = NULL;
        g_autofree char *key = g_strconcat("drop ", row->uuid, NULL);

        if (row->role != VR_ROLE_TARGET || row->kept_until_us == 0 || row->kept_until_us > now_us)
            continue;
        (void) take_and_drop(app, row->uuid, now_us, &error);
        if (vr_said_changed(said, key, error ? error->message : NULL) && error != NULL)
            g_warning("domain '%s': its replica, kept until now, cannot be removed: %s", row->name,
                      error->message);
    }
}
