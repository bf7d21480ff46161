/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every wait has a deadline: requests are issued asynchronously and the socket is polled. A handle
 * that missed a deadline is closed at once, so that no late answer is written into the caller's
 * buffer.
 */
#include "qmp/point/nbd_source.h"

#include <libnbd.h>
#include <string.h>

#include "policies/error.h"
#include "storage/wire/cycle.h"

#define CONNECT_MS 10000
#define ANSWER_MS 30000
#define CLOSE_MS 5000
#define REQUEST_MAX ((gsize) 1024 * 1024)
#define REQUESTS (VR_SOURCE_READ_MAX / REQUEST_MAX)
#define STATUS_SPAN (G_GUINT64_CONSTANT(1) << 30)
/* Dirty ranges closer than this share one question about allocation. */
#define STATUS_GAP (G_GUINT64_CONSTANT(16) << 20)
#define SECTOR 512

struct _VrNbdGate {
    gatomicrefcount refs;
    GMutex lock; /* guards all below */
    GCond cond;
    gboolean closed;
    guint connecting;
    guint open;
};

struct _VrNbdSource {
    VrSource source; /* first: a VrSource * is cast back */
    char *socket;    /* owned */
    char *export;    /* owned */
    VrNbdGate *gate; /* owned reference */
};

struct _VrSourceReader {
    VrNbdSource *owner;     /* borrowed */
    struct nbd_handle *nbd; /* owned; NULL after a failure */
};

VrNbdGate *
vr_nbd_gate_new(void)
{
    VrNbdGate *gate = g_new0(VrNbdGate, 1);

    g_atomic_ref_count_init(&gate->refs);
    g_mutex_init(&gate->lock);
    g_cond_init(&gate->cond);
    return gate;
}

void
vr_nbd_gate_unref(VrNbdGate *gate)
{
    if (!gate || !g_atomic_ref_count_dec(&gate->refs))
        return;
    g_mutex_clear(&gate->lock);
    g_cond_clear(&gate->cond);
    g_free(gate);
}

void
vr_nbd_gate_close(VrNbdGate *gate)
{
    g_mutex_lock(&gate->lock);
    gate->closed = TRUE;
    while (gate->connecting > 0)
        g_cond_wait(&gate->cond, &gate->lock);
    g_mutex_unlock(&gate->lock);
}

gboolean
vr_nbd_gate_wait_idle(VrNbdGate *gate, guint timeout_ms)
{
    gint64 until = g_get_monotonic_time() + (gint64) timeout_ms * 1000;
    gboolean idle;

    g_mutex_lock(&gate->lock);
    while (gate->open + gate->connecting > 0 && g_cond_wait_until(&gate->cond, &gate->lock, until))
        ;
    idle = gate->open + gate->connecting == 0;
    g_mutex_unlock(&gate->lock);
    return idle;
}

static gboolean
gate_enter(VrNbdGate *gate)
{
    gboolean entered;

    g_mutex_lock(&gate->lock);
    entered = !gate->closed;
    if (entered)
        gate->connecting++;
    g_mutex_unlock(&gate->lock);
    return entered;
}

static void
gate_connected(VrNbdGate *gate, gboolean open)
{
    g_mutex_lock(&gate->lock);
    gate->connecting--;
    if (open)
        gate->open++;
    g_cond_broadcast(&gate->cond);
    g_mutex_unlock(&gate->lock);
}

static void
gate_leave(VrNbdGate *gate)
{
    g_mutex_lock(&gate->lock);
    gate->open--;
    g_cond_broadcast(&gate->cond);
    g_mutex_unlock(&gate->lock);
}

static void
set_nbd_error(GError **error, const VrNbdSource *self, const char *what)
{
    const char *message = nbd_get_error();

    vr_set_error(error, VR_ERROR_TRANSIENT, "source-failed", NULL, "export '%s' on '%s': %s: %s",
                 self->export, self->socket, what, message ? message : "no reason given");
}

static void
set_stalled(GError **error, const VrNbdSource *self, const char *what)
{
    vr_set_error(error, VR_ERROR_TRANSIENT, "source-stalled", "Check whether QEMU still answers.",
                 "export '%s' on '%s': %s: no answer in time", self->export, self->socket, what);
}

