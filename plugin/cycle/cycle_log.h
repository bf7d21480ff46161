/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-glib/json-glib.h>

#include "storage/wire/copy.h"
#include "storage/wire/cycle.h"

G_BEGIN_DECLS

/** SECTION: the cycle under way and the last one of each protection, for people: scheduled ones are
 * no jobs. In memory only. Any thread. */
typedef struct _VrCycleLog VrCycleLog;

VrCycleLog *vr_cycle_log_new(void);
void vr_cycle_log_free(VrCycleLog *self);

/** It waits for its turn. @progress: borrowed until vr_cycle_log_end(), watched. */
void vr_cycle_log_begin(VrCycleLog *self, const char *uuid, const VrCopyProgress *progress);
/** It has its turn: its time begins. */
void vr_cycle_log_running(VrCycleLog *self, const char *uuid);
/** As planned, or planned again. Nothing if no cycle of @uuid is under way. */
void vr_cycle_log_kind(VrCycleLog *self, const char *uuid, VrCycleKind kind);
/** @error: why it failed, or NULL; @number: the RP it made. */
void vr_cycle_log_end(VrCycleLog *self, const char *uuid, const GError *error, guint64 number);
/** The protection is gone. */
void vr_cycle_log_forget(VrCycleLog *self, const char *uuid);

/**
 * vr_cycle_log_current:
 *
 * "kind" (null until it is planned), "state" (waiting, running, completed, failed, cancelled),
 * "started", "seconds", "bytes_read", "bytes_sent", "progress", "error", "rp". NULL if there is
 * none. (transfer full)
 */
JsonObject *vr_cycle_log_current(VrCycleLog *self, const char *uuid);
/** The same of the last one that ended in this run of the daemon. */
JsonObject *vr_cycle_log_last(VrCycleLog *self, const char *uuid);

G_END_DECLS
