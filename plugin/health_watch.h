/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/** SECTION: looks at the health of every protection all the time, so that the log says what begins
 * and what is over, and `info` since when, also while nobody asks. */
typedef struct _VrHealthWatch VrHealthWatch;

/** @app: borrowed until vr_health_watch_stop(). */
VrHealthWatch *vr_health_watch_start(VrApp *app);
/** NULL is fine. */
void vr_health_watch_stop(VrHealthWatch *self);

G_END_DECLS
