/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** Tells systemd, if NOTIFY_SOCKET is set (sd_notify(3)'s protocol): "READY=1", "STOPPING=1",
 * "WATCHDOG=1". Any thread; never fails. */
void vr_notify(const char *state);

/** Half of WATCHDOG_USEC, how often to send WATCHDOG=1; 0 without a watchdog. */
gint64 vr_notify_watchdog_us(void);

G_END_DECLS
