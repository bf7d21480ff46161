/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Locks: self->lock guards every field below it; it is never held across a libvirt call that can
 * block. The opener thread owns opening and closing. A broken connection is only marked (by the
 * close callback or by vr_conn_ref() seeing it dead); the opener takes it away and opens anew.
 */
#include "qmp/conn.h"

#include <libvirt/virterror.h>

#include "policies/error.h"
#include "policies/ids.h"
#include "qmp/virerr.h"

#define CALLS_IN_FLIGHT 4
/* Twice as long as libvirt waits for another job of a domain; a QEMU that hangs keeps its call. */
#define CALLS_WAIT_US (60 * G_USEC_PER_SEC)
#define KEEPALIVE_S 5
#define KEEPALIVE_COUNT 5
#define BACKOFF_MAX_S 30
#define CLOSE_WAIT_US (5 * G_USEC_PER_SEC)
#define PING_EVERY_S 5
#define PING_US (8 * G_USEC_PER_SEC) /* one that takes longer tells that libvirt hangs */

enum {
    EVENT_LIFECYCLE,
    EVENT_IO_ERROR,
    EVENT_JOB,
    EVENT_ADDED,
    EVENT_REMOVED,
    EVENT_METADATA,
    N_EVENTS
};

struct _VrConn {
    gatomicrefcount refs;
    char *uri;
    VrConnOps ops;
    gpointer user_data;
    gboolean detached; /* main thread only: no callback any more */
    GThread *opener;
    GMutex lock;
    GCond cond;
    virConnectPtr calls;  /* owned, NULL when down */
    virConnectPtr events; /* owned, NULL when down */
    int event_ids[N_EVENTS];
    gboolean broken;
    gboolean stop;
    gboolean stopped;
    guint in_flight;
    gulong qemu_version;
    gulong libvirt_version;
    char *why;        /* owned: why it is down */
    gint64 down_us;   /* wall: since when; 0: it is up */
    gint64 pinged_us; /* wall: when a ping that is not answered began; 0: none */
};

static GPrivate depth_of_thread; /* nested vr_conn_ref() calls of this thread */

static VrConn *
conn_ref(VrConn *self)
{
    g_atomic_ref_count_inc(&self->refs);
    return self;
}

static void
conn_unref(void *data)
{
    VrConn *self = data;

    if (!g_atomic_ref_count_dec(&self->refs))
        return;
    g_free(self->uri);
    g_free(self->why);
    g_mutex_clear(&self->lock);
    g_cond_clear(&self->cond);
    g_free(self);
}

/* Events: in the main thread, as libvirt's event loop is the default main context. */

static gboolean
uuid_of(virDomainPtr dom, char *ret_uuid)
{
    return virDomainGetUUIDString(dom, ret_uuid) == 0;
}

static int
on_lifecycle(virConnectPtr vir G_GNUC_UNUSED, virDomainPtr dom, int event, int detail, void *data)
{
    VrConn *self = data;
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (!self->detached && self->ops.lifecycle && uuid_of(dom, uuid))
        self->ops.lifecycle(uuid, event, detail, self->user_data);
    return 0;
}

static void
on_io_error(virConnectPtr vir G_GNUC_UNUSED, virDomainPtr dom, const char *path,
            const char *alias G_GNUC_UNUSED, int action G_GNUC_UNUSED, const char *reason,
            void *data)
{
    VrConn *self = data;
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (!self->detached && self->ops.io_error && uuid_of(dom, uuid))
        self->ops.io_error(uuid, path ? path : "", reason ? reason : "", self->user_data);
}

static void
on_job_completed(virConnectPtr vir G_GNUC_UNUSED, virDomainPtr dom,
                 virTypedParameterPtr params G_GNUC_UNUSED, int n_params G_GNUC_UNUSED, void *data)
{
    VrConn *self = data;
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (!self->detached && self->ops.job_completed && uuid_of(dom, uuid))
        self->ops.job_completed(uuid, self->user_data);
}

static void
changed(VrConn *self, virDomainPtr dom)
{
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (!self->detached && self->ops.changed && uuid_of(dom, uuid))
        self->ops.changed(uuid, self->user_data);
}

static void
on_device(virConnectPtr vir G_GNUC_UNUSED, virDomainPtr dom, const char *alias G_GNUC_UNUSED,
          void *data)
{
    changed(data, dom);
}

static void
on_metadata(virConnectPtr vir G_GNUC_UNUSED, virDomainPtr dom, int type G_GNUC_UNUSED,
            const char *uri G_GNUC_UNUSED, void *data)
{
    changed(data, dom);
}

