/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-glib/json-glib.h>

G_BEGIN_DECLS

/** SECTION: JSON from outside, with limits, and short typed access to it. */

#define VR_JSON_MAX_BYTES ((gsize) (1024 * 1024))
#define VR_JSON_MAX_DEPTH 16
/** What a message between hosts holds at most: a page of recovery points has 10,000. */
#define VR_JSON_MAX_VALUES 16384u

/**
 * vr_json_parse:
 *
 * At most @max_bytes of valid UTF-8, RFC 8259 only (no comments), nested at most VR_JSON_MAX_DEPTH,
 * at most VR_JSON_MAX_VALUES values (an object or array counts as one more than what is in it),
 * integers within int64, no key twice in one object, no NUL in strings. What is refused has cost no
 * memory. Errors: INVALID "bad-json". (transfer full)
 */
JsonNode *vr_json_parse(const char *data, gsize len, gsize max_bytes, GError **error);
/** The same with up to @max_values: for what this host has written itself. */
JsonNode *vr_json_parse_large(const char *data, gsize len, gsize max_bytes, guint max_values,
                              GError **error);
/** Without white space. (transfer full) */
char *vr_json_to_text(JsonNode *node);

/** A node that holds @object (transfer full). (transfer full) */
JsonNode *vr_json_node(JsonObject *object);
char *vr_json_object_to_text(JsonObject *object);

/* NULL where it is not what was asked for, or the container is NULL. Borrowed. */
JsonObject *vr_json_as_object(JsonNode *node);
JsonArray *vr_json_as_array(JsonNode *node);
JsonObject *vr_json_object_in(JsonObject *object, const char *key);
JsonArray *vr_json_array_in(JsonObject *object, const char *key);
JsonObject *vr_json_object_at(JsonArray *array, guint i);
/* @other where it is no string: for what this host wrote itself. */
const char *vr_json_text_in(JsonObject *object, const char *key, const char *other);

/** The object in @node, borrowed; @what names the message in the error. Errors: INVALID
 * "bad-message". */
JsonObject *vr_json_object(JsonNode *node, const char *what, GError **error);
/** Borrowed from @object. Errors: INVALID "bad-message" if missing, not a string or longer than
 * @max bytes. */
const char *vr_json_string(JsonObject *object, const char *key, gsize max, GError **error);
/** NULL without error if missing or null. */
gboolean vr_json_string_opt(JsonObject *object, const char *key, gsize max, const char **ret,
                            GError **error);
/** @fallback without error if missing or null, or @object is NULL. Errors: INVALID "bad-message".
 */
gboolean vr_json_bool_opt(JsonObject *object, const char *key, gboolean fallback, gboolean *ret,
                          GError **error);
/** NULL without error if missing or null; borrowed. Errors: INVALID "bad-message" if it is no array
 * or has more than @max elements. */
gboolean vr_json_array_opt(JsonObject *object, const char *key, guint max, JsonArray **ret,
                           GError **error);
/** NULL without error if missing or null; borrowed. Errors: INVALID "bad-message". */
gboolean vr_json_object_opt(JsonObject *object, const char *key, JsonObject **ret, GError **error);
/** 0 .. @max. Errors: INVALID "bad-message". */
gboolean vr_json_uint(JsonObject *object, const char *key, guint64 max, guint64 *ret,
                      GError **error);
/** @fallback without error if missing or null. Errors: INVALID "bad-message". */
gboolean vr_json_uint_opt(JsonObject *object, const char *key, guint64 max, guint64 fallback,
                          guint64 *ret, GError **error);
/** Any number; @fallback without error if missing or null. Errors: INVALID "bad-message". */
gboolean vr_json_double_opt(JsonObject *object, const char *key, double fallback, double *ret,
                            GError **error);

G_END_DECLS
