/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-glib/json-glib.h>
#include <stdio.h>

G_BEGIN_DECLS

/** SECTION: a job's progress for people: one line redrawn on a terminal, else a plain line every 30
 *  seconds and one for each step that ended. */
typedef struct VrCliProgress VrCliProgress;

/** @err: (transfer none) */
VrCliProgress *vr_cli_progress_new(FILE *err, gboolean terminal);
/** Ends a line that was being redrawn. */
void vr_cli_progress_free(VrCliProgress *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrCliProgress, vr_cli_progress_free)

/** @job: as the daemon sent it. @now_us: monotonic. */
void vr_cli_progress_update(VrCliProgress *self, JsonObject *job, gint64 now_us);

/** "web1 copy: [ 83.42 %] 41.7/50.0 GiB, 212 MiB/s, 0:00:40 left". (transfer full) */
char *vr_cli_progress_line(JsonObject *job);

G_END_DECLS