static const struct {
    int id;
    virConnectDomainEventGenericCallback callback;
} events[N_EVENTS] = {
    [EVENT_LIFECYCLE] = {VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle)},
    [EVENT_IO_ERROR] = {VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON,
                        VIR_DOMAIN_EVENT_CALLBACK(on_io_error)},
    [EVENT_JOB] = {VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK(on_job_completed)},
    [EVENT_ADDED] = {VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, VIR_DOMAIN_EVENT_CALLBACK(on_device)},
    [EVENT_REMOVED] = {VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_device)},
    [EVENT_METADATA] = {VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
                        VIR_DOMAIN_EVENT_CALLBACK(on_metadata)},
};

static gboolean
tell_reconnected(gpointer data)
{
    VrConn *self = data;

    if (!self->detached && self->ops.reconnected)
        self->ops.reconnected(self->user_data);
    return G_SOURCE_REMOVE;
}

static gboolean
tell_lost(gpointer data)
{
    VrConn *self = data;

    if (!self->detached && self->ops.lost)
        self->ops.lost(self->user_data);
    return G_SOURCE_REMOVE;
}

/* g_main_context_invoke() would run it in this thread while the loop is not running. */
static void
tell_main(VrConn *self, GSourceFunc function)
{
    g_autoptr(GSource) idle = g_idle_source_new();

    g_source_set_priority(idle, G_PRIORITY_DEFAULT);
    g_source_set_callback(idle, function, conn_ref(self), conn_unref);
    g_source_attach(idle, NULL);
}

/* The opener thread. */

static void
on_close(virConnectPtr vir, int reason G_GNUC_UNUSED, void *data)
{
    VrConn *self = data;

    g_mutex_lock(&self->lock);
    if (vir == self->calls || vir == self->events)
        self->broken = TRUE;
    g_cond_broadcast(&self->cond);
    g_mutex_unlock(&self->lock);
}

static virConnectPtr
open_one(VrConn *self)
{
    virConnectPtr vir = virConnectOpen(self->uri);

    if (!vir)
        return NULL;
    /* Drivers without a network (test:///default) know neither; a daemon's does. */
    if (virConnectSetKeepAlive(vir, KEEPALIVE_S, KEEPALIVE_COUNT) < 0)
        vr_virerr_ignore();
    if (virConnectRegisterCloseCallback(vir, on_close, conn_ref(self), conn_unref) < 0) {
        vr_virerr_ignore();
        conn_unref(self);
    }
    return vir;
}

static void
close_one(virConnectPtr vir)
{
    if (!vir)
        return;
    virConnectUnregisterCloseCallback(vir, on_close);
    virConnectClose(vir);
    vr_virerr_ignore();
}

static gboolean
register_events(VrConn *self, virConnectPtr vir)
{
    for (guint i = 0; i < N_EVENTS; i++) {
        self->event_ids[i] = virConnectDomainEventRegisterAny(
            vir, NULL, events[i].id, events[i].callback, conn_ref(self), conn_unref);
        if (self->event_ids[i] < 0)
            conn_unref(self);
    }
    return self->event_ids[EVENT_LIFECYCLE] >= 0;
}

static void
close_events(VrConn *self, virConnectPtr vir)
{
    for (guint i = 0; vir && i < N_EVENTS; i++) {
        if (self->event_ids[i] >= 0)
            virConnectDomainEventDeregisterAny(vir, self->event_ids[i]);
    }
    close_one(vir);
}

static gboolean
open_both(VrConn *self)
{
    virConnectPtr calls = open_one(self);
    virConnectPtr both[2] = {calls, calls ? open_one(self) : NULL};
    gulong qemu = 0, lib = 0;

    if (!both[1] || !register_events(self, both[1]) || virConnectGetLibVersion(calls, &lib) < 0) {
        const char *message = virGetLastErrorMessage();

        g_mutex_lock(&self->lock);
        g_free(self->why);
        self->why = g_strdup(message);
        g_mutex_unlock(&self->lock);
        close_one(both[1]);
        close_one(both[0]);
        return FALSE;
    }
    if (virConnectGetVersion(calls, &qemu) < 0)
        vr_virerr_ignore();
    g_mutex_lock(&self->lock);
    self->calls = both[0];
    self->events = both[1];
    self->broken = virConnectIsAlive(both[0]) != 1 || virConnectIsAlive(both[1]) != 1;
    self->qemu_version = qemu;
    self->libvirt_version = lib;
    self->down_us = 0;
    g_cond_broadcast(&self->cond);
    g_mutex_unlock(&self->lock);
    return TRUE;
}

static void
close_both(VrConn *self)
{
    virConnectPtr calls, with_events;

    g_mutex_lock(&self->lock);
    calls = g_steal_pointer(&self->calls);
    with_events = g_steal_pointer(&self->events);
    self->broken = FALSE;
    self->down_us = g_get_real_time();
    g_free(self->why);
    self->why = g_strdup("connection lost");
    g_mutex_unlock(&self->lock);
    close_events(self, with_events);
    close_one(calls);
}

