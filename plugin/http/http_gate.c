/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A visit that is WAITING is closed here; one that is SHAKING or KNOWN is shut down, so that the
 * server's thread sees its end and closes it, which is safe because a visit leaves before that. One
 * that is PASSED is only forgotten: enter() shuts it down.
 *
 * Few visits are not KNOWN (VR_HTTP_GATE_WAITING and VR_HTTP_GATE_SHAKING), so they are searched
 * one by one; how many of them an address has is counted in its origin.
 *
 * The reserved handshakes are filled as all others are, only that connections of known origins
 * alone are looked at. What such an origin has beyond them is treated like everybody's. */
#include "plugin/http/http_gate.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "plugin/http/http_visit.h"
#include "policies/error.h"

#define ACCEPTS_A_ROUND 64
/* A handshake that has had this long makes room for another one. All that may wait get a turn
 * before they have waited for as long as a client does (10 s): 512 / 28 times as long as this. */
#define TURN_US (G_USEC_PER_SEC / 2)
#define LOOK_AGAIN_MS 20
#define NO_DESCRIPTOR_PAUSE_US (50 * 1000)

struct _VrHttpGate {
    int listen_fd; /* owned */
    int wake_fd;   /* owned; eventfd */
    guint per_peer;
    GThread *thread; /* owned; NULL before start and after stop */
    VrHttpGatePass pass;
    gpointer data;
    GMutex lock; /* guards the rest, and all visits */
    gboolean stopping;
    GPtrArray *unknown;          /* owned; VrHttpVisit, in the order they came */
    VrHttpOrigins *origins;      /* owned */
    guint count[VR_HTTP_PLACES]; /* of all origins */
    GHashTable *known;           /* owned; peer -> GPtrArray of VrHttpVisit */
};

static void
visit_free(gpointer data)
{
    VrHttpVisit *visit = data;

    g_free(visit->peer);
    g_free(visit);
}

VrHttpGate *
vr_http_gate_new(int listen_fd, guint per_peer)
{
    VrHttpGate *self = g_new0(VrHttpGate, 1);

    self->listen_fd = listen_fd;
    self->per_peer = per_peer;
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->wake_fd < 0)
        g_error("no eventfd: %s", g_strerror(errno));
    self->unknown = g_ptr_array_new();
    self->origins = vr_http_origins_new();
    self->known =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify) g_ptr_array_unref);
    g_mutex_init(&self->lock);
    return self;
}

/* @visit, which is not ended, comes to its place (@by: 1) or leaves it (-1). */
static void
count(VrHttpGate *self, const VrHttpVisit *visit, int by)
{
    self->count[visit->place] += (guint) by;
    visit->origin->count[visit->place] += (guint) by;
}

/* Out of the unknown ones. */
static void
take_out(VrHttpGate *self, VrHttpVisit *visit)
{
    if (!visit->ended)
        count(self, visit, -1);
    g_ptr_array_remove(self->unknown, visit);
    vr_http_origins_put(self->origins, g_steal_pointer(&visit->origin));
}

static void
end(VrHttpGate *self, VrHttpVisit *visit)
{
    if (visit->stage == VR_HTTP_STAGE_SHAKING) {
        (void) shutdown(visit->fd, SHUT_RDWR);
        count(self, visit, -1);
        visit->ended = TRUE;
        return;
    }
    if (visit->stage == VR_HTTP_STAGE_WAITING)
        close(visit->fd);
    take_out(self, visit);
    visit_free(visit);
}

/* FALSE: none is there, or there is no descriptor for it. */
static gboolean
accept_one(VrHttpGate *self)
{
    VrHttpVisit *visit;
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    int fd =
        accept4(self->listen_fd, (struct sockaddr *) &address, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            g_usleep(NO_DESCRIPTOR_PAUSE_US);
        return errno == ECONNABORTED || errno == EINTR;
    }
    if (self->count[VR_HTTP_PLACE_WAITING] >= VR_HTTP_GATE_WAITING)
        end(self, vr_http_visits_waiting_victim(self->unknown));
    visit = g_new0(VrHttpVisit, 1);
    visit->fd = fd;
    visit->address = address;
    visit->address_len = len;
    visit->origin = vr_http_origins_get(self->origins, &address);
    visit->due_us = g_get_monotonic_time() + VR_HTTP_GATE_DEADLINE_US;
    g_ptr_array_add(self->unknown, visit);
    count(self, visit, 1);
    return TRUE;
}

