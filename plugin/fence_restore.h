/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/**
 * SECTION: the fence records as the database says (policies/fence_rule.h).
 *
 * What is missing, or was lost with its directory, is written. Nothing is ever removed here: a
 * record that the database contradicts, and one of a domain that the database does not know (a host
 * whose database was lost must not unfence anything), becomes a note of the fence: in the log, in
 * `status` and in the protection's health. So does a record that cannot be written.
 */

/** All rows and all records. Before anybody can ask us to start a domain. */
void vr_fence_restore(VrApp *app);

/** One row that was made anew; its record stands as after a restart. The caller holds its guard. */
void vr_fence_restore_row(VrApp *app, const char *uuid);

/** The same while the daemon runs, so that a record that is lost meanwhile is written again. Takes
 * the guards, and leaves a row that somebody is at alone. @rows: (element-type VrProtection) */
void vr_fence_restore_again(VrApp *app, const GPtrArray *rows);

/** The other host agrees that this one is the owner: a record that says otherwise goes. The caller
 * has looked at both sides just now (plugin/ownership_watch.h). */
void vr_fence_release_row(VrApp *app, const char *uuid);

G_END_DECLS
