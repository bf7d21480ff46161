/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** Messages go to the journal under systemd, else to stderr with a time, one line each whatever is
 * in them (policies/display.h). @level: as VrConfig.log_level. Once, before threads start. */
void vr_log_init(guint level);

/** From now on this thread works for the peer with that fingerprint, who may cause so many lines a
 * minute (policies/log_limit.h). */
void vr_log_of_peer(const char *fingerprint);
/** The peer that this thread works for, NULL: none. Borrowed. */
const char *vr_log_peer(void);

/** Called now and then, by a thread that works for no peer: says how many lines of one that has
 * been silent since were not written. */
void vr_log_say_left_out(void);

G_END_DECLS
