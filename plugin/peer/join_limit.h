/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: how many wrong attempts to join are listened to: VR_JOIN_WRONG_MAX a minute from one
 * address. What others do wrong counts for them only, also in the same network.
 *
 * Secrets are too long to be guessed; this keeps small what those who try cost. So it remembers
 * VR_JOIN_WRONG_ALL attempts of the last minute, whoever made them, and forgets none of them
 * before its time. More are not noted: from an address that is not over its number an attempt is
 * looked at always, for one read of the database if it is wrong. Nothing that the other side is
 * free to choose, as its key, counts. Any thread.
 */
typedef struct _VrJoinLimit VrJoinLimit;

#define VR_JOIN_WRONG_MAX 10u
#define VR_JOIN_WRONG_ALL 1024u

VrJoinLimit *vr_join_limit_new(void);
void vr_join_limit_free(VrJoinLimit *self);
/** @address: numeric; @now_us: monotonic. Errors: TRANSIENT "too-many-attempts". */
gboolean vr_join_limit_check(VrJoinLimit *self, const char *address, gint64 now_us, GError **error);
void vr_join_limit_wrong(VrJoinLimit *self, const char *address, gint64 now_us);

G_END_DECLS
