/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/target_networks.h"

G_BEGIN_DECLS

/**
 * SECTION: makes a recovery point run on this host, as itself or under another name.
 *
 * A new overlay on each of its layers, copies of its attachments and a definition of our own, all
 * of it taken back without a trace. A domain is defined only where there is none of that UUID, and
 * started, ended or undefined only if it has our mark with the same role and generation: nothing
 * that somebody else made is ever touched. Worker threads; the caller holds the protection's guard.
 */
typedef struct {
    const VrProtection *row; /* borrowed: whose replica */
    guint64 number;          /* RP */
    const char *dir;         /* absolute; for overlays and copies of attachments, ours alone */
    const char *name, *uuid; /* of the domain that is made; never from a message */
    const char *role;        /* "replica", "test" */
    const char *generation;  /* id, for the mark */
    const char *hold;        /* reason for which the RP's layers are held */
    const VrTargetNetworks *networks; /* borrowed */
} VrBoot;

/** STORE/<uuid>/active, where the overlays of the replica itself lie: beside its layers. (transfer
 * full) */
char *vr_boot_active_dir(VrApp *app, const VrProtection *row, GError **error);

/** Holds the RP, makes files and domain; nothing runs. What is in @dir and was not taken back is an
 * error. Errors: NOT_FOUND "no-such-rp", CORRUPT (a layer), REFUSED "domain-exists-uuid", those of
 * the definition. */
gboolean vr_boot_prepare(VrApp *app, const VrBoot *boot, GError **error);

/** Starts it without letting the guest execute an instruction. The fence must be down. */
gboolean vr_boot_start(VrApp *app, const VrBoot *boot, GError **error);

/** Lets it run, defining and starting it anew if it was undefined or ended meanwhile, and waits
 * until it is seen running. Repeatable. Errors: CORRUPT "replica-damaged" (its overlay is gone). */
gboolean vr_boot_run(VrApp *app, const VrBoot *boot, GCancellable *cancel, GError **error);

/** Nothing is left: domain, files, hold. For one that never ran or whose data are not wanted.
 * Repeatable. */
gboolean vr_boot_take_back(VrApp *app, const VrBoot *boot, GError **error);

/**
 * vr_boot_check_definition:
 * @disks: names of the RP's disks; @attachments: names of its attachments
 *
 * Whether a definition as sent with an RP can ever become a domain here: the rules of a
 * protection's definition, the UUID of @row, this host's machine types, and a definition written on
 * trial. Momentary things (free memory, networks) are not looked at. Errors: INVALID "uuid-differs"
 * and those of vr_domain_model_parse(), REFUSED with the code of the finding, TRANSIENT (libvirt
 * cannot be asked).
 */
gboolean vr_boot_check_definition(VrApp *app, const VrProtection *row, const char *xml,
                                  const char *const *disks, const char *const *attachments,
                                  GError **error);

G_END_DECLS
