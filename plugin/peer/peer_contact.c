/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_contact.h"

#define RECORD_US (10 * G_TIME_SPAN_MINUTE)

typedef struct {
    gint64 since_us;
    char *why; /* owned */
} Silence;

typedef struct {
    gint64 at_us, recorded_us;
} Heard;

struct _VrPeerContact {
    GMutex lock;        /* guards what follows */
    GHashTable *silent; /* owned: fingerprint (owned) -> Silence (owned) */
    GHashTable *heard;  /* owned: fingerprint (owned) -> Heard (owned) */
    GHashTable *words;  /* owned: UUID (owned) -> VrPeerWord (owned) */
};

static void
silence_free(gpointer data)
{
    Silence *silence = data;

    g_free(silence->why);
    g_free(silence);
}

VrPeerContact *
vr_peer_contact_new(void)
{
    VrPeerContact *self = g_new0(VrPeerContact, 1);

    g_mutex_init(&self->lock);
    self->silent = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, silence_free);
    self->heard = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->words = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return self;
}

void
vr_peer_contact_free(VrPeerContact *self)
{
    if (self == NULL)
        return;
    g_hash_table_unref(self->silent);
    g_hash_table_unref(self->heard);
    g_hash_table_unref(self->words);
    g_mutex_clear(&self->lock);
    g_free(self);
}

gboolean
vr_peer_contact_heard(VrPeerContact *self, const char *fingerprint)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Heard *heard = g_hash_table_lookup(self->heard, fingerprint);
    gboolean due;

    g_hash_table_remove(self->silent, fingerprint);
    if (heard == NULL) {
        heard = g_new0(Heard, 1);
        g_hash_table_insert(self->heard, g_strdup(fingerprint), heard);
    }
    heard->at_us = g_get_real_time();
    due = ABS(heard->at_us - heard->recorded_us) >= RECORD_US;
    if (due)
        heard->recorded_us = heard->at_us;
    return due;
}

gint64
vr_peer_contact_heard_us(VrPeerContact *self, const char *fingerprint)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    const Heard *heard = g_hash_table_lookup(self->heard, fingerprint);

    return heard ? heard->at_us : 0;
}

void
vr_peer_contact_silent(VrPeerContact *self, const char *fingerprint, const GError *why)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Silence *silence = g_hash_table_lookup(self->silent, fingerprint);

    if (silence == NULL) {
        silence = g_new0(Silence, 1);
        silence->since_us = g_get_real_time();
        g_hash_table_insert(self->silent, g_strdup(fingerprint), silence);
    }
    g_free(silence->why);
    silence->why = g_strdup(why->message);
}

char *
vr_peer_contact_why_silent(VrPeerContact *self, const char *fingerprint, gint64 *ret_since_us)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    const Silence *silence = g_hash_table_lookup(self->silent, fingerprint);

    *ret_since_us = silence ? silence->since_us : 0;
    return silence ? g_strdup(silence->why) : NULL;
}

void
vr_peer_contact_word(VrPeerContact *self, const char *uuid, const VrPeerWord *word)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    g_hash_table_replace(self->words, g_strdup(uuid), g_memdup2(word, sizeof *word));
}

gboolean
vr_peer_contact_get_word(VrPeerContact *self, const char *fingerprint, const char *uuid,
                         VrPeerWord *ret_word)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    const VrPeerWord *word = g_hash_table_lookup(self->words, uuid);

    if (word == NULL || g_hash_table_contains(self->silent, fingerprint))
        return FALSE;
    *ret_word = *word;
    return TRUE;
}
