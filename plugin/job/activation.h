/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/**
 * SECTION: the target's half of a planned failover: the replica becomes the running domain.
 *
 * Everything that can fail comes before the generation advances: overlays, definition, a start in
 * paused state, in which the guest has not executed an instruction. An error up to there is undone,
 * and the source may start its domain again. Afterwards this host owns the workload; what fails
 * then is tried again. Each call may be repeated.
 */

/**
 * vr_activate:
 * @request: {"generation": line, "number", "root", "autostart", "networks"}
 *
 * Blocks until the domain runs. Answer {"running": true, "root": of the RP it runs from}, or
 * {"running": false, "error"} when this host is the owner but the domain does not run yet: ask
 * again. An error means that this host is not the owner and nothing is left. Errors: REFUSED
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

/** TRUE if this host owns the domain and has seen it running. */
gboolean vr_activation_done(VrApp *app, const VrProtection *row);

/** At start-up: an activation that had not reached the point where the generation advances is
 * undone, one that had is finished. */
gboolean vr_activation_recover(VrApp *app, const VrProtection *row, GError **error);

G_END_DECLS
