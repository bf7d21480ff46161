/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/ownership.h"

#include <string.h>

#include "policies/error.h"
#include "storage/util/file_util.h"

#define REFUSED_MAX (64 * 1024) /* bytes of ids: some 1900; no promise is forgotten */

/* Row and transfer as they are inside the transaction. */
typedef struct {
    VrApp *app;
    VrProtection *row;    /* owned */
    VrTransfer *transfer; /* owned, nullable */
} Tx;

static gboolean
tx_begin(Tx *tx, VrApp *app, const char *uuid, GError **error)
{
    *tx = (Tx){.app = app};
    if (!vr_state_begin(app->state, error))
        return FALSE;
    tx->row = vr_state_protection_get(app->state, uuid, error);
    if (tx->row != NULL && vr_state_transfer_get(app->state, uuid, &tx->transfer, error))
        return TRUE;
    g_clear_pointer(&tx->row, vr_protection_free);
    vr_state_rollback(app->state);
    return FALSE;
}

/* @ok: what was done so far. */
static gboolean
tx_end(Tx *tx, gboolean ok, GError **error)
{
    if (ok)
        ok = vr_state_commit(tx->app->state, error);
    else
        vr_state_rollback(tx->app->state);
    g_clear_pointer(&tx->row, vr_protection_free);
    g_clear_pointer(&tx->transfer, vr_transfer_free);
    return ok;
}

static gboolean
wrong_state(const Tx *tx, const char *what, GError **error)
{
    vr_set_error(error, VR_ERROR_REFUSED, "wrong-state", "See 'virt-replica info' on both hosts.",
                 "domain '%s' in state '%s': %s", tx->row->name,
                 vr_protection_state_name(tx->row->state), what);
    return FALSE;
}

static gboolean
in_phase(const Tx *tx, VrTransferPhase phase)
{
    return tx->transfer != NULL && tx->transfer->phase == phase;
}

gboolean
vr_ownership_leave(VrApp *app, VrProtection *row, gboolean ran, GError **error)
{
    VrTransfer leaving = {.uuid = row->uuid, .phase = VR_TRANSFER_LEAVING, .ran = ran};
    Tx tx;
    gboolean ok = TRUE;

    if (!tx_begin(&tx, app, row->uuid, error))
        return FALSE;
    if (tx.row->role != VR_ROLE_SOURCE)
        ok = wrong_state(&tx, "only its source can hand it over", error);
    else if (tx.transfer == NULL)
        ok = vr_state_transfer_put(app->state, &leaving, error) &&
             vr_app_set_state(app, row->uuid, VR_EVENT_FAILOVER_STARTED, row, error);
    return tx_end(&tx, ok, error);
}

static char *
next_line(const VrProtection *row, const char *owner, GError **error)
{
    g_autoptr(VrGeneration) mine = vr_generation_from_line(row->generation, error);
    g_autofree char *id = vr_random_id();
    g_autoptr(VrGeneration) next = mine ? vr_generation_advance(mine, id, owner) : NULL;

    if (mine != NULL && next == NULL)
        vr_set_error(error, VR_ERROR_INTERNAL, "generation-not-advanced", NULL,
                     "domain '%s': its generation cannot advance", row->name);
    return next ? vr_generation_to_line(next) : NULL;
}

char *
vr_ownership_offer(VrApp *app, const char *uuid, GError **error)
{
    g_autofree char *line = NULL;
    Tx tx;
    gboolean ok;

    if (!tx_begin(&tx, app, uuid, error))
        return NULL;
    if (in_phase(&tx, VR_TRANSFER_HANDING_OVER)) {
        line = g_strdup(tx.transfer->generation);
        ok = TRUE;
    } else if (!in_phase(&tx, VR_TRANSFER_LEAVING)) {
        ok = wrong_state(&tx, "no failover of it is under way", error);
    } else {
        line = next_line(tx.row, tx.row->peer, error);
        tx.transfer->phase = VR_TRANSFER_HANDING_OVER;
        g_free(tx.transfer->generation);
        tx.transfer->generation = g_strdup(line);
        ok = line != NULL && vr_state_transfer_put(app->state, tx.transfer, error);
    }
    return tx_end(&tx, ok, error) ? g_steal_pointer(&line) : NULL;
}

gboolean
vr_ownership_handed_over(VrApp *app, const char *uuid, GError **error)
{
    Tx tx;
    gboolean ok;

    if (!tx_begin(&tx, app, uuid, error))
        return FALSE;
    if (tx.row->state == VR_PROTECTION_FAILED_OVER)
        ok = TRUE;
    else if (!in_phase(&tx, VR_TRANSFER_HANDING_OVER))
        ok = wrong_state(&tx, "it was offered to nobody", error);
    else
        ok = vr_state_protection_set_generation(app->state, uuid, tx.transfer->generation, error) &&
             vr_app_set_state(app, uuid, VR_EVENT_FAILOVER_DONE, NULL, error) &&
             vr_state_transfer_delete(app->state, uuid, error);
    return tx_end(&tx, ok, error);
}

