/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/fence_record.h"
#include "qmp/conn.h"

G_BEGIN_DECLS

/** SECTION: the files that the libvirt hook reads (STATE/fence/<uuid>), and the proof that the hook
 * is called. */
typedef struct _VrFence VrFence;

VrFence *vr_fence_new(const char *state_dir);
void vr_fence_free(VrFence *self);

/** Durable when it returns. @peer: name of the other host. @generation: its id. Repeatable. */
gboolean vr_fence_put(VrFence *self, const char *uuid, VrFenceRecordState state, const char *peer,
                      const char *generation, GError **error);
/** Durable; a missing file is fine. */
gboolean vr_fence_remove(VrFence *self, const char *uuid, GError **error);

/** Starts a domain that the hook must refuse, and reads what the hook answered. Blocks; worker
 * thread. The result is kept for vr_fence_active(). Errors: those of the connection. */
gboolean vr_fence_prove(VrFence *self, VrConn *conn, GError **error);
/** Result of the last proof; FALSE before the first. Any thread. */
gboolean vr_fence_active(VrFence *self);

G_END_DECLS
