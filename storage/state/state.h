/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: the daemon's durable state: one SQLite file, one process, one connection, one mutex.
 *
 * Rollback journal, synchronous=EXTRA, foreign keys on (the SQLite of Debian 12 has the WAL-reset
 * fault). A file lock beside it refuses a second daemon. All SQL lives in storage/state/state*.c
 * and schema.c. Every function of state_*.h blocks on disk, may be called from any thread but the
 * main one, and is one transaction that is durable when it returns TRUE. Rows come back as structs
 * that the caller frees; strings inside are owned. Errors: NO_SPACE, CORRUPT (integrity_check
 * failed), CONFLICT "state-in-use" (second daemon), INTERNAL.
 */
typedef struct _VrState VrState;

/** Host fact: wall time in microseconds at which the database was made. */
#define VR_STATE_MADE_KEY "state-made"

/** @dir: created 0700; holds state.db and state.lock. A state.db that is not there is made, one
 * that is empty or damaged (integrity_check, foreign_key_check) is refused. Runs pending
 * migrations. */
VrState *vr_state_open(const char *dir, GError **error);
void vr_state_close(VrState *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrState, vr_state_close)

/** Several calls as one transaction: BEGIN IMMEDIATE … COMMIT; recursive calls nest. Holds the
 * mutex between the two. */
gboolean vr_state_begin(VrState *self, GError **error);
gboolean vr_state_commit(VrState *self, GError **error);
void vr_state_rollback(VrState *self);

/** Small host facts; a missing key gives NULL without error. */
char *vr_state_get(VrState *self, const char *key, GError **error);

G_END_DECLS
