/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/**
 * SECTION: a database that was made anew under a host that had one.
 *
 * The host's key lies elsewhere (pki/), so one that is older than the database says that there was
 * another before; replicas in a store that no row knows say it as well.
 */

/**
 * vr_state_lost_notices:
 *
 * What an operator has to do on this host before it is again what it was: array of {code, message,
 * action}, codes "state-made-anew" and "replicas-orphaned". Empty when nothing is lost, or when
 * hosts are paired and all replicas are known again. Blocks on directories. (transfer full)
 */
JsonArray *vr_state_lost_notices(VrApp *app);

/** Logs them: at start, and nothing if there are none. */
void vr_state_lost_log(VrApp *app);

G_END_DECLS
