/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** Messages go to the journal under systemd, else to stderr with a time. @level: as
 * VrConfig.log_level. Once, before threads start. */
void vr_log_init(guint level);

G_END_DECLS