/* For a handshake of @origin. */
static gboolean
make_room(VrHttpGate *self, const VrHttpOrigin *origin, VrHttpPlace place, gint64 now_us)
{
    guint most = place == VR_HTTP_PLACE_RESERVED ? VR_HTTP_GATE_RESERVED
                                                 : VR_HTTP_GATE_SHAKING - VR_HTTP_GATE_RESERVED;
    VrHttpVisit *victim;

    if (self->count[place] < most)
        return TRUE;
    victim = vr_http_visits_shaking_victim(self->unknown, place);
    if (victim->origin->count[place] <= origin->count[place] + 1 &&
        victim->due_us - now_us > VR_HTTP_GATE_DEADLINE_US - TURN_US)
        return FALSE;
    end(self, victim);
    return TRUE;
}

/* The one whose turn it is, in its place. NULL: none, or there is no room. */
static VrHttpVisit *
take_turn(VrHttpGate *self, gint64 now_us)
{
    static const VrHttpPlace places[] = {VR_HTTP_PLACE_RESERVED, VR_HTTP_PLACE_SHAKING};

    for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
        VrHttpVisit *next = vr_http_visits_next(self->unknown, places[i]);

        if (!next || !make_room(self, next->origin, places[i], now_us))
            continue;
        count(self, next, -1);
        next->place = places[i];
        count(self, next, 1);
        next->stage = VR_HTTP_STAGE_PASSED;
        next->due_us = now_us + VR_HTTP_GATE_DEADLINE_US;
        return next;
    }
    return NULL;
}

/* @self->lock is held, but not while the server takes a connection. */
static void
pass_turns(VrHttpGate *self)
{
    while (!self->stopping) {
        VrHttpVisit *next = take_turn(self, g_get_monotonic_time());
        struct sockaddr_storage address;
        socklen_t len;
        int fd;

        if (!next)
            return;
        address = next->address;
        len = next->address_len;
        fd = next->fd;
        g_mutex_unlock(&self->lock);
        self->pass(fd, (const struct sockaddr *) &address, len, self->data);
        g_mutex_lock(&self->lock);
    }
}

static void
expire(VrHttpGate *self, gint64 now_us)
{
    for (guint i = self->unknown->len; i-- > 0;) {
        VrHttpVisit *visit = self->unknown->pdata[i];

        if (!visit->ended && now_us >= visit->due_us)
            end(self, visit);
    }
}

static int
poll_timeout_ms(VrHttpGate *self, gint64 now_us)
{
    gint64 first_us = G_MAXINT64;
    gboolean queued = FALSE;

    for (guint i = 0; i < self->unknown->len; i++) {
        const VrHttpVisit *visit = self->unknown->pdata[i];

        if (!visit->ended)
            first_us = MIN(first_us, visit->due_us);
        queued = queued || (visit->stage == VR_HTTP_STAGE_WAITING && visit->talking);
    }
    if (queued)
        return LOOK_AGAIN_MS;
    return first_us == G_MAXINT64 ? -1 : (int) (MAX(first_us - now_us, 0) / 1000) + 1;
}

/* Of the visits that are silent; the two in front are the gate's own. */
static guint
fill_poll(VrHttpGate *self, struct pollfd *fds)
{
    guint n = 2;

    fds[0] = (struct pollfd){.fd = self->wake_fd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = self->listen_fd, .events = POLLIN};
    for (guint i = 0; i < self->unknown->len; i++) {
        const VrHttpVisit *visit = self->unknown->pdata[i];

        if (visit->stage == VR_HTTP_STAGE_WAITING && !visit->talking)
            fds[n++] = (struct pollfd){.fd = visit->fd, .events = POLLIN | POLLRDHUP};
    }
    return n;
}

static void
note_talking(VrHttpGate *self, const struct pollfd *polled, gint64 now_us)
{
    for (guint i = self->unknown->len; i-- > 0;) {
        VrHttpVisit *visit = self->unknown->pdata[i];

        if (visit->stage != VR_HTTP_STAGE_WAITING || visit->fd != polled->fd)
            continue;
        if (polled->revents & (POLLERR | POLLHUP | POLLRDHUP)) {
            end(self, visit);
            return;
        }
        visit->talking = TRUE;
        visit->due_us = now_us + VR_HTTP_GATE_QUEUE_US;
        return;
    }
}

static gpointer
gate_thread(gpointer data)
{
    VrHttpGate *self = data;
    struct pollfd fds[2 + VR_HTTP_GATE_WAITING + 1];

    g_mutex_lock(&self->lock);
    while (!self->stopping) {
        guint n = fill_poll(self, fds);
        gint64 now_us = g_get_monotonic_time();
        int timeout_ms = poll_timeout_ms(self, now_us);

        g_mutex_unlock(&self->lock);
        if (poll(fds, n, timeout_ms) < 0 && errno != EINTR)
            g_error("the gate cannot poll: %s", g_strerror(errno));
        g_mutex_lock(&self->lock);
        now_us = g_get_monotonic_time();
        for (guint i = 2; i < n; i++) {
            if (fds[i].revents)
                note_talking(self, &fds[i], now_us);
        }
        expire(self, now_us);
        pass_turns(self);
        for (guint i = 0; i < ACCEPTS_A_ROUND && !self->stopping && accept_one(self); i++)
            continue;
    }
    g_mutex_unlock(&self->lock);
    return NULL;
}

