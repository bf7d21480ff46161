/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/wire/cycle.h"

G_BEGIN_DECLS

/** SECTION: checked fields of the messages of a cycle. Errors: INVALID "bad-message". */

/** The last microsecond of the year 9999. */
#define VR_FIELD_TIME_MAX_US G_GUINT64_CONSTANT(253402300799999999)

/** Always FALSE. */
gboolean vr_field_bad(GError **error, const char *key, const char *what);

/** 32 lower-case hex digits. (transfer full) */
char *vr_field_id(JsonObject *object, const char *key, GError **error);

/** 64 lower-case hex digits. (transfer full) */
char *vr_field_sha256(JsonObject *object, const char *key, GError **error);

gboolean vr_field_time(JsonObject *object, const char *key, gint64 *ret_us, GError **error);

gboolean vr_field_consistency(JsonObject *object, VrConsistency *ret_consistency, GError **error);

/** Array of at most @max elements, borrowed. */
JsonArray *vr_field_array(JsonObject *object, const char *key, guint max, GError **error);

G_END_DECLS