/* One turn of the socket. FALSE: failed or @until has passed. */
static gboolean
turn(const VrNbdSource *self, struct nbd_handle *nbd, gint64 until, const char *what,
     GError **error)
{
    gint64 left_ms = (until - g_get_monotonic_time()) / 1000;
    int rc = left_ms > 0 ? nbd_poll(nbd, (int) left_ms) : 0;

    if (rc > 0)
        return TRUE;
    if (rc < 0)
        set_nbd_error(error, self, what);
    else
        set_stalled(error, self, what);
    return FALSE;
}

/* Wishes to disconnect, waits for the server to close, closes. */
static void
disconnect(struct nbd_handle *nbd)
{
    gint64 until = g_get_monotonic_time() + CLOSE_MS * 1000;

    if (nbd_aio_is_ready(nbd) == 1 && nbd_aio_disconnect(nbd, 0) == 0) {
        while (nbd_aio_is_closed(nbd) != 1 && nbd_aio_is_dead(nbd) != 1) {
            gint64 left_ms = (until - g_get_monotonic_time()) / 1000;

            if (left_ms <= 0 || nbd_poll(nbd, (int) left_ms) <= 0)
                break;
        }
    }
    nbd_close(nbd);
}

static struct nbd_handle *
connect_handle(VrNbdSource *self, const char *context, GError **error)
{
    gint64 until = g_get_monotonic_time() + CONNECT_MS * 1000;
    struct nbd_handle *nbd = nbd_create();

    if (!nbd || nbd_set_export_name(nbd, self->export) < 0 ||
        (context && nbd_add_meta_context(nbd, context) < 0) ||
        nbd_aio_connect_unix(nbd, self->socket) < 0) {
        set_nbd_error(error, self, "connect");
        nbd_close(nbd);
        return NULL;
    }
    while (nbd_aio_is_ready(nbd) != 1) {
        if (nbd_aio_is_dead(nbd) == 1 || nbd_aio_is_closed(nbd) == 1) {
            set_nbd_error(error, self, "connect");
            nbd_close(nbd);
            return NULL;
        }
        if (!turn(self, nbd, until, "connect", error)) {
            nbd_close(nbd);
            return NULL;
        }
    }
    return nbd;
}

/* Connects unless the gate is closed; the connection is counted until close_handle(). */
static struct nbd_handle *
open_handle(VrNbdSource *self, const char *context, GError **error)
{
    struct nbd_handle *nbd;

    if (!gate_enter(self->gate)) {
        vr_set_error(error, VR_ERROR_CANCELLED, "point-ended", NULL,
                     "export '%s': the point has ended", self->export);
        return NULL;
    }
    nbd = connect_handle(self, context, error);
    gate_connected(self->gate, nbd != NULL);
    return nbd;
}

static void
close_handle(VrNbdSource *self, struct nbd_handle *nbd)
{
    if (!nbd)
        return;
    disconnect(nbd);
    gate_leave(self->gate);
}

/* Reading. */

static VrSourceReader *
reader_open(VrSource *source, GError **error)
{
    VrNbdSource *self = (VrNbdSource *) source;
    g_autofree VrSourceReader *reader = g_new0(VrSourceReader, 1);
    gint64 size;

    reader->owner = self;
    reader->nbd = open_handle(self, NULL, error);
    if (!reader->nbd)
        return NULL;
    size = nbd_get_size(reader->nbd);
    if (size < 0 || (guint64) size != source->size_bytes) {
        vr_set_error(error, VR_ERROR_TRANSIENT, "source-resized", NULL,
                     "export '%s': size is %" G_GINT64_FORMAT ", was %" G_GUINT64_FORMAT,
                     self->export, size, source->size_bytes);
        close_handle(self, reader->nbd);
        return NULL;
    }
    return g_steal_pointer(&reader);
}

/* After a failure: nothing may write into the caller's buffer any more. */
static gboolean
drop_handle(VrSourceReader *reader)
{
    nbd_close(g_steal_pointer(&reader->nbd));
    gate_leave(reader->owner->gate);
    return FALSE;
}

