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

/** The same as text, for the database. (transfer full) */
char *vr_error_to_json_text(const GError *error);
/** NULL for NULL or text that is no such object. (transfer full) */
GError *vr_error_from_json_text(const char *text);

G_END_DECLS
