/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Life of a visit: WAITING (the descriptor is ours) -> PASSED (the server has it, but has not said
 * so) -> SHAKING (the server said so) -> KNOWN. What is WAITING is closed here; what is SHAKING or
 * KNOWN is shut down, so that the server's thread sees its end and closes it, which is safe because
 * a visit leaves before that. What is PASSED is only forgotten: enter() shuts it down.
 *
 * Few visits are not KNOWN (VR_HTTP_GATE_WAITING and VR_HTTP_GATE_SHAKING), so they are searched
 * one by one; how many of them an address has is counted in its origin. */
#include "plugin/http/http_gate.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "policies/error.h"

#define ACCEPTS_A_ROUND 64
/* A handshake that has had this long makes room for another one of the same address. */
#define TURN_US (1 * G_USEC_PER_SEC)
#define LOOK_AGAIN_MS 20
#define NO_DESCRIPTOR_PAUSE_US (50 * 1000)

typedef enum { STAGE_WAITING, STAGE_PASSED, STAGE_SHAKING, STAGE_KNOWN } Stage;

/* An address with visits that are not KNOWN; ended ones do not count. */
typedef struct {
    guint64 key;
    guint visits; /* all that point here */
    guint waiting, shaking;
} Origin;

struct _VrHttpVisit {
    Stage stage;
    int fd;
    Origin *origin;   /* borrowed: the gate's; NULL when KNOWN */
    gint64 since_us;  /* monotonic; accepted */
    gint64 shake_us;  /* monotonic; passed */
    gint64 used_us;   /* monotonic; end of its last request */
    gboolean talking; /* WAITING: bytes are there */
    gboolean used;    /* a request is going on */
    gboolean ended;   /* shut down: waits for the server to leave, counts no more */
    char *peer;       /* owned; KNOWN */
    struct sockaddr_storage address;
    socklen_t address_len;
};

struct _VrHttpGate {
    int listen_fd; /* owned */
    int wake_fd;   /* owned; eventfd */
    guint per_peer;
    GThread *thread; /* owned; NULL before start and after stop */
    VrHttpGatePass pass;
    gpointer data;
    GMutex lock; /* guards the rest, and all visits */
    gboolean stopping;
    GPtrArray *unknown;     /* owned; VrHttpVisit, in the order they came */
    GHashTable *origins;    /* owned; key -> Origin */
    guint waiting, shaking; /* of all origins */
    GHashTable *known;      /* owned; peer -> GPtrArray of VrHttpVisit */
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
    self->origins = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    self->known =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify) g_ptr_array_unref);
    g_mutex_init(&self->lock);
    return self;
}

static guint64
origin_key(const struct sockaddr_storage *address)
{
    const guint8 *bytes;
    guint64 key = 0;

    if (address->ss_family == AF_INET) {
        memcpy(&key, &((const struct sockaddr_in *) address)->sin_addr, 4);
        return key;
    }
    bytes = ((const struct sockaddr_in6 *) address)->sin6_addr.s6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *) address)->sin6_addr))
        memcpy(&key, bytes + 12, 4);
    else
        memcpy(&key, bytes, 8);
    return key;
}

static Origin *
origin_of(VrHttpGate *self, const struct sockaddr_storage *address)
{
    guint64 key = origin_key(address);
    Origin *origin = g_hash_table_lookup(self->origins, &key);

    if (!origin) {
        origin = g_new0(Origin, 1);
        origin->key = key;
        g_hash_table_insert(self->origins, &origin->key, origin);
    }
    origin->visits++;
    return origin;
}

/* The counters in which @visit stands while it is not ended. */
static void
count(VrHttpGate *self, const VrHttpVisit *visit, int by)
{
    gboolean waits = visit->stage == STAGE_WAITING;

    *(waits ? &self->waiting : &self->shaking) += (guint) by;
    *(waits ? &visit->origin->waiting : &visit->origin->shaking) += (guint) by;
}

/* Out of the unknown ones. */
static void
take_out(VrHttpGate *self, VrHttpVisit *visit)
{
    if (!visit->ended)
        count(self, visit, -1);
    g_ptr_array_remove(self->unknown, visit);
    if (--visit->origin->visits == 0)
        g_hash_table_remove(self->origins, &visit->origin->key);
    visit->origin = NULL;
}

static void
end(VrHttpGate *self, VrHttpVisit *visit)
{
    if (visit->stage == STAGE_SHAKING) {
        (void) shutdown(visit->fd, SHUT_RDWR);
        count(self, visit, -1);
        visit->ended = TRUE;
        return;
    }
    if (visit->stage == STAGE_WAITING)
        close(visit->fd);
    take_out(self, visit);
    visit_free(visit);
}

/* The oldest of the origin that has most, a silent one before one that talks. */
static VrHttpVisit *
waiting_victim(VrHttpGate *self)
{
    VrHttpVisit *victim = NULL;

    for (guint i = 0; i < self->unknown->len; i++) {
        VrHttpVisit *visit = self->unknown->pdata[i];

        if (visit->stage != STAGE_WAITING)
            continue;
        if (!victim || visit->origin->waiting > victim->origin->waiting ||
            (visit->origin == victim->origin && victim->talking && !visit->talking))
            victim = visit;
    }
    return victim;
}

