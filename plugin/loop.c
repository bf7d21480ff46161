/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/loop.h"

struct _VrLoop {
    VrLoopFunc func;
    gpointer data;        /* borrowed */
    GThread *thread;      /* owned */
    GCancellable *cancel; /* owned */
    GMutex lock;          /* guards what follows */
    GCond changed;
    gboolean woken;
};

static gpointer
loop_thread(gpointer data)
{
    VrLoop *self = data;

    self->func(self, self->data);
    return NULL;
}

VrLoop *
vr_loop_start(const char *name, VrLoopFunc func, gpointer data)
{
    VrLoop *self = g_new0(VrLoop, 1);

    self->func = func;
    self->data = data;
    self->cancel = g_cancellable_new();
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);
    self->thread = g_thread_new(name, loop_thread, self);
    return self;
}

void
vr_loop_stop(VrLoop *self)
{
    if (self == NULL)
        return;
    g_cancellable_cancel(self->cancel);
    vr_loop_wake(self);
    g_thread_join(self->thread);
    g_object_unref(self->cancel);
    g_cond_clear(&self->changed);
    g_mutex_clear(&self->lock);
    g_free(self);
}

void
vr_loop_wake(VrLoop *self)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    self->woken = TRUE;
    g_cond_broadcast(&self->changed);
}

GCancellable *
vr_loop_cancellable(VrLoop *self)
{
    return self->cancel;
}

gboolean
vr_loop_ends(VrLoop *self)
{
    return g_cancellable_is_cancelled(self->cancel);
}

gboolean
vr_loop_wait(VrLoop *self, gint64 until_us)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    gboolean woken;

    while (!self->woken && !vr_loop_ends(self) &&
           g_cond_wait_until(&self->changed, &self->lock, until_us))
        ;
    woken = self->woken;
    self->woken = FALSE;
    return woken;
}
