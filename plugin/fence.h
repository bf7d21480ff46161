/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/fence_record.h"
#include "policies/fence_rule.h"
#include "qmp/conn.h"

G_BEGIN_DECLS

/** SECTION: the files that the libvirt hook reads (STATE/fence/<uuid>), the proof that the hook is
 * called, and what is wrong with either. Any thread. */
typedef struct _VrFence VrFence;

/** @host: name of this host, for messages. */
VrFence *vr_fence_new(const char *state_dir, const char *host);
/** Waits for a proof that is under way. */
void vr_fence_free(VrFence *self);

/** Durable when it returns. @peer: name of the other host. @generation: its id. Repeatable. */
gboolean vr_fence_put(VrFence *self, const char *uuid, VrFenceRecordState state, const char *peer,
                      const char *generation, GError **error);
/** Durable; a missing file is fine. */
gboolean vr_fence_remove(VrFence *self, const char *uuid, GError **error);

/** @ret_stands: there is a record (one that cannot be looked at included), @ret_record: what it
 * says, NULL if that cannot be read. (transfer full) */
void vr_fence_look(VrFence *self, const char *uuid, gboolean *ret_stands,
                   VrFenceRecord **ret_record);
/** UUIDs of all records. (element-type utf8) (transfer full) Errors: INTERNAL. */
GPtrArray *vr_fence_list(VrFence *self, GError **error);

/**
 * vr_fence_prove:
 * @max_age_us: a proof that began so long ago at most is good enough; 0: one that begins now
 * @wait_ms: how long to wait for it; it goes on in a thread of its own
 *
 * Starts a domain that the hook must refuse, and reads what the hook answered. One proof at a time,
 * whoever asks. The result is vr_fence_status(). Worker thread.
 */
void vr_fence_prove(VrFence *self, VrConn *conn, gint64 max_age_us, guint wait_ms);
/** libvirt is another one than before: what was proven does not hold for it. Does not block. */
void vr_fence_doubt(VrFence *self);
/** TRUE if the hook's file is not what it was at the last proof. */
gboolean vr_fence_hook_changed(VrFence *self);

typedef struct {
    VrFenceState state;
    gboolean unwritable; /* no record can be written */
    gint64 checked_us;   /* wall; 0: not since libvirt was connected */
    char *message;       /* why it is not active; NULL if it is, or was not looked at yet */
    char *action;        /* the command that mends it; NULL with @message */
} VrFenceStatus;

void vr_fence_status(VrFence *self, VrFenceStatus *ret_status);
void vr_fence_status_clear(VrFenceStatus *status);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrFenceStatus, vr_fence_status_clear)

/** What is wrong with one record. */
typedef struct {
    char *uuid;
    char *message;
    char *action;
} VrFenceNote;

/** Replaces the note of @uuid; without @message there is none any more. */
void vr_fence_note(VrFence *self, const char *uuid, const char *message, const char *action);
/** (element-type VrFenceNote) (transfer full) */
GPtrArray *vr_fence_notes(VrFence *self);

G_END_DECLS