static VrHttpVisit *
shaking_victim(VrHttpGate *self)
{
    VrHttpVisit *victim = NULL;

    for (guint i = 0; i < self->unknown->len; i++) {
        VrHttpVisit *visit = self->unknown->pdata[i];

        if (visit->stage != STAGE_WAITING && !visit->ended &&
            (!victim || visit->origin->shaking > victim->origin->shaking))
            victim = visit;
    }
    return victim;
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
    if (self->waiting >= VR_HTTP_GATE_WAITING)
        end(self, waiting_victim(self));
    visit = g_new0(VrHttpVisit, 1);
    visit->fd = fd;
    visit->address = address;
    visit->address_len = len;
    visit->origin = origin_of(self, &address);
    visit->since_us = g_get_monotonic_time();
    g_ptr_array_add(self->unknown, visit);
    count(self, visit, 1);
    return TRUE;
}

/* The one whose turn it is: of the origin with the fewest handshakes, the oldest. */
static VrHttpVisit *
next_turn(VrHttpGate *self)
{
    VrHttpVisit *next = NULL;

    for (guint i = 0; i < self->unknown->len; i++) {
        VrHttpVisit *visit = self->unknown->pdata[i];

        if (visit->stage == STAGE_WAITING && visit->talking &&
            (!next || visit->origin->shaking < next->origin->shaking))
            next = visit;
    }
    return next;
}

/* For a handshake of @origin. */
static gboolean
make_room(VrHttpGate *self, const Origin *origin, gint64 now_us)
{
    VrHttpVisit *victim;

    if (self->shaking < VR_HTTP_GATE_SHAKING)
        return TRUE;
    victim = shaking_victim(self);
    if (victim->origin->shaking <= origin->shaking + 1 && now_us - victim->shake_us < TURN_US)
        return FALSE;
    end(self, victim);
    return TRUE;
}

/* @self->lock is held, but not while the server takes a connection. */
static void
pass_turns(VrHttpGate *self)
{
    for (;;) {
        gint64 now_us = g_get_monotonic_time();
        VrHttpVisit *next = self->stopping ? NULL : next_turn(self);
        struct sockaddr_storage address;
        socklen_t len;
        int fd;

        if (!next || !make_room(self, next->origin, now_us))
            return;
        count(self, next, -1);
        next->stage = STAGE_PASSED;
        count(self, next, 1);
        next->shake_us = now_us;
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

        if (!visit->ended && now_us - visit->since_us >= VR_HTTP_GATE_DEADLINE_US)
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
            first_us = MIN(first_us, visit->since_us + VR_HTTP_GATE_DEADLINE_US);
        queued = queued || (visit->stage == STAGE_WAITING && visit->talking);
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

        if (visit->stage == STAGE_WAITING && !visit->talking)
            fds[n++] = (struct pollfd){.fd = visit->fd, .events = POLLIN | POLLRDHUP};
    }
    return n;
}

static void
note_talking(VrHttpGate *self, const struct pollfd *polled)
{
    for (guint i = self->unknown->len; i-- > 0;) {
        VrHttpVisit *visit = self->unknown->pdata[i];

        if (visit->stage != STAGE_WAITING || visit->fd != polled->fd)
            continue;
        if (polled->revents & (POLLERR | POLLHUP | POLLRDHUP))
            end(self, visit);
        else
            visit->talking = TRUE;
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
        int timeout_ms = poll_timeout_ms(self, g_get_monotonic_time());

        g_mutex_unlock(&self->lock);
        if (poll(fds, n, timeout_ms) < 0 && errno != EINTR)
            g_error("the gate cannot poll: %s", g_strerror(errno));
        g_mutex_lock(&self->lock);
        for (guint i = 2; i < n; i++) {
            if (fds[i].revents)
                note_talking(self, &fds[i]);
        }
        expire(self, g_get_monotonic_time());
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

        if (visit->stage == STAGE_WAITING)
            close(visit->fd);
        visit_free(visit);
    }
    g_ptr_array_unref(self->unknown);
    g_hash_table_unref(self->origins);
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

        if (visit->stage == STAGE_PASSED && visit->fd == fd)
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
        visit->stage = STAGE_SHAKING;
    else
        (void) shutdown(fd, SHUT_RDWR);
    g_mutex_unlock(&self->lock);
    return visit;
}

/* Ends the one that is idle for longest. */
static gboolean
end_idle(GPtrArray *visits)
{
    VrHttpVisit *oldest = NULL;

    for (guint i = 0; i < visits->len; i++) {
        VrHttpVisit *visit = visits->pdata[i];

        if (!visit->used && !visit->ended && (!oldest || visit->used_us < oldest->used_us))
            oldest = visit;
    }
    if (!oldest)
        return FALSE;
    (void) shutdown(oldest->fd, SHUT_RDWR);
    oldest->ended = TRUE;
    return TRUE;
}

static guint
count_going(const GPtrArray *visits)
{
    guint n = 0;

    for (guint i = 0; i < visits->len; i++)
        n += ((const VrHttpVisit *) visits->pdata[i])->ended ? 0 : 1;
    return n;
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
    if (visit->stage == STAGE_SHAKING && !visit->ended) {
        visits = visits_of(self, peer);
        ok = count_going(visits) < self->per_peer || end_idle(visits);
        if (ok) {
            take_out(self, visit);
            g_ptr_array_add(visits, visit);
            visit->stage = STAGE_KNOWN;
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