static gboolean
wait_requests(VrSourceReader *reader, const gint64 *cookies, guint n, GError **error)
{
    gint64 until = g_get_monotonic_time() + ANSWER_MS * 1000;

    for (guint i = 0; i < n; i++) {
        int rc;

        while ((rc = nbd_aio_command_completed(reader->nbd, (guint64) cookies[i])) == 0) {
            if (!turn(reader->owner, reader->nbd, until, "read", error))
                return FALSE;
        }
        if (rc < 0) {
            set_nbd_error(error, reader->owner, "read");
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
reader_read(VrSourceReader *reader, guint64 offset, gsize len, guint8 *buf, GError **error)
{
    gint64 cookies[REQUESTS];
    guint n = 0;

    g_return_val_if_fail(len <= VR_SOURCE_READ_MAX, FALSE);
    if (!reader->nbd) {
        vr_set_error(error, VR_ERROR_TRANSIENT, "source-failed", NULL,
                     "export '%s': the connection failed before", reader->owner->export);
        return FALSE;
    }
    for (gsize done = 0; done < len; done += REQUEST_MAX, n++) {
        cookies[n] = nbd_aio_pread(reader->nbd, buf + done, MIN(len - done, REQUEST_MAX),
                                   offset + done, NBD_NULL_COMPLETION, 0);
        if (cookies[n] < 0) {
            set_nbd_error(error, reader->owner, "read");
            return drop_handle(reader);
        }
    }
    if (!wait_requests(reader, cookies, n, error))
        return drop_handle(reader);
    return TRUE;
}

static void
reader_close(VrSourceReader *reader)
{
    if (!reader)
        return;
    close_handle(reader->owner, reader->nbd);
    g_free(reader);
}

static const VrSourceOps source_ops = {reader_open, reader_read, reader_close};

VrNbdSource *
vr_nbd_source_new(const char *socket_path, const char *export_name, VrNbdGate *gate)
{
    VrNbdSource *self = g_new0(VrNbdSource, 1);

    g_atomic_ref_count_inc(&gate->refs);
    self->source.ops = &source_ops;
    self->socket = g_strdup(socket_path);
    self->export = g_strdup(export_name);
    self->gate = gate;
    return self;
}

void
vr_nbd_source_free(VrNbdSource *self)
{
    if (!self)
        return;
    vr_nbd_gate_unref(self->gate);
    g_free(self->socket);
    g_free(self->export);
    g_free(self);
}

VrSource *
vr_nbd_source_get(VrNbdSource *self)
{
    return &self->source;
}

/* Block status. */

typedef struct {
    const char *context; /* borrowed */
    guint32 bit;         /* the flag looked for */
    gboolean keep_only;  /* ranges with the bit only; otherwise all, the bit giving ZERO */
    guint64 size;
    guint64 start;      /* of the question */
    guint64 end;        /* of the question */
    guint64 reached;    /* up to where it has been answered */
    const char *bad;    /* static: what is wrong with the answer; NULL: nothing */
    VrExtents *extents; /* owned by the caller */
} Status;

static const char *
take_entry(Status *status, guint64 length, guint32 flags)
{
    guint64 usable;

    if (length == 0)
        return "an empty range";
    if (length % SECTOR != 0)
        return "a range that is no multiple of 512 bytes";
    if (length > status->size - status->reached)
        return "a range past the end";
    /* The last range may be longer than what was asked. */
    usable = MIN(length, status->end - status->reached);
    if (status->keep_only ? (flags & status->bit) != 0 : TRUE) {
        guint32 kind =
            !status->keep_only && (flags & status->bit) ? VR_EXTENT_ZERO : VR_EXTENT_DATA;

        if (!vr_extents_append(status->extents, status->reached, usable, kind))
            return "overlapping ranges";
    }
    status->reached += usable;
    return NULL;
}

/* libnbd calls it once for each context in an answer; we ask for one only. */
static int
on_status(void *data, const char *context, uint64_t offset, uint32_t *entries, size_t n_entries,
          int *error G_GNUC_UNUSED)
{
    Status *status = data;

    if (status->bad || strcmp(context, status->context) != 0)
        return 0;
    if (offset != status->start || status->reached != status->start)
        status->bad = "a range that was not asked for";
    for (size_t i = 0; !status->bad && i + 1 < n_entries && status->reached < status->end; i += 2)
        status->bad = take_entry(status, entries[i], entries[i + 1]);
    return 0;
}

static gboolean
ask_once(VrNbdSource *self, struct nbd_handle *nbd, Status *status, GError **error)
{
    gint64 until = g_get_monotonic_time() + ANSWER_MS * 1000;
    gint64 cookie;
    int rc;

    status->start = status->reached;
    cookie = nbd_aio_block_status(nbd, status->end - status->start, status->start,
                                  (nbd_extent_callback){.callback = on_status, .user_data = status},
                                  NBD_NULL_COMPLETION, 0);
    if (cookie < 0) {
        set_nbd_error(error, self, "block status");
        return FALSE;
    }
    while ((rc = nbd_aio_command_completed(nbd, (guint64) cookie)) == 0) {
        if (!turn(self, nbd, until, "block status", error))
            return FALSE;
    }
    if (rc < 0) {
        set_nbd_error(error, self, "block status");
        return FALSE;
    }
    if (!status->bad && status->reached == status->start)
        status->bad = "nothing";
    if (status->bad) {
        vr_set_error(error, VR_ERROR_INTERNAL, "source-bad-answer", NULL,
                     "export '%s': block status answered with %s", self->export, status->bad);
        return FALSE;
    }
    return TRUE;
}

static gboolean
ask_range(VrNbdSource *self, struct nbd_handle *nbd, Status *status, guint64 start, guint64 end,
          GCancellable *cancel, GError **error)
{
    status->reached = start;
    while (status->reached < end) {
        if (g_cancellable_is_cancelled(cancel)) {
            vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "export '%s': cancelled",
                         self->export);
            return FALSE;
        }
        status->end = MIN(end, status->reached + STATUS_SPAN);
        if (!ask_once(self, nbd, status, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
check_size(VrNbdSource *self, struct nbd_handle *nbd, GError **error)
{
    gint64 size = nbd_get_size(nbd);

    if (size < 0 || size % SECTOR != 0 || (guint64) size > VR_MAX_DISK_BYTES) {
        vr_set_error(error, VR_ERROR_INTERNAL, "source-bad-answer", NULL,
                     "export '%s': %" G_GINT64_FORMAT " is no size of a disk", self->export, size);
        return FALSE;
    }
    self->source.size_bytes = (guint64) size;
    return TRUE;
}

/* The ranges of @context within @within (NULL: the whole disk). */
static VrExtents *
ask_context(VrNbdSource *self, const char *context, guint32 bit, gboolean keep_only,
            const VrExtents *within, GCancellable *cancel, GError **error)
{
    g_autoptr(VrExtents) extents = vr_extents_new();
    Status status = {.context = context, .bit = bit, .keep_only = keep_only, .extents = extents};
    struct nbd_handle *nbd = open_handle(self, context, error);
    gboolean ok;

    if (!nbd)
        return NULL;
    ok = check_size(self, nbd, error);
    if (ok && nbd_can_meta_context(nbd, context) != 1) {
        vr_set_error(error, keep_only ? VR_ERROR_RESYNC_NEEDED : VR_ERROR_INTERNAL,
                     keep_only ? "tracking-lost" : "source-bad-answer", NULL,
                     "export '%s' has no '%s'", self->export, context);
        ok = FALSE;
    }
    status.size = self->source.size_bytes;
    if (ok && !within)
        ok = ask_range(self, nbd, &status, 0, status.size, cancel, error);
    for (guint i = 0; ok && within && i < vr_extents_count(within);) {
        guint64 start = vr_extents_get(within, i)->offset;
        guint64 end = start;

        for (;
             i < vr_extents_count(within) && vr_extents_get(within, i)->offset - end <= STATUS_GAP;
             i++)
            end = vr_extents_get(within, i)->offset + vr_extents_get(within, i)->length;
        ok = ask_range(self, nbd, &status, start, end, cancel, error);
    }
    close_handle(self, nbd);
    return ok ? g_steal_pointer(&extents) : NULL;
}

VrExtents *
vr_nbd_source_probe(VrNbdSource *self, const char *bitmap, GCancellable *cancel, GError **error)
{
    g_autofree char *context = bitmap ? g_strdup_printf("qemu:dirty-bitmap:%s", bitmap) : NULL;
    g_autoptr(VrExtents) dirty = NULL;
    g_autoptr(VrExtents) allocation = NULL;

    if (bitmap) {
        dirty = ask_context(self, context, 1, TRUE, NULL, cancel, error);
        if (!dirty)
            return NULL;
        if (vr_extents_count(dirty) == 0)
            return g_steal_pointer(&dirty);
    }
    allocation = ask_context(self, LIBNBD_CONTEXT_BASE_ALLOCATION, LIBNBD_STATE_ZERO, FALSE, dirty,
                             cancel, error);
    if (!allocation)
        return NULL;
    return vr_nbd_extents_merge(dirty, allocation);
}

VrExtents *
vr_nbd_extents_merge(const VrExtents *dirty, const VrExtents *allocation)
{
    const VrExtents *within = dirty ? dirty : allocation;

    return vr_extents_intersect(allocation, within);
}