/* TRUE when it must stop. */
static gboolean
wait_until_broken(VrConn *self)
{
    gboolean stop;

    g_mutex_lock(&self->lock);
    while (!self->stop && !self->broken)
        g_cond_wait(&self->cond, &self->lock);
    stop = self->stop;
    g_mutex_unlock(&self->lock);
    return stop;
}

static gboolean
wait_backoff(VrConn *self, guint seconds)
{
    gint64 until = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
    gboolean stop;

    g_mutex_lock(&self->lock);
    while (!self->stop && g_cond_wait_until(&self->cond, &self->lock, until))
        ;
    stop = self->stop;
    g_mutex_unlock(&self->lock);
    return stop;
}

static gpointer
opener_main(gpointer data)
{
    VrConn *self = data;
    guint backoff_s = 1;

    for (;;) {
        if (!open_both(self)) {
            if (wait_backoff(self, backoff_s))
                break;
            backoff_s = MIN(backoff_s * 2, BACKOFF_MAX_S);
            continue;
        }
        backoff_s = 1;
        tell_main(self, tell_reconnected);
        if (wait_until_broken(self))
            break;
        close_both(self);
        tell_main(self, tell_lost);
    }
    close_both(self);
    g_mutex_lock(&self->lock);
    self->stopped = TRUE;
    g_cond_broadcast(&self->cond);
    g_mutex_unlock(&self->lock);
    conn_unref(self);
    return NULL;
}

static gpointer pinger_main(gpointer data);

VrConn *
vr_conn_new(const char *uri, const VrConnOps *ops, gpointer user_data)
{
    static gsize once;
    VrConn *self = g_new0(VrConn, 1);

    if (g_once_init_enter(&once)) {
        vr_virerr_init();
        if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0)
            g_critical("libvirt cannot be initialised: %s", virGetLastErrorMessage());
        g_once_init_leave(&once, 1);
    }
    g_atomic_ref_count_init(&self->refs);
    self->uri = g_strdup(uri);
    if (ops)
        self->ops = *ops;
    self->user_data = user_data;
    self->why = g_strdup("not connected yet");
    self->down_us = g_get_real_time();
    g_mutex_init(&self->lock);
    g_cond_init(&self->cond);
    self->opener = g_thread_new("libvirt-open", opener_main, conn_ref(self));
    g_thread_unref(g_thread_new("libvirt-ping", pinger_main, conn_ref(self)));
    return self;
}

void
vr_conn_free(VrConn *self)
{
    gint64 until = g_get_monotonic_time() + CLOSE_WAIT_US;
    gboolean stopped;

    if (!self)
        return;
    self->detached = TRUE;
    g_mutex_lock(&self->lock);
    self->stop = TRUE;
    g_cond_broadcast(&self->cond);
    while (!self->stopped && g_cond_wait_until(&self->cond, &self->lock, until))
        ;
    stopped = self->stopped;
    g_mutex_unlock(&self->lock);
    /* A libvirtd that hangs keeps the opener in a call; its own reference keeps the struct. */
    if (stopped)
        g_thread_join(self->opener);
    else
        g_thread_unref(self->opener);
    conn_unref(self);
}

/* Calls. */

static void
set_unreachable(VrConn *self, GError **error)
{
    vr_set_error(error, VR_ERROR_TRANSIENT, "libvirt-unreachable",
                 "Check that libvirtd or virtqemud runs.", "libvirt at '%s': %s", self->uri,
                 self->why);
}

static void
set_pinged(VrConn *self, gint64 pinged_us)
{
    g_mutex_lock(&self->lock);
    self->pinged_us = pinged_us;
    g_mutex_unlock(&self->lock);
}

/* Asks something that needs no domain, to see whether libvirt answers. */
static void
ping(VrConn *self)
{
    virConnectPtr vir;
    gulong version;

    set_pinged(self, g_get_real_time());
    vir = vr_conn_ref(self, NULL);
    if (vir && virConnectGetLibVersion(vir, &version) < 0)
        vr_virerr_ignore();
    if (vir)
        vr_conn_unref(self, vir);
    set_pinged(self, 0);
}

/* Its own reference keeps the struct when a libvirt that hangs keeps it in a call. */
static gpointer
pinger_main(gpointer data)
{
    VrConn *self = data;

    while (!wait_backoff(self, PING_EVERY_S))
        ping(self);
    conn_unref(self);
    return NULL;
}

char *
vr_conn_why_away(VrConn *self, gint64 *ret_since_us)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    gint64 hangs_us = self->pinged_us ? g_get_real_time() - self->pinged_us : 0;

    *ret_since_us = self->down_us ? self->down_us : self->pinged_us;
    if (self->down_us)
        return g_strdup(self->why);
    if (hangs_us <= PING_US)
        return NULL;
    return g_strdup_printf("it has not answered a question for %d s",
                           (int) (hangs_us / G_USEC_PER_SEC));
}

