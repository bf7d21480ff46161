/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: memory that requests may take at once: so much for one peer, so much for all.
 *
 * Who wants more than is left waits, and its bytes wait in the network; a peer that takes all of
 * its own holds up itself only, and many together hold up no peer's first request. Any thread.
 */
typedef struct _VrHttpBudget VrHttpBudget;

/* Four workers of one transfer with a body each, and what goes beside them. */
#define VR_HTTP_BUDGET_PEER ((guint64) 40 << 20)
#define VR_HTTP_BUDGET_ALL ((guint64) 128 << 20)
/* Less than the silence after which a client gives its connection up. */
#define VR_HTTP_BUDGET_WAIT_US (15 * G_USEC_PER_SEC)

VrHttpBudget *vr_http_budget_new(guint64 peer_max, guint64 all_max, gint64 wait_us);
void vr_http_budget_free(VrHttpBudget *self);

/**
 * vr_http_budget_take:
 * @peer: fingerprint; "" for all that nobody knows
 * @bytes: more than @peer_max counts as that much
 * @ret_taken: what to give back
 *
 * Errors: TRANSIENT "busy" (waited @wait_us, or the server stops).
 */
gboolean vr_http_budget_take(VrHttpBudget *self, const char *peer, guint64 bytes,
                             guint64 *ret_taken, GError **error);
void vr_http_budget_give(VrHttpBudget *self, const char *peer, guint64 taken);
/** Ends all waiting. */
void vr_http_budget_close(VrHttpBudget *self);

/** A buffer for a body: one of before, whose pages are there already, or a new one. */
GByteArray *vr_http_budget_buffer(VrHttpBudget *self);
/** @buffer: (transfer full) */
void vr_http_budget_buffer_done(VrHttpBudget *self, GByteArray *buffer);
/** The last connection is gone: keeps no buffer. */
void vr_http_budget_trim(VrHttpBudget *self);

G_END_DECLS
