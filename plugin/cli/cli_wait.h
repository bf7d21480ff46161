/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/cli/cli.h"
#include "plugin/cli/cli_args.h"

#include <json-glib/json-glib.h>

G_BEGIN_DECLS

/**
 * SECTION: long commands: ask the daemon for a job, wait until it has ended.
 *
 * SIGINT ends the waiting, never the job. A daemon that is away for less than a minute, for a
 * restart, is waited for: jobs survive it.
 *
 * Errors: TIMEOUT "wait-timeout" and "interrupted" (the job goes on); CANCELLED "job-cancelled";
 * for a failed job its own error; UNREACHABLE.
 */

/**
 * vr_cli_start_job:
 * @args: of a command with the options detach, verbose, timeout
 * @body: (transfer full)
 * @ret_job: (out) (transfer full) (nullable): the completed job; NULL with --detach, when the id
 *   was printed and nothing is left to do
 */
gboolean vr_cli_start_job(VrCli *cli, const VrCliArgs *args, const char *path, JsonObject *body,
                          JsonNode **ret_job, GError **error);

/** @args: of a command with the options verbose, timeout. @ret_job: (out) (transfer full): the
 *  completed job */
gboolean vr_cli_wait_job(VrCli *cli, const VrCliArgs *args, gint64 id, JsonNode **ret_job,
                         GError **error);

G_END_DECLS
