/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/retain_queue.h"

typedef struct {
    char *name;    /* owned */
    GQueue *turns; /* owned: VrRetainTurn (borrowed) */
    gboolean busy; /* one more is taken */
} Peer;

struct _VrRetainQueue {
    VrRetainPeerOf peer_of;
    gpointer data; /* borrowed: of peer_of */
    GMutex lock;   /* guards what follows */
    GCond changed;
    gboolean ended;
    GHashTable *turns; /* owned: uuid -> VrRetainTurn; those that wait and those that are taken */
    GQueue *fresh;     /* owned; turns (borrowed) whose peer nobody knows yet */
    GQueue *peers;     /* owned; Peer (owned) that have turns or are busy, in order */
};

static void
turn_free(gpointer data)
{
    VrRetainTurn *turn = data;

    g_free(turn->peer);
    g_free(turn->uuid);
    g_free(turn);
}

static void
peer_free(gpointer data)
{
    Peer *peer = data;

    g_queue_free(peer->turns);
    g_free(peer->name);
    g_free(peer);
}

VrRetainQueue *
vr_retain_queue_new(VrRetainPeerOf peer_of, gpointer data)
{
    VrRetainQueue *self = g_new0(VrRetainQueue, 1);

    self->peer_of = peer_of;
    self->data = data;
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);
    self->turns = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, turn_free);
    self->fresh = g_queue_new();
    self->peers = g_queue_new();
    return self;
}

void
vr_retain_queue_free(VrRetainQueue *self)
{
    g_queue_free_full(self->peers, peer_free);
    g_queue_free(self->fresh);
    g_hash_table_unref(self->turns);
    g_cond_clear(&self->changed);
    g_mutex_clear(&self->lock);
    g_free(self);
}

void
vr_retain_queue_add(VrRetainQueue *self, const char *uuid)
{
    VrRetainTurn *turn;

    g_mutex_lock(&self->lock);
    turn = g_hash_table_lookup(self->turns, uuid);
    if (turn != NULL) {
        turn->again = turn->begun;
    } else {
        turn = g_new0(VrRetainTurn, 1);
        turn->uuid = g_strdup(uuid);
        g_hash_table_insert(self->turns, turn->uuid, turn);
        g_queue_push_tail(self->fresh, turn);
        g_cond_broadcast(&self->changed);
    }
    g_mutex_unlock(&self->lock);
}

void
vr_retain_queue_end(VrRetainQueue *self)
{
    g_mutex_lock(&self->lock);
    self->ended = TRUE;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
}

/* Lock held. */
static Peer *
find_peer(VrRetainQueue *self, const char *name)
{
    for (GList *l = self->peers->head; l != NULL; l = l->next) {
        if (g_str_equal(((Peer *) l->data)->name, name))
            return l->data;
    }
    return NULL;
}

/* Behind the peer's others; a peer without any is the last one now. Lock held. */
static void
push(VrRetainQueue *self, VrRetainTurn *turn)
{
    Peer *peer = find_peer(self, turn->peer);

    if (peer == NULL) {
        peer = g_new0(Peer, 1);
        peer->name = g_strdup(turn->peer);
        peer->turns = g_queue_new();
        g_queue_push_tail(self->peers, peer);
    }
    g_queue_push_tail(peer->turns, turn);
    g_cond_broadcast(&self->changed);
}

/* Lock held, but not while somebody is asked. */
static void
sort_fresh(VrRetainQueue *self)
{
    VrRetainTurn *turn;

    while (!self->ended && (turn = g_queue_pop_head(self->fresh)) != NULL) {
        g_mutex_unlock(&self->lock);
        turn->peer = self->peer_of(self->data, turn->uuid);
        if (turn->peer == NULL)
            turn->peer = g_strdup("");
        g_mutex_lock(&self->lock);
        push(self, turn);
    }
}

/* Of the first peer that is not busy, which is the last one then. Lock held. */
static VrRetainTurn *
pop(VrRetainQueue *self)
{
    for (GList *l = self->peers->head; l != NULL; l = l->next) {
        Peer *peer = l->data;

        if (peer->busy)
            continue;
        g_queue_unlink(self->peers, l);
        g_queue_push_tail_link(self->peers, l);
        peer->busy = TRUE;
        return g_queue_pop_head(peer->turns);
    }
    return NULL;
}

/* Lock held. */
static void
rest(VrRetainQueue *self, Peer *peer)
{
    peer->busy = FALSE;
    if (g_queue_is_empty(peer->turns)) {
        g_queue_remove(self->peers, peer);
        peer_free(peer);
    }
    g_cond_broadcast(&self->changed);
}

VrRetainTurn *
vr_retain_queue_take(VrRetainQueue *self)
{
    VrRetainTurn *turn = NULL;

    g_mutex_lock(&self->lock);
    while (!self->ended && turn == NULL) {
        sort_fresh(self);
        turn = self->ended ? NULL : pop(self);
        if (turn == NULL && !self->ended && g_queue_is_empty(self->fresh))
            g_cond_wait(&self->changed, &self->lock);
    }
    if (turn != NULL)
        turn->begun = TRUE;
    g_mutex_unlock(&self->lock);
    return turn;
}

void
vr_retain_queue_done(VrRetainQueue *self, VrRetainTurn *turn)
{
    Peer *peer;

    g_mutex_lock(&self->lock);
    peer = find_peer(self, turn->peer);
    if (turn->pass.more) {
        push(self, turn);
    } else if (turn->again) {
        turn->pass = (VrRetainPass){0};
        turn->again = turn->begun = FALSE;
        push(self, turn);
    } else {
        g_hash_table_remove(self->turns, turn->uuid);
    }
    rest(self, peer);
    g_mutex_unlock(&self->lock);
}
