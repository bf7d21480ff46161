/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: what a loop has said of each thing it looks at, so that the log gets a change and not
 * every round. No lock: one thread. */
typedef struct _VrSaid VrSaid;

VrSaid *vr_said_new(void);
void vr_said_free(VrSaid *self);

/** TRUE if @text is not what was given for @key last. @text: NULL for nothing to say, as it is in
 * the beginning. */
gboolean vr_said_changed(VrSaid *self, const char *key, const char *text);

G_END_DECLS
