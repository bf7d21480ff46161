/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/join_limit.h"

#include <arpa/inet.h>
#include <string.h>

#include "policies/error.h"

#define WINDOW_US (60 * G_USEC_PER_SEC)
#define ENTRIES 512u

typedef struct {
    char *who;                    /* owned; NULL: free */
    gint64 at[VR_JOIN_WRONG_MAX]; /* monotonic times of the last wrong attempts, a ring */
    guint next;
    gint64 last_us;
} Entry;

struct _VrJoinLimit {
    GMutex lock; /* guards the rest */
    Entry entries[ENTRIES];
};

VrJoinLimit *
vr_join_limit_new(void)
{
    VrJoinLimit *self = g_new0(VrJoinLimit, 1);

    g_mutex_init(&self->lock);
    return self;
}

void
vr_join_limit_free(VrJoinLimit *self)
{
    if (!self)
        return;
    for (guint i = 0; i < ENTRIES; i++)
        g_free(self->entries[i].who);
    g_mutex_clear(&self->lock);
    g_free(self);
}

/* An address as the table knows it. (transfer full) */
static char *
network_of(const char *address)
{
    guint8 bytes[16];

    if (inet_pton(AF_INET6, address, bytes) != 1)
        return g_strdup(address);
    return g_strdup_printf("%02x%02x:%02x%02x:%02x%02x:%02x%02x::/64", bytes[0], bytes[1], bytes[2],
                           bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]);
}

static Entry *
find(VrJoinLimit *self, const char *who)
{
    for (guint i = 0; i < ENTRIES; i++) {
        if (g_strcmp0(self->entries[i].who, who) == 0)
            return &self->entries[i];
    }
    return NULL;
}

/* A free one, or the one that was wrong longest ago. */
static Entry *
make(VrJoinLimit *self, const char *who)
{
    Entry *entry = &self->entries[0];

    for (guint i = 0; i < ENTRIES && entry->who; i++) {
        if (!self->entries[i].who || self->entries[i].last_us < entry->last_us)
            entry = &self->entries[i];
    }
    g_free(entry->who);
    memset(entry, 0, sizeof(*entry));
    entry->who = g_strdup(who);
    return entry;
}

static gboolean
is_full(VrJoinLimit *self, const char *who, gint64 now_us)
{
    const Entry *entry = find(self, who);

    return entry && entry->at[entry->next] != 0 && now_us - entry->at[entry->next] <= WINDOW_US;
}

static void
note(VrJoinLimit *self, const char *who, gint64 now_us)
{
    Entry *entry = find(self, who);

    if (!entry)
        entry = make(self, who);
    entry->at[entry->next] = now_us;
    entry->next = (entry->next + 1) % VR_JOIN_WRONG_MAX;
    entry->last_us = now_us;
}

gboolean
vr_join_limit_check(VrJoinLimit *self, const char *address, const char *key, gint64 now_us,
                    GError **error)
{
    g_autofree char *network = network_of(address);
    gboolean full;

    g_mutex_lock(&self->lock);
    full = is_full(self, network, now_us) || is_full(self, key, now_us);
    g_mutex_unlock(&self->lock);
    if (full)
        vr_set_error(error, VR_ERROR_TRANSIENT, "too-many-attempts", "Wait a minute and try again.",
                     "too many wrong attempts to join from %s", address);
    return !full;
}

void
vr_join_limit_wrong(VrJoinLimit *self, const char *address, const char *key, gint64 now_us)
{
    g_autofree char *network = network_of(address);

    g_mutex_lock(&self->lock);
    note(self, network, now_us);
    note(self, key, now_us);
    g_mutex_unlock(&self->lock);
}
