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

G_END_DECLS
