/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/**
 * SECTION: the daemon's own thread: what a crash left is undone when libvirt can be reached, then
 * jobs and schedule begin; later the fence is proven every hour and causes of failure are watched,
 * so that a retry need not wait.
 */
typedef struct _VrMaintain VrMaintain;

VrMaintain *vr_maintain_start(VrApp *app);
/** libvirt is connected (again): prove the fence. Any thread. */
void vr_maintain_wake(VrMaintain *self);
void vr_maintain_stop(VrMaintain *self);

G_END_DECLS