static gboolean
is_given_up_unheard(const Tx *tx)
{
    return in_phase(tx, VR_TRANSFER_GIVEN_UP) && tx->transfer->generation == NULL;
}

gboolean
vr_ownership_stay(VrApp *app, const char *uuid, GError **error)
{
    Tx tx;
    gboolean ok = TRUE;

    if (!tx_begin(&tx, app, uuid, error))
        return FALSE;
    if (tx.row->state == VR_PROTECTION_FAILING_OVER)
        ok = vr_app_set_state(app, uuid, VR_EVENT_FAILOVER_UNDONE, NULL, error) &&
             vr_state_transfer_delete(app->state, uuid, error);
    else if (is_given_up_unheard(&tx)) /* while it was undone */
        ok = vr_state_transfer_delete(app->state, uuid, error);
    return tx_end(&tx, ok, error);
}

static gboolean
is_contested(const Tx *tx)
{
    if (in_phase(tx, VR_TRANSFER_GIVEN_UP))
        return tx->transfer->generation != NULL;
    if (tx->row->state == VR_PROTECTION_FAILING_OVER)
        return !in_phase(tx, VR_TRANSFER_LEAVING);
    return tx->row->state == VR_PROTECTION_FAILED_OVER || tx->row->state == VR_PROTECTION_COMMITTED;
}

/* What was on its way is remembered until the row goes: who asks again hears the same. */
static gboolean
give_up(const Tx *tx, const char *line, GError **error)
{
    VrTransfer given_up = {
        .uuid = tx->row->uuid,
        .phase = VR_TRANSFER_GIVEN_UP,
        .ran = tx->transfer != NULL && tx->transfer->ran,
        .generation = is_contested(tx) ? (char *) line : NULL,
    };

    return (tx->transfer == NULL && !is_contested(tx)) ||
           vr_state_transfer_put(tx->app->state, &given_up, error);
}

static gboolean
abandon(const Tx *tx, GError **error)
{
    const char *uuid = tx->row->uuid;
    g_autofree char *line =
        is_contested(tx) ? next_line(tx->row, vr_identity_fingerprint(tx->app->identity), error)
                         : g_strdup(tx->row->generation);

    return line != NULL && vr_state_protection_set_generation(tx->app->state, uuid, line, error) &&
           give_up(tx, line, error) &&
           vr_app_set_state(tx->app, uuid, VR_EVENT_ABANDONED, NULL, error);
}

gboolean
vr_ownership_abandon(VrApp *app, const char *uuid, gboolean *ret_contested, GError **error)
{
    Tx tx;
    gboolean ok;

    if (!tx_begin(&tx, app, uuid, error))
        return FALSE;
    ok = tx.row->role == VR_ROLE_SOURCE;
    *ret_contested = ok && is_contested(&tx);
    if (ok)
        ok = in_phase(&tx, VR_TRANSFER_GIVEN_UP) || abandon(&tx, error);
    else
        vr_set_error(error, VR_ERROR_REFUSED, "not-source", NULL,
                     "domain '%s': host '%s' is its target, not its source", tx.row->name,
                     app->config->name);
    return tx_end(&tx, ok, error);
}

gboolean
vr_ownership_restored(VrApp *app, const char *uuid, GError **error)
{
    Tx tx;
    gboolean ok = TRUE;

    if (!tx_begin(&tx, app, uuid, error))
        return FALSE;
    if (is_given_up_unheard(&tx))
        ok = vr_state_transfer_delete(app->state, uuid, error);
    return tx_end(&tx, ok, error);
}

gboolean
vr_ownership_learn(VrApp *app, const VrProtection *row, const VrGeneration *theirs, GError **error)
{
    g_autoptr(VrPeer) peer = vr_state_peer_get(app->state, row->peer, error);
    g_autofree char *line = vr_generation_to_line(theirs);
    Tx tx;
    gboolean ok;

    /* the fence first: it alone keeps the domain from starting */
    if (peer == NULL || !vr_fence_put(app->fence, row->uuid, VR_FENCE_RECORD_FAILED_OVER,
                                      peer->name, vr_generation_id(theirs), error))
        return FALSE;
    vr_scheduler_remove(app->scheduler, row->uuid);
    if (!tx_begin(&tx, app, row->uuid, error))
        return FALSE;
    ok = vr_app_set_state(app, row->uuid, VR_EVENT_FOUND_BEHIND, NULL, error) &&
         vr_state_protection_set_generation(app->state, row->uuid, line, error) &&
         vr_state_transfer_delete(app->state, row->uuid, error);
    return tx_end(&tx, ok, error);
}

