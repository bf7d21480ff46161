/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/** SECTION: what two hosts of a protection tell each other beside who owns it: members of the
 * answer to `compare`. Worker threads. */

/** Adds "idle" of a source, "store_percent" and "room_bytes" of a target. */
void vr_peer_word_add(VrApp *app, const VrProtection *row, JsonObject *answer);

/** What is left out is not known. INVALID if a member has another type. */
gboolean vr_peer_word_read(JsonObject *answer, VrPeerWord *ret_word, GError **error);

/** How full the file system of a target's store is, in percent; -1: not known. */
gint vr_peer_word_store_percent(VrApp *app, const VrProtection *row);

G_END_DECLS
