/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-glib/json-glib.h>
#include <stdio.h>

G_BEGIN_DECLS

/**
 * SECTION: answers of the daemon, read for display.
 *
 * The daemon may be older or newer than this program: what is missing or has another type reads
 * as nothing, never as an error.
 */

/** NULL if @node is NULL or not an object. Borrowed. */
JsonObject *vr_cli_json_object(JsonNode *node);
/** The object behind @key, or NULL. @object: (nullable). Borrowed. */
JsonObject *vr_cli_json_member(JsonObject *object, const char *key);
/** The objects of an array, others left out. @node: (nullable). (element-type JsonObject borrowed)
 *  (transfer container) */
GPtrArray *vr_cli_json_objects(JsonNode *node);
/** The same of the array behind @key. */
GPtrArray *vr_cli_json_member_objects(JsonObject *object, const char *key);

/** NULL if it is no string. Borrowed. */
const char *vr_cli_json_string(JsonObject *object, const char *key);
/** FALSE and @ret_value untouched if it is no number. */
gboolean vr_cli_json_number(JsonObject *object, const char *key, double *ret_value);
gint64 vr_cli_json_int(JsonObject *object, const char *key, gint64 fallback);
gboolean vr_cli_json_bool(JsonObject *object, const char *key);

/** A value as text: "yes" and "no" for a boolean, NULL for null or nothing. (transfer full) */
char *vr_cli_json_text(JsonObject *object, const char *key);
/** A time as vr_cli_format_time() shows it, NULL for null or nothing. (transfer full) */
char *vr_cli_json_time(JsonObject *object, const char *key);
/** A number of bytes as vr_cli_format_size() shows it, or NULL. (transfer full) */
char *vr_cli_json_size(JsonObject *object, const char *key);
/** A number of seconds as vr_cli_format_interval() shows it, or NULL. (transfer full) */
char *vr_cli_json_interval(JsonObject *object, const char *key);

/** Sets a string member, or nothing if @value is NULL. */
void vr_cli_json_set(JsonObject *object, const char *key, const char *value);
/** An object as a node; takes @object. */
JsonNode *vr_cli_json_node(JsonObject *object);
/** One line; NULL is printed as {}. What must not reach a terminal is escaped. */
void vr_cli_json_print(FILE *out, JsonNode *node);

G_END_DECLS
