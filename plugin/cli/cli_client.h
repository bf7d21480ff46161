/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/cli/cli.h"

#include <json-glib/json-glib.h>

G_BEGIN_DECLS

/** SECTION: requests to the daemon. */

void vr_cli_client_free(VrCliClient *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrCliClient, vr_cli_client_free)

/** "/v1/first/second": the parts, ended by NULL, each escaped. (transfer full) */
char *vr_cli_path(const char *first, ...) G_GNUC_NULL_TERMINATED;

/** Adds "?key=value", escaped, or "&key=value"; nothing if @value is NULL. Takes and returns
 *  @path. */
char *vr_cli_query(char *path, const char *key, const char *value);

/**
 * vr_cli_request:
 * @path: from vr_cli_path()
 * @body: (nullable) (transfer full)
 * @ret_answer: (nullable) (out) (transfer full): NULL for an answer without a body
 *
 * Blocks, for two minutes at most. Errors: what the daemon says; UNREACHABLE "daemon-unreachable".
 */
gboolean vr_cli_request(VrCli *cli, const char *method, const char *path, JsonObject *body,
                        JsonNode **ret_answer, GError **error);

/**
 * vr_cli_do:
 *
 * A request whose answer matters only to --json, which prints it. Returns FALSE on error.
 */
gboolean vr_cli_do(VrCli *cli, const char *method, const char *path, JsonObject *body,
                   GError **error);

/**
 * vr_cli_fetch:
 * @ret_answer: (out) (transfer full) (nullable): NULL if --json printed it: nothing is left to do
 *
 * A GET for display.
 */
gboolean vr_cli_fetch(VrCli *cli, const char *path, JsonNode **ret_answer, GError **error);

/** Prints the "warnings" of an answer on stderr, each with its action; nothing with --json, which
 *  has printed them. @answer: (nullable) */
void vr_cli_warn(VrCli *cli, JsonObject *answer);

G_END_DECLS
