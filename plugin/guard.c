/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/guard.h"

#include "policies/error.h"

struct _VrGuards {
    GMutex lock; /* guards holders */
    GCond freed;
    GHashTable *holders; /* owned: uuid -> holder text */
};

#define CANCEL_POLL_US (G_TIME_SPAN_MILLISECOND * 100)

VrGuards *
vr_guards_new(void)
{
    VrGuards *self = g_new0(VrGuards, 1);

    g_mutex_init(&self->lock);
    g_cond_init(&self->freed);
    self->holders = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return self;
}

void
vr_guards_free(VrGuards *self)
{
    if (self == NULL)
        return;
    g_hash_table_unref(self->holders);
    g_cond_clear(&self->freed);
    g_mutex_clear(&self->lock);
    g_free(self);
}

static gboolean
wait_until_free(VrGuards *self, const char *uuid, gint64 wait_ms, GCancellable *cancel,
                GError **error)
{
    gint64 deadline = g_get_monotonic_time() + wait_ms * G_TIME_SPAN_MILLISECOND;
    const char *holder;

    while ((holder = g_hash_table_lookup(self->holders, uuid)) != NULL) {
        gint64 now = g_get_monotonic_time();

        if (g_cancellable_is_cancelled(cancel)) {
            vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL,
                         "cancelled while waiting for %s", holder);
            return FALSE;
        }
        if (wait_ms >= 0 && now >= deadline) {
            vr_set_error(error, VR_ERROR_CONFLICT, "busy", "Wait until it has ended, or cancel it.",
                         "%s is at work on domain %s", holder, uuid);
            return FALSE;
        }
        (void) g_cond_wait_until(&self->freed, &self->lock, now + CANCEL_POLL_US);
    }
    return TRUE;
}

gboolean
vr_guard_take(VrGuards *self, const char *uuid, const char *holder, gint64 wait_ms,
              GCancellable *cancel, GError **error)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->lock);

    if (!wait_until_free(self, uuid, wait_ms, cancel, error))
        return FALSE;
    g_hash_table_insert(self->holders, g_strdup(uuid), g_strdup(holder));
    return TRUE;
}

void
vr_guard_release(VrGuards *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    g_hash_table_remove(self->holders, uuid);
    g_cond_broadcast(&self->freed);
}
