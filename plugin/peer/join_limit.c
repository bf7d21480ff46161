/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/join_limit.h"

#include <arpa/inet.h>

#include "policies/error.h"

#define WINDOW_US (60 * G_USEC_PER_SEC)

typedef struct {
    char address[INET6_ADDRSTRLEN];
    gint64 until_us; /* monotonic; counts until then */
} Wrong;

struct _VrJoinLimit {
    GMutex lock;                    /* guards the rest */
    Wrong wrong[VR_JOIN_WRONG_ALL]; /* a ring */
    guint next;                     /* the oldest one */
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
    g_mutex_clear(&self->lock);
    g_free(self);
}

gboolean
vr_join_limit_check(VrJoinLimit *self, const char *address, gint64 now_us, GError **error)
{
    guint n = 0;

    g_mutex_lock(&self->lock);
    for (guint i = 0; i < VR_JOIN_WRONG_ALL; i++) {
        if (self->wrong[i].until_us >= now_us && g_str_equal(self->wrong[i].address, address))
            n++;
    }
    g_mutex_unlock(&self->lock);
    if (n >= VR_JOIN_WRONG_MAX)
        vr_set_error(error, VR_ERROR_TRANSIENT, "too-many-attempts", "Wait a minute and try again.",
                     "too many wrong attempts to join from %s", address);
    return n < VR_JOIN_WRONG_MAX;
}

void
vr_join_limit_wrong(VrJoinLimit *self, const char *address, gint64 now_us)
{
    Wrong *wrong;

    g_mutex_lock(&self->lock);
    wrong = &self->wrong[self->next];
    if (wrong->until_us < now_us) {
        g_strlcpy(wrong->address, address, sizeof(wrong->address));
        wrong->until_us = now_us + WINDOW_US;
        self->next = (self->next + 1) % VR_JOIN_WRONG_ALL;
    }
    g_mutex_unlock(&self->lock);
}
