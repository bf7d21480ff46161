/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/cycle.h"

#include "plugin/cycle/cycle_run.h"
#include "policies/error.h"
#include "qmp/point/checkpoint.h"
#include "qmp/point/point.h"

/* Everything arrived there before the crash: COMMIT again gives the same answer or says why not.
 * NULL without
 * @error: the target refused it, so it is not committed. */
static VrRecoveryPoint *
commit_again(VrPeerClient *peer, const VrCycleJournal *journal, GCancellable *cancel,
             GError **error)
{
    g_autoptr(JsonNode) node = journal->commit ? json_from_string(journal->commit, NULL) : NULL;
    g_autoptr(VrCycleCommit) commit = node ? vr_cycle_commit_from_json(node, error) : NULL;
    g_autoptr(GError) refused = NULL;
    VrRecoveryPoint *rp;

    if (commit == NULL)
        return NULL;
    rp = vr_peer_client_commit(peer, journal->uuid, commit, cancel, &refused);
    if (rp != NULL)
        return rp;
    if (vr_error_is_transient(refused) || g_error_matches(refused, VR_ERROR, VR_ERROR_CANCELLED))
        g_propagate_error(error, g_steal_pointer(&refused));
    else
        g_message("cycle %s of %s is given up: %s", journal->cycle, journal->uuid,
                  refused->message);
    return NULL;
}

/* Not the root of what was sent: it is no base, and the next cycle compares with the
 * target's digests. */
static gboolean
prove(VrApp *app, const VrProtection *row, const VrCycleJournal *journal, VrRecoveryPoint **rp,
      GError **error)
{
    g_autoptr(JsonNode) node = journal->commit ? json_from_string(journal->commit, NULL) : NULL;
    g_autoptr(VrCycleCommit) commit = node ? vr_cycle_commit_from_json(node, NULL) : NULL;
    g_autoptr(GError) local = NULL;

    if (commit != NULL && vr_cycle_accept_rp(row, commit, *rp, &local))
        return TRUE;
    g_clear_pointer(rp, vr_recovery_point_free);
    if (local != NULL && !g_error_matches(local, VR_ERROR, VR_ERROR_CORRUPT)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_warning("domain '%s': what its last cycle sent cannot be proven (%s); the next one compares "
              "everything with the target",
              row->name, local ? local->message : "its journal cannot be read");
    return vr_state_protection_distrust_manifest(app->state, row->uuid, error);
}

/* What became of a cycle whose COMMIT may have got through. FALSE: cannot be known now. */
static gboolean
ask_target(VrApp *app, const VrProtection *row, const VrCycleJournal *journal,
           VrRecoveryPoint **ret_rp, GCancellable *cancel, GError **error)
{
    VrPeerClient *peer = vr_peer_pool_get(app->peers, row->peer, error);
    g_autoptr(GError) local = NULL;
    VrCycleStatus status;

    if (peer == NULL)
        return FALSE;
    if (vr_peer_client_cycle_status(peer, row->uuid, journal->cycle, &status, ret_rp, cancel,
                                    &local) &&
        status == VR_CYCLE_OPEN)
        *ret_rp = commit_again(peer, journal, cancel, &local);
    if (local == NULL && (*ret_rp == NULL || prove(app, row, journal, ret_rp, &local)))
        return TRUE;
    g_propagate_prefixed_error(
        error, g_steal_pointer(&local),
        "domain '%s': whether its last cycle was committed is not known: ", row->name);
    return FALSE;
}

/* All but that of the base as it is recorded now: a row that was read before may name the one
 * before it. */
static gboolean
sweep_checkpoints(VrApp *app, const char *uuid, GError **error)
{
    g_autoptr(VrProtection) now = vr_state_protection_get(app->state, uuid, error);

    return now != NULL && vr_checkpoint_sweep(app->conn, uuid, now->checkpoint, NULL, error);
}

static gboolean
finish_committed(VrApp *app, VrProtection *row, GError **error)
{
    return vr_cycle_finish(app, row, error) && sweep_checkpoints(app, row->uuid, error) &&
           vr_state_cycle_delete(app->state, row->uuid, error);
}

static gboolean
finish_given_up(VrApp *app, const VrProtection *row, GError **error)
{
    g_autoptr(GPtrArray) manifests = vr_cycle_manifests_open_base(app, row, error);

    return manifests != NULL && vr_cycle_manifests_discard(manifests, error) &&
           sweep_checkpoints(app, row->uuid, error) &&
           vr_state_cycle_delete(app->state, row->uuid, error);
}

static gboolean
recover(VrApp *app, VrProtection *row, const VrCycleJournal *journal, GCancellable *cancel,
        GError **error)
{
    gboolean recorded = g_strcmp0(row->base_cycle, journal->cycle) == 0;
    gboolean may_be_base = recorded || journal->sent;
    g_autoptr(VrRecoveryPoint) rp = NULL;

    if (journal->point != NULL && !vr_point_recover(app->conn, journal->point, may_be_base, error))
        return FALSE;
    if (recorded)
        return finish_committed(app, row, error);
    if (journal->sent && !ask_target(app, row, journal, &rp, cancel, error))
        return FALSE;
    if (rp == NULL)
        return finish_given_up(app, row, error);
    return vr_cycle_record(app, row, journal, rp, error) && finish_committed(app, row, error);
}

gboolean
vr_cycle_recover(VrApp *app, const char *uuid, GCancellable *cancel, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrCycleJournal) journal = vr_state_cycle_get(app->state, uuid, &local);
    g_autoptr(VrProtection) row = NULL;

    if (local != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (journal == NULL)
        return TRUE;
    row = vr_state_protection_get(app->state, uuid, error);
    return row != NULL && recover(app, row, journal, cancel, error);
}

gboolean
vr_cycle_clean(VrApp *app, const char *uuid, GCancellable *cancel, GError **error)
{
    return vr_cycle_recover(app, uuid, cancel, error) &&
           vr_point_sweep(app->conn, uuid, NULL, error) && sweep_checkpoints(app, uuid, error);
}