gboolean
vr_conn_wait(VrConn *self, guint timeout_ms, GCancellable *cancel, GError **error)
{
    gint64 until = g_get_monotonic_time() + (gint64) timeout_ms * 1000;
    gboolean up;

    g_mutex_lock(&self->lock);
    while ((!self->calls || self->broken) && g_get_monotonic_time() < until &&
           !g_cancellable_is_cancelled(cancel))
        g_cond_wait_until(&self->cond, &self->lock,
                          MIN(until, g_get_monotonic_time() + G_USEC_PER_SEC / 10));
    up = self->calls && !self->broken;
    if (!up && !g_cancellable_is_cancelled(cancel))
        set_unreachable(self, error);
    g_mutex_unlock(&self->lock);
    if (!up && g_cancellable_is_cancelled(cancel))
        vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL,
                     "waiting for libvirt: cancelled");
    return up;
}

/* Lock held. */
static gboolean
must_wait(const VrConn *self, guint depth)
{
    return depth == 0 && self->in_flight >= CALLS_IN_FLIGHT && self->calls && !self->broken;
}

virConnectPtr
vr_conn_ref(VrConn *self, GError **error)
{
    guint depth = GPOINTER_TO_UINT(g_private_get(&depth_of_thread));
    gint64 until = g_get_monotonic_time() + CALLS_WAIT_US;
    virConnectPtr vir = NULL;

    g_mutex_lock(&self->lock);
    while (must_wait(self, depth) && g_cond_wait_until(&self->cond, &self->lock, until))
        ;
    if (must_wait(self, depth)) {
        vr_set_error(error, VR_ERROR_TRANSIENT, "libvirt-busy",
                     "Check whether the QEMU of a domain hangs.",
                     "libvirt at '%s' has not answered %d other calls for %d s", self->uri,
                     CALLS_IN_FLIGHT, (int) (CALLS_WAIT_US / G_USEC_PER_SEC));
        g_mutex_unlock(&self->lock);
        return NULL;
    }
    if (self->calls && !self->broken && virConnectIsAlive(self->calls) != 1) {
        self->broken = TRUE;
        g_cond_broadcast(&self->cond);
    }
    if (self->calls && !self->broken) {
        vir = self->calls;
        virConnectRef(vir);
        conn_ref(self);
        if (depth == 0)
            self->in_flight++;
    } else {
        set_unreachable(self, error);
    }
    g_mutex_unlock(&self->lock);
    if (vir)
        g_private_set(&depth_of_thread, GUINT_TO_POINTER(depth + 1));
    return vir;
}

void
vr_conn_unref(VrConn *self, virConnectPtr vir)
{
    guint depth = GPOINTER_TO_UINT(g_private_get(&depth_of_thread));

    if (!vir)
        return;
    virConnectClose(vir);
    depth--;
    g_private_set(&depth_of_thread, GUINT_TO_POINTER(depth));
    if (depth == 0) {
        g_mutex_lock(&self->lock);
        self->in_flight--;
        g_cond_broadcast(&self->cond);
        g_mutex_unlock(&self->lock);
    }
    conn_unref(self);
}

const char *
vr_conn_uri(const VrConn *self)
{
    return self->uri;
}

static gulong
get_locked(VrConn *self, const gulong *field)
{
    gulong value;

    g_mutex_lock(&self->lock);
    value = *field;
    g_mutex_unlock(&self->lock);
    return value;
}

gulong
vr_conn_qemu_version(VrConn *self)
{
    return get_locked(self, &self->qemu_version);
}

gulong
vr_conn_libvirt_version(VrConn *self)
{
    return get_locked(self, &self->libvirt_version);
}

VrDom *
vr_dom_open(VrConn *conn, const char *domain, GError **error)
{
    virConnectPtr vir = vr_conn_ref(conn, error);
    g_autofree char *shown = vr_display_name(domain, 80);
    virDomainPtr dom = NULL;
    VrDom *self;

    if (!vir)
        return NULL;
    if (vr_uuid_valid(domain))
        dom = virDomainLookupByUUIDString(vir, domain);
    if (!dom)
        dom = virDomainLookupByName(vir, domain);
    if (!dom) {
        vr_virerr_set(error, "domain '%s'", shown);
        vr_conn_unref(conn, vir);
        return NULL;
    }
    self = g_new0(VrDom, 1);
    self->conn = conn;
    self->vir = vir;
    self->dom = dom;
    self->name = virDomainGetName(dom);
    return self;
}

void
vr_dom_close(VrDom *self)
{
    if (!self)
        return;
    virDomainFree(self->dom);
    vr_conn_unref(self->conn, self->vir);
    g_free(self);
}
