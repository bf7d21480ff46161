/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>
#include <libvirt/libvirt.h>

G_BEGIN_DECLS

/**
 * SECTION: the connection to libvirt.
 *
 * Two connections: one only receives events, one carries the calls, so that slow calls never starve
 * keepalive. A thread of ours opens them and opens them again after a loss (1, 2, 4 ... 30 s).
 * Events need the GLib default main context to be iterated. Calls are made from worker threads
 * only.
 */
typedef struct _VrConn VrConn;

/** Called in the default main context, one at a time; must not block and must not call libvirt.
 *  Any member may be NULL. @uuid is valid during the call only. */
typedef struct {
    /** Connected (the first time as well): events may have been missed, reconcile everything. */
    void (*reconnected)(gpointer user_data);
    void (*lost)(gpointer user_data);
    /** @event: virDomainEventType, @detail: of that event. */
    void (*lifecycle)(const char *uuid, int event, int detail, gpointer user_data);
    /** @reason: "enospc" or another word or empty; @path: often empty. */
    void (*io_error)(const char *uuid, const char *path, const char *reason, gpointer user_data);
    void (*job_completed)(const char *uuid, gpointer user_data);
    /** A disk came or went, the definition or metadata changed: look at the domain again. */
    void (*changed)(const char *uuid, gpointer user_data);
} VrConnOps;

/**
 * vr_conn_new:
 * @ops: (nullable): copied
 *
 * Main thread. Does not wait: until connected vr_conn_ref() fails with TRANSIENT.
 */
VrConn *vr_conn_new(const char *uri, const VrConnOps *ops, gpointer user_data);

/** Main thread. No callback runs afterwards; closes when the last vr_conn_unref() has come. */
void vr_conn_free(VrConn *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrConn, vr_conn_free)

/** Blocks until connected or @timeout_ms passed. Worker thread. Errors: TRANSIENT, CANCELLED. */
gboolean vr_conn_wait(VrConn *self, guint timeout_ms, GCancellable *cancel, GError **error);

/** Why libvirt cannot be asked now: it is down, or has not answered a ping, made every 5 s, for 8
 * s. NULL: it answers. Does not block. (transfer full) @ret_since_us: wall. */
char *vr_conn_why_away(VrConn *self, gint64 *ret_since_us);

/**
 * vr_conn_ref:
 *
 * The connection for a call or a short group of calls; blocks while four other threads are in
 * one, 60 s at most. The same thread may nest. Give it back with vr_conn_unref() before sleeping or
 * waiting. Errors: TRANSIENT "libvirt-unreachable", "libvirt-busy".
 */
virConnectPtr vr_conn_ref(VrConn *self, GError **error);
void vr_conn_unref(VrConn *self, virConnectPtr vir);

const char *vr_conn_uri(const VrConn *self);

/** 1000000 * major + 1000 * minor + micro, of the QEMU binary installed and of the libvirt daemon,
 *  read at the last connect; 0 before. Any thread. */
gulong vr_conn_qemu_version(VrConn *self);
gulong vr_conn_libvirt_version(VrConn *self);

/** A domain found by UUID or name together with the slot of its call. */
typedef struct {
    VrConn *conn;      /* borrowed */
    virConnectPtr vir; /* owned */
    virDomainPtr dom;  /* owned */
    const char *name;  /* borrowed from dom; asking libvirt for it resets its last error */
} VrDom;

/** A canonical UUID first, so that no domain named like another's UUID is ever taken for it, then
 * an exact name. Errors: NOT_FOUND "no-such-domain", TRANSIENT. */
VrDom *vr_dom_open(VrConn *conn, const char *name_or_uuid, GError **error);
void vr_dom_close(VrDom *dom);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrDom, vr_dom_close)

G_END_DECLS
