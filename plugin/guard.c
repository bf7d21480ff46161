/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/guard.h"

#include "policies/error.h"

struct _VrGuards {
    GMutex lock; /* guards what follows */
    GCond freed;
    GHashTable *holders; /* owned: uuid -> holder text */
    GPtrArray *waiters;  /* owned, of borrowed Waiter: who came first is served first */
};

typedef struct {
    const char *uuid, *holder; /* borrowed */
} Waiter;

#define CANCEL_POLL_US (G_TIME_SPAN_MILLISECOND * 100)

VrGuards *
vr_guards_new(void)
{
    VrGuards *self = g_new0(VrGuards, 1);

    g_mutex_init(&self->lock);
    g_cond_init(&self->freed);
    self->holders = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->waiters = g_ptr_array_new();
    return self;
}

void
vr_guards_free(VrGuards *self)
{
    if (self == NULL)
        return;
    g_hash_table_unref(self->holders);
    g_ptr_array_unref(self->waiters);
    g_cond_clear(&self->freed);
    g_mutex_clear(&self->lock);
    g_free(self);
}

/* Who has it, or comes before @waiter; NULL: nobody. */
static const char *
before(const VrGuards *self, const Waiter *waiter)
{
    const char *holder = g_hash_table_lookup(self->holders, waiter->uuid);

    for (guint i = 0; holder == NULL && self->waiters->pdata[i] != waiter; i++) {
        const Waiter *other = self->waiters->pdata[i];

        if (g_str_equal(other->uuid, waiter->uuid))
            holder = other->holder;
    }
    return holder;
}

static gboolean
wait_until_free(VrGuards *self, const Waiter *waiter, gint64 wait_ms, GCancellable *cancel,
                GError **error)
{
    gint64 deadline = g_get_monotonic_time() + wait_ms * G_TIME_SPAN_MILLISECOND;
    const char *holder;

    while ((holder = before(self, waiter)) != NULL) {
        gint64 now = g_get_monotonic_time();

        if (g_cancellable_is_cancelled(cancel)) {
            vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL,
                         "cancelled while waiting for %s", holder);
            return FALSE;
        }
        if (wait_ms >= 0 && now >= deadline) {
            vr_set_error(error, VR_ERROR_CONFLICT, "busy", "Wait until it has ended, or cancel it.",
                         "%s is at work on domain %s", holder, waiter->uuid);
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
    Waiter waiter = {uuid, holder};
    gboolean ok;

    g_ptr_array_add(self->waiters, &waiter);
    ok = wait_until_free(self, &waiter, wait_ms, cancel, error);
    g_ptr_array_remove(self->waiters, &waiter);
    if (ok)
        g_hash_table_insert(self->holders, g_strdup(uuid), g_strdup(holder));
    else
        g_cond_broadcast(&self->freed); /* who comes next waits for another one */
    return ok;
}

void
vr_guard_release(VrGuards *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    g_hash_table_remove(self->holders, uuid);
    g_cond_broadcast(&self->freed);
}
