/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: how many lines a minute of log each peer may cause: VR_LOG_LIMIT_LINES at once, then one
 * every VR_LOG_LIMIT_EVERY_US. No clock, no lock: the caller has both.
 */
typedef struct _VrLogLimit VrLogLimit;

#define VR_LOG_LIMIT_LINES 60u
#define VR_LOG_LIMIT_EVERY_US (1 * G_USEC_PER_SEC)
#define VR_LOG_LIMIT_SAY_US (60 * G_USEC_PER_SEC)

VrLogLimit *vr_log_limit_new(void);
void vr_log_limit_free(VrLogLimit *self);
/** May a line caused by @peer be written at @now_us (monotonic)? @ret_suppressed: if so, how many
 *  were not since the last one that was. */
gboolean vr_log_limit_take(VrLogLimit *self, const char *peer, gint64 now_us,
                           guint *ret_suppressed);

/**
 * vr_log_limit_left_out:
 * @ret_peer: (transfer full)
 *
 * One peer whose lines were not written and that has caused none since for so long that nothing
 * said how many: at most once VR_LOG_LIMIT_SAY_US for each. 0: none.
 */
guint vr_log_limit_left_out(VrLogLimit *self, gint64 now_us, char **ret_peer);

G_END_DECLS
