/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: what a name may look like. All accept NULL and answer FALSE. A name that passes is safe
 *  as one path component, in a log line and in a URL. */

#define VR_ID_LENGTH 32
#define VR_UUID_LENGTH 36
#define VR_NAME_MAX 63

/** Canonical and lower-case: 8-4-4-4-12 hex digits. */
gboolean vr_uuid_valid(const char *uuid);

/** Peer, policy, plan and store names: [A-Za-z0-9][A-Za-z0-9._-]{0,62} */
gboolean vr_name_valid(const char *name);

/** Disk targets as libvirt names them: [a-z][a-z0-9]{1,15} */
gboolean vr_disk_name_valid(const char *name);

/** Cycle, generation and job ids: 32 lower-case hex digits. */
gboolean vr_cycle_id_valid(const char *id);

/** A copy in which everything but safe UTF-8 (vr_char_safe()) is '?', cut after @max_chars
 * characters: for names that others chose and we only show. (transfer full) */
char *vr_display_name(const char *name, guint max_chars);

/** @word as a shell takes it, quoted only where it must be: for the commands in an error's action.
 *  (transfer full) */
char *vr_shell_word(const char *word);

G_END_DECLS
