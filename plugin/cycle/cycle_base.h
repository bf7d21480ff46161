/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/cycle/cycle_run.h"

G_BEGIN_DECLS

/** SECTION: what the target holds already, asked before a cycle is begun and taken into the
 * manifests. Block. */

/**
 * vr_cycle_agree_on_base:
 * @manifests: (element-type VrManifest): in the order of the plan's disks
 *
 * @ret_new: the base of @row is another one than the recorded one; to be recorded once the target
 *   has accepted it with BEGIN as well. Until then the recorded one stays, its manifests unsure
 *
 * S1, first half. Where the target's newest RP is not the base of @row, or the manifests were
 * proven wrong, that RP becomes the base, without a checkpoint: its digests replace ours, and @plan
 * compares everything. Errors: CORRUPT "replica-missing" if the target has no RP any more; those of
 * the peer and of files.
 */
gboolean vr_cycle_agree_on_base(VrApp *app, VrPeerClient *peer, VrProtection *row,
                                VrCyclePlan *plan, GPtrArray *manifests, gboolean *ret_new,
                                GCancellable *cancel, GError **error);

/** What the target says of its newest RP, damaged or sound, is shown here too. */
gboolean vr_cycle_note_damage(VrApp *app, const VrProtection *row, const VrRecoveryPoint *head,
                              GError **error);

/** What an earlier attempt has sent of @disk to the open @cycle. Chunks beyond the manifest are
 * left out. */
gboolean vr_cycle_take_held(VrPeerClient *peer, const char *uuid, const char *cycle,
                            const char *disk, VrManifest *manifest, GCancellable *cancel,
                            GError **error);

G_END_DECLS
