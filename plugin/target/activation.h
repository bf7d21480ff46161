/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "plugin/target/boot.h"
#include "storage/state/state_transfer.h"

G_BEGIN_DECLS

/**
 * SECTION: the target's half of a planned failover: the replica becomes the running domain.
 *
 * Everything that can fail comes before the generation advances: overlays, definition, a start in
 * paused state, in which the guest has not executed an instruction. An error up to there is undone,
 * and the source may start its domain again. Afterwards this host owns the workload; what fails
 * then is tried again. The work is a job
 * ("activate", plugin/job/job_activate.c); here is what the source asks for, and what a restart
 * finds.
 */

/**
 * vr_activate:
 * @request: {"generation": line, "number", "root", "autostart"}
 *
 * Starts the job, or finds the one that runs, and waits for it for some seconds. Answer {"owner",
 * "running", "job"}, "root" of the RP when it runs, "error" when it does not: ask again. An error
 * means that this host is not the owner and nothing is left or under way. Errors: REFUSED
 * "activation-refused" (vr_deactivate() came first), "root-differs", "generation-mismatch", and
 * those of libvirt.
 */
JsonNode *vr_activate(VrApp *app, const char *uuid, JsonNode *request, GError **error);

/**
 * vr_deactivate:
 * @request: {"generation": line}
 *
 * The source gives up: that generation will not be activated any more. Durable. Answer {"refused":
 * true}, or
 * {"refused": false} if it was activated already: the source must not start its domain.
 */
JsonNode *vr_deactivate(VrApp *app, const char *uuid, JsonNode *request, GError **error);

/**
 * vr_activation_recover:
 *
 * Without a job: a preparation that nobody goes on with is taken back, a domain that this host owns
 * and has not seen running is started. The caller holds the guard. Nothing to do is success.
 */
gboolean vr_activation_recover(VrApp *app, const VrProtection *row, GError **error);

/**
 * vr_activation_confirmed:
 *
 * Before a start that was interrupted goes on, or one that failed is tried again: a person may have
 * told the old host meanwhile to forget the domain (unprotect --force) and this host, and run it
 * there again. One that does not answer is no reason to leave it off. Errors: REFUSED
 * "source-gave-up", recorded as the protection's error. Blocks for a peer that hangs.
 */
gboolean vr_activation_confirmed(VrApp *app, const VrProtection *row, GCancellable *cancel,
                                 GError **error);

/** TRUE if there is something for vr_activation_recover() to do. */
gboolean vr_activation_is_left(VrApp *app, const VrProtection *row);

/* For the job. */

/** What @row boots from as itself. @boot borrows from @row, @transfer and from the two returned
 * strings, which the caller frees. */
gboolean vr_activation_boot(VrApp *app, const VrProtection *row, const VrTransfer *transfer,
                            VrBoot *boot, char **ret_dir, char **ret_generation, GError **error);

/** What the networks of @row's domain become here. (transfer full) */
VrTargetNetworks *vr_activation_networks(VrApp *app, const VrProtection *row, GError **error);

/** Nothing of a preparation is left, the fence stands again. @row and @transfer: as they are now.
 */
gboolean vr_activation_take_back(VrApp *app, const VrProtection *row, const VrTransfer *transfer,
                                 GError **error);

/** This host owns the workload: it is seen running, with the autostart its source had. */
gboolean vr_activation_run(VrApp *app, const VrProtection *row, const VrTransfer *transfer,
                           GCancellable *cancel, GError **error);

G_END_DECLS
