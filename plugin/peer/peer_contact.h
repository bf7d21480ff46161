/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: whether the peers answer, and what they said last of the protections shared with them.
 * In memory only, asked for anew after a restart. Any thread. */
typedef struct _VrPeerContact VrPeerContact;

VrPeerContact *vr_peer_contact_new(void);
void vr_peer_contact_free(VrPeerContact *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrPeerContact, vr_peer_contact_free)

/** It answered. TRUE: that is worth recording in the database, the last time is 10 min ago. */
gboolean vr_peer_contact_heard(VrPeerContact *self, const char *fingerprint);
/** When it answered last, wall time; 0: not in this run of the daemon. */
gint64 vr_peer_contact_heard_us(VrPeerContact *self, const char *fingerprint);
/** It did not, or does not talk to this host. */
void vr_peer_contact_silent(VrPeerContact *self, const char *fingerprint, const GError *why);

/** NULL: it answers, or was not asked yet. (transfer full) @ret_since_us: wall. */
char *vr_peer_contact_why_silent(VrPeerContact *self, const char *fingerprint,
                                 gint64 *ret_since_us);

#define VR_PEER_ROOM_UNKNOWN G_MAXUINT64

/** What the other host of a protection says of it. */
typedef struct {
    gboolean idle;      /* a source: shut off, and its last state is on the replica */
    gint store_percent; /* a target: how full the store's file system is; -1: not known */
    guint64 room_bytes; /* a target: what it has left for us, of the store and of our quota */
} VrPeerWord;

void vr_peer_contact_word(VrPeerContact *self, const char *uuid, const VrPeerWord *word);
/** FALSE if nothing is known, or its peer @fingerprint is silent: it may be over. */
gboolean vr_peer_contact_get_word(VrPeerContact *self, const char *fingerprint, const char *uuid,
                                  VrPeerWord *ret_word);

G_END_DECLS