/* "," ID "," in the list of those that were refused. */
static gboolean
was_refused(const VrTransfer *transfer, const char *id)
{
    g_autofree char *entry = g_strdup_printf(",%s,", id);

    return transfer != NULL && transfer->refused != NULL &&
           strstr(transfer->refused, entry) != NULL;
}

static gboolean
is_our_child(const Tx *tx, const VrGeneration *generation, GError **error)
{
    g_autoptr(VrGeneration) mine = vr_generation_from_line(tx->row->generation, error);

    if (mine == NULL)
        return FALSE;
    if (vr_generation_ancestors(generation) > 0 &&
        strcmp(vr_generation_ancestor(generation, 0), vr_generation_id(mine)) == 0 &&
        vr_generation_compare(mine, generation) == VR_GENERATION_BEHIND &&
        strcmp(vr_generation_owner(generation), vr_identity_fingerprint(tx->app->identity)) == 0)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "generation-mismatch",
                 "Compare 'virt-replica info' on both hosts.",
                 "domain '%s': the generation to activate does not follow the one of this host",
                 tx->row->name);
    return FALSE;
}

/* Who asks was authorised before; here it is whether this host may become the owner at all. */
static gboolean
may_take(const Tx *tx, const char *line, GError **error)
{
    g_autoptr(VrGeneration) generation = vr_generation_from_line(line, error);
    VrProtectionState next;

    if (generation == NULL)
        return FALSE;
    if (tx->row->role != VR_ROLE_TARGET) {
        vr_set_error(error, VR_ERROR_REFUSED, "not-target", NULL,
                     "domain '%s': host '%s' is its source, not its target", tx->row->name,
                     tx->app->config->name);
        return FALSE;
    }
    if (tx->row->kept_until_us != 0) {
        vr_set_error(error, VR_ERROR_REFUSED, "replica-kept", "Protect the domain again first.",
                     "domain '%s': its source has ended replication, host '%s' only keeps the "
                     "replica",
                     tx->row->name, tx->app->config->name);
        return FALSE;
    }
    if (was_refused(tx->transfer, vr_generation_id(generation))) {
        vr_set_error(error, VR_ERROR_REFUSED, "activation-refused", "Start a new failover.",
                     "domain '%s': the source gave up this failover before", tx->row->name);
        return FALSE;
    }
    if (!is_our_child(tx, generation, error))
        return FALSE;
    return vr_protection_next(tx->row->state, VR_EVENT_FAILOVER_STARTED, &next, error);
}

gboolean
vr_ownership_prepare(VrApp *app, const char *uuid, const VrTakeOver *wanted, GError **error)
{
    VrTransfer preparing = {
        .uuid = (char *) uuid,
        .phase = VR_TRANSFER_PREPARING,
        .autostart = wanted->autostart,
        .generation = (char *) wanted->line,
        .number = wanted->number,
    };
    Tx tx;
    gboolean ok;

    if (!tx_begin(&tx, app, uuid, error))
        return FALSE;
    if (in_phase(&tx, VR_TRANSFER_PREPARING)) {
        ok = wrong_state(&tx, "what an earlier failover made is not removed yet", error);
    } else {
        preparing.refused = tx.transfer ? tx.transfer->refused : NULL;
        ok = may_take(&tx, wanted->line, error) &&
             vr_state_transfer_put(app->state, &preparing, error);
    }
    return tx_end(&tx, ok, error);
}

gboolean
vr_ownership_take(VrApp *app, const char *uuid, GError **error)
{
    Tx tx;
    gboolean ok;

    if (!tx_begin(&tx, app, uuid, error))
        return FALSE;
    if (!in_phase(&tx, VR_TRANSFER_PREPARING)) {
        ok = wrong_state(&tx, "no failover to this host was prepared", error);
    } else if ((ok = may_take(&tx, tx.transfer->generation, error))) {
        tx.transfer->phase = VR_TRANSFER_STARTING;
        g_clear_pointer(&tx.transfer->refused, g_free); /* children of a generation that is over */
        ok = vr_app_set_state(app, uuid, VR_EVENT_FAILOVER_STARTED, NULL, error) &&
             vr_app_set_state(app, uuid, VR_EVENT_FAILOVER_DONE, NULL, error) &&
             vr_state_protection_set_generation(app->state, uuid, tx.transfer->generation, error) &&
             vr_state_transfer_put(app->state, tx.transfer, error);
    }
    return tx_end(&tx, ok, error);
}

gboolean
vr_ownership_arrived(VrApp *app, const char *uuid, GError **error)
{
    Tx tx;
    gboolean ok = TRUE;

    if (!tx_begin(&tx, app, uuid, error))
        return FALSE;
    if (in_phase(&tx, VR_TRANSFER_STARTING))
        ok = vr_state_transfer_delete(app->state, uuid, error);
    return tx_end(&tx, ok, error);
}