void
vr_http_gate_start(VrHttpGate *self, VrHttpGatePass pass, gpointer data)
{
    self->pass = pass;
    self->data = data;
    self->thread = g_thread_new("http-gate", gate_thread, self);
}

void
vr_http_gate_stop(VrHttpGate *self)
{
    guint64 one = 1;

    if (!self->thread)
        return;
    g_mutex_lock(&self->lock);
    self->stopping = TRUE;
    g_mutex_unlock(&self->lock);
    if (write(self->wake_fd, &one, sizeof(one)) < 0)
        g_error("the gate cannot be woken: %s", g_strerror(errno));
    g_thread_join(g_steal_pointer(&self->thread));
}

void
vr_http_gate_free(VrHttpGate *self)
{
    if (!self)
        return;
    vr_http_gate_stop(self);
    for (guint i = 0; i < self->unknown->len; i++) {
        VrHttpVisit *visit = self->unknown->pdata[i];

        if (visit->stage == VR_HTTP_STAGE_WAITING)
            close(visit->fd);
        visit_free(visit);
    }
    g_ptr_array_unref(self->unknown);
    vr_http_origins_free(self->origins);
    g_hash_table_unref(self->known);
    g_mutex_clear(&self->lock);
    close(self->wake_fd);
    close(self->listen_fd);
    g_free(self);
}

static VrHttpVisit *
find_passed(VrHttpGate *self, int fd)
{
    for (guint i = self->unknown->len; i-- > 0;) {
        VrHttpVisit *visit = self->unknown->pdata[i];

        if (visit->stage == VR_HTTP_STAGE_PASSED && visit->fd == fd)
            return visit;
    }
    return NULL;
}

VrHttpVisit *
vr_http_gate_enter(VrHttpGate *self, int fd)
{
    VrHttpVisit *visit;

    g_mutex_lock(&self->lock);
    visit = find_passed(self, fd);
    if (visit)
        visit->stage = VR_HTTP_STAGE_SHAKING;
    else
        (void) shutdown(fd, SHUT_RDWR);
    g_mutex_unlock(&self->lock);
    return visit;
}

/* Ends the one that is idle for longest. */
static gboolean
end_idle(const GPtrArray *visits)
{
    VrHttpVisit *idle = vr_http_visits_idle(visits);

    if (!idle)
        return FALSE;
    (void) shutdown(idle->fd, SHUT_RDWR);
    idle->ended = TRUE;
    return TRUE;
}

static GPtrArray *
visits_of(VrHttpGate *self, const char *peer)
{
    GPtrArray *visits = g_hash_table_lookup(self->known, peer);

    if (!visits) {
        visits = g_ptr_array_new();
        g_hash_table_insert(self->known, g_strdup(peer), visits);
    }
    return visits;
}

gboolean
vr_http_gate_know(VrHttpGate *self, VrHttpVisit *visit, const char *peer, GError **error)
{
    GPtrArray *visits;
    gboolean ok = TRUE;

    g_mutex_lock(&self->lock);
    vr_http_origins_know(self->origins, &visit->address, peer);
    if (visit->stage == VR_HTTP_STAGE_SHAKING && !visit->ended) {
        visits = visits_of(self, peer);
        ok = vr_http_visits_going(visits) < self->per_peer || end_idle(visits);
        if (ok) {
            take_out(self, visit);
            g_ptr_array_add(visits, visit);
            visit->stage = VR_HTTP_STAGE_KNOWN;
            visit->peer = g_strdup(peer);
        }
    }
    g_mutex_unlock(&self->lock);
    if (!ok)
        vr_set_error(error, VR_ERROR_TRANSIENT, "too-many-connections",
                     "Lower 'max-transfers' on that host, or raise 'peer-connections' here.",
                     "the peer uses %u connections at once already", self->per_peer);
    return ok;
}

void
vr_http_gate_use(VrHttpGate *self, VrHttpVisit *visit, gboolean used)
{
    g_mutex_lock(&self->lock);
    visit->used = used;
    visit->used_us = g_get_monotonic_time();
    g_mutex_unlock(&self->lock);
}

void
vr_http_gate_leave(VrHttpGate *self, VrHttpVisit *visit)
{
    g_mutex_lock(&self->lock);
    if (visit->peer) {
        GPtrArray *visits = g_hash_table_lookup(self->known, visit->peer);

        g_ptr_array_remove_fast(visits, visit);
        if (visits->len == 0)
            g_hash_table_remove(self->known, visit->peer);
    } else {
        take_out(self, visit);
    }
    g_mutex_unlock(&self->lock);
    visit_free(visit);
}
