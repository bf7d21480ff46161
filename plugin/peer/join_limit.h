/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: how many wrong attempts to join are listened to: VR_JOIN_WRONG_MAX a minute from one
 * address (IPv6: /64 network), and as many of one key. What others do wrong counts for them only.
 *
 * The table is bounded: when it is full, who has been wrong longest ago is forgotten. Any thread.
 */
typedef struct _VrJoinLimit VrJoinLimit;

#define VR_JOIN_WRONG_MAX 10u

VrJoinLimit *vr_join_limit_new(void);
void vr_join_limit_free(VrJoinLimit *self);
/** @address: numeric; @key: fingerprint; @now_us: monotonic. Errors: TRANSIENT
 * "too-many-attempts". */
gboolean vr_join_limit_check(VrJoinLimit *self, const char *address, const char *key, gint64 now_us,
                             GError **error);
void vr_join_limit_wrong(VrJoinLimit *self, const char *address, const char *key, gint64 now_us);

G_END_DECLS