gboolean
vr_ownership_given_back(VrApp *app, const char *uuid, GError **error)
{
    Tx tx;
    gboolean ok = TRUE;

    if (!tx_begin(&tx, app, uuid, error))
        return FALSE;
    if (in_phase(&tx, VR_TRANSFER_PREPARING)) {
        VrTransfer rest = {
            .uuid = (char *) uuid, .phase = VR_TRANSFER_REFUSED, .refused = tx.transfer->refused};

        ok = rest.refused != NULL ? vr_state_transfer_put(app->state, &rest, error)
                                  : vr_state_transfer_delete(app->state, uuid, error);
    }
    return tx_end(&tx, ok, error);
}

static gboolean
add_refused(Tx *tx, const char *id, GError **error)
{
    VrTransfer *transfer = tx->transfer;
    g_autofree char *before = transfer->refused ? transfer->refused : g_strdup(",");

    transfer->refused = NULL;
    if (strlen(before) < REFUSED_MAX) {
        transfer->refused = g_strdup_printf("%s%s,", before, id);
        return TRUE;
    }
    vr_set_error(error, VR_ERROR_REFUSED, "too-many-refusals",
                 "Let one failover succeed, or unprotect the domain and protect it again.",
                 "domain '%s': its source has given up more failovers to host '%s' than it can "
                 "promise not to take",
                 tx->row->name, tx->app->config->name);
    return FALSE;
}

/* It is ours, or was before a later one. */
static gboolean
was_taken(const Tx *tx, const VrGeneration *generation, gboolean *ret_taken, GError **error)
{
    g_autoptr(VrGeneration) mine = vr_generation_from_line(tx->row->generation, error);

    *ret_taken = mine != NULL && vr_generation_knows(mine, vr_generation_id(generation));
    return mine != NULL;
}

static gboolean
refuse(Tx *tx, const VrGeneration *generation, GError **error)
{
    if (was_refused(tx->transfer, vr_generation_id(generation)))
        return TRUE;
    if (tx->transfer == NULL) {
        tx->transfer = g_new0(VrTransfer, 1);
        tx->transfer->uuid = g_strdup(tx->row->uuid);
        tx->transfer->phase = VR_TRANSFER_REFUSED;
    }
    return add_refused(tx, vr_generation_id(generation), error) &&
           vr_state_transfer_put(tx->app->state, tx->transfer, error);
}

gboolean
vr_ownership_refuse(VrApp *app, const char *uuid, const char *line, gboolean *ret_refused,
                    GError **error)
{
    g_autoptr(VrGeneration) generation = vr_generation_from_line(line, error);
    gboolean taken = FALSE;
    Tx tx;

    if (generation == NULL || !tx_begin(&tx, app, uuid, error) ||
        !tx_end(&tx,
                was_taken(&tx, generation, &taken, error) &&
                    (taken || refuse(&tx, generation, error)),
                error))
        return FALSE;
    *ret_refused = !taken;
    return TRUE;
}

gboolean
vr_ownership_revive(VrApp *app, const VrProtection *row, const char *line, GError **error)
{
    g_autoptr(VrProtection) now = NULL;

    if (!vr_state_protection_set_generation(app->state, row->uuid, line, error))
        return FALSE;
    now = vr_state_protection_get(app->state, row->uuid, error);
    return now != NULL && vr_ownership_fence(app, now, error);
}

gboolean
vr_ownership_settled(VrApp *app, const VrProtection *row)
{
    g_autoptr(VrTransfer) transfer = NULL;

    return row->role == VR_ROLE_TARGET && row->state == VR_PROTECTION_FAILED_OVER &&
           vr_state_transfer_get(app->state, row->uuid, &transfer, NULL) &&
           (transfer == NULL || transfer->phase != VR_TRANSFER_STARTING);
}

gboolean
vr_ownership_fence(VrApp *app, const VrProtection *row, GError **error)
{
    g_autoptr(VrPeer) peer = vr_state_peer_get(app->state, row->peer, NULL);
    g_autoptr(VrGeneration) generation = vr_generation_from_line(row->generation, error);
    VrFenceRecordState state =
        row->role == VR_ROLE_TARGET ? VR_FENCE_RECORD_REPLICA : VR_FENCE_RECORD_FAILED_OVER;

    return generation != NULL &&
           vr_fence_put(app->fence, row->uuid, state, peer ? peer->name : row->peer,
                        vr_generation_id(generation), error);
}

gboolean
vr_ownership_unfence(VrApp *app, const char *uuid, GError **error)
{
    return vr_fence_remove(app->fence, uuid, error);
}
