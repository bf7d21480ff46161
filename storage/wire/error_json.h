/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-glib/json-glib.h>

#include "policies/error.h"

G_BEGIN_DECLS

/** SECTION: errors as they stand in answers, job rows and `--json` output: {"code" (the slug),
 * "kind" (the code's name), "message", "action" (nullable)}. */

/** (transfer full) */
JsonObject *vr_error_to_json_object(const GError *error);

/** The reverse; missing or odd members give INTERNAL. Text is limited to 4 KiB. (transfer full) */
GError *vr_error_from_json_object(JsonObject *object);

/**
 * vr_error_from_peer:
 * @name: of that host
 * @shown: says whose words they are, unless they name that host themselves
 *
 * The same of what another host told: never of a kind that says something of this one, that
 * somebody here has asked it to stop, that it tracks no changes, that its daemon cannot be reached.
 * What ended there for such a reason may do the next time: TRANSIENT. So may what the other host
 * misses among its own files, which is nothing that was asked for wrongly. (transfer full)
 */
GError *vr_error_from_peer(JsonObject *object, const char *name, const char *shown);

/** The same as text, for the database. (transfer full) */
char *vr_error_to_json_text(const GError *error);
/** NULL for NULL or text that is no such object. (transfer full) */
GError *vr_error_from_json_text(const char *text);

G_END_DECLS
