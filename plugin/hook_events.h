/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

/** SECTION: what the libvirt hook tells the daemon ("UUID OP NAME" datagrams): a domain is about to
 * start, so whoever reads its images gives way at once. Main thread. */
typedef struct _VrHookEvents VrHookEvents;

/** RUNTIME/hook.sock, 0600. Errors: INTERNAL. */
VrHookEvents *vr_hook_events_new(const char *runtime_dir, GError **error);
void vr_hook_events_free(VrHookEvents *self);

G_END_DECLS
