/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/cycle_base.h"

#include "plugin/cycle/attachments.h"
#include "policies/error.h"
#include "storage/replica/manifest.h"
#include "storage/state/state_rp.h"

/* Digests arrive page by page; the first error is kept. */
typedef struct {
    VrManifest *manifest; /* borrowed */
    gboolean ok;
    GError *error; /* owned */
} Taking;

static void
take_digest(guint64 chunk, const VrDigest *digest, gpointer data)
{
    Taking *taking = data;

    if (taking->ok && chunk < vr_manifest_chunks(taking->manifest))
        taking->ok = vr_manifest_set(taking->manifest, chunk, digest, &taking->error);
}

static gboolean
taken(Taking *taking, gboolean ok, GError **error)
{
    if (taking->ok)
        return ok;
    g_clear_error(error);
    g_propagate_error(error, g_steal_pointer(&taking->error));
    return FALSE;
}

/* The disk may have had another size at that RP. */
static gboolean
take_head(VrPeerClient *peer, const char *uuid, const char *disk, VrManifest *manifest,
          GCancellable *cancel, GError **error)
{
    Taking taking = {manifest, TRUE, NULL};
    gboolean ok = vr_peer_client_sums(peer, uuid, disk, vr_manifest_chunks(manifest), take_digest,
                                      &taking, cancel, error);

    return taken(&taking, ok, error);
}

gboolean
vr_cycle_take_held(VrPeerClient *peer, const char *uuid, const char *cycle, const char *disk,
                   VrManifest *manifest, GCancellable *cancel, GError **error)
{
    Taking taking = {manifest, TRUE, NULL};
    gboolean ok = vr_peer_client_held(peer, uuid, cycle, disk, vr_manifest_chunks(manifest),
                                      take_digest, &taking, cancel, error);

    return taken(&taking, ok, error);
}

/* The replica's digests as the target knows them, instead of ours. */
static gboolean
refetch(VrPeerClient *peer, const char *uuid, const VrCyclePlan *plan, GPtrArray *manifests,
        GCancellable *cancel, GError **error)
{
    for (guint i = 0; i < manifests->len; i++) {
        VrManifest *manifest = g_ptr_array_index(manifests, i);
        const VrPlanDisk *disk = g_ptr_array_index(plan->disks, i);

        if (!vr_manifest_reset(manifest, error) ||
            !take_head(peer, uuid, disk->name, manifest, cancel, error) ||
            !vr_manifest_flush(manifest, error) || !vr_manifest_apply(manifest, error))
            return FALSE;
    }
    return TRUE;
}

/* The manifests of the plan's disks hold that RP now, whatever disks the base had. What it shows is
 * the target's word, unless it is the base whose digests only were not known. */
static void
take_head_as_base(VrProtection *row, const VrCyclePlan *plan, VrRecoveryPoint *head)
{
    g_autofree char *disks = vr_cycle_plan_disks_text(plan);
    VrCycleJournal none = {.checkpoint = NULL, .disks = disks};

    head->time_us = MIN(head->time_us, g_get_real_time());
    if (head->number == row->base_number && g_strcmp0(head->cycle, row->base_cycle) == 0) {
        head->time_us = row->base_time_us;
        head->consistency = row->base_consistency;
    }
    vr_cycle_set_base(row, &none, head);
}

static void
compare_everything(VrCyclePlan *plan)
{
    for (guint i = 0; i < plan->disks->len; i++)
        ((VrPlanDisk *) g_ptr_array_index(plan->disks, i))->tracked = FALSE;
    if (plan->kind == VR_CYCLE_DELTA)
        plan->kind = VR_CYCLE_RESYNC;
}

static gboolean
is_base(const VrRecoveryPoint *head, const VrProtection *row)
{
    return head->number == row->base_number && g_strcmp0(head->cycle, row->base_cycle) == 0 &&
           !row->manifest_unsure && head->damaged_disk == NULL;
}

/* What is damaged counts as not held by the target, so that comparing with its digests sends it
 * again. */
gboolean
vr_cycle_note_damage(VrApp *app, const VrProtection *row, const VrRecoveryPoint *head,
                     GError **error)
{
    VrReplicaDamage damage = {head->number, head->damaged_disk, head->damaged_chunks};

    if (head->damaged_disk != NULL) {
        g_message("domain '%s': RP %" G_GUINT64_FORMAT
                  " is damaged on the target, %" G_GUINT64_FORMAT
                  " chunks or files of '%s'; what is not as it was sent is sent again",
                  row->name, head->number, head->damaged_chunks, head->damaged_disk);
        vr_attachments_forget(); /* it keeps none that it found bad */
    }
    return vr_state_damage_set(app->state, row->uuid, head->damaged_disk ? &damage : NULL, error);
}

gboolean
vr_cycle_agree_on_base(VrApp *app, VrPeerClient *peer, VrProtection *row, VrCyclePlan *plan,
                       GPtrArray *manifests, gboolean *ret_new, GCancellable *cancel,
                       GError **error)
{
    g_autoptr(VrRecoveryPoint) head = NULL;

    *ret_new = FALSE;
    if (!vr_peer_client_head(peer, row->uuid, &head, cancel, error))
        return FALSE;
    if (head == NULL && row->base_number == 0)
        return TRUE;
    if (head == NULL) {
        vr_set_error(error, VR_ERROR_CORRUPT, "replica-missing",
                     "Look at the store of the target; if it is gone, unprotect the domain and "
                     "protect it again.",
                     "domain '%s': peer '%s' has no recovery point, but RP %" G_GUINT64_FORMAT
                     " was committed there",
                     row->name, vr_peer_client_name(peer), row->base_number);
        return FALSE;
    }
    if (!vr_cycle_note_damage(app, row, head, error))
        return FALSE;
    if (is_base(head, row))
        return TRUE;
    g_message("domain '%s': the target's newest RP is %" G_GUINT64_FORMAT
              ", ours was %" G_GUINT64_FORMAT "; its digests are read from there",
              row->name, head->number, row->base_number);
    /* Until that base is recorded the manifests are of none that is. */
    if (!vr_state_protection_distrust_manifest(app->state, row->uuid, error) ||
        !refetch(peer, row->uuid, plan, manifests, cancel, error))
        return FALSE;
    take_head_as_base(row, plan, head);
    compare_everything(plan);
    *ret_new = TRUE;
    return TRUE;
}
