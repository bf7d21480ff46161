/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/identity.h"
#include "storage/wire/cycle.h"
#include "storage/replica/replica.h"
#include "storage/state/state.h"

G_BEGIN_DECLS

/**
 * SECTION: the peer API (TLS): pairing, and the receiving end of cycles.
 *
 * Every request but the join comes from a pinned peer. Requests about a protection are answered
 * only if the row exists and names this peer; cycles and replica data also need our role to be
 * target (PUT may make the row: its function decides). Everything else, and all JSON routes, is
 * refused before a function below is called.
 */
typedef struct _VrPeerServer VrPeerServer;

/** Functions of the daemon; all run in connection threads, several at once. @peer: fingerprint.
 * Answers are (transfer full); NULL with @error: refused. @request is an object, or NULL if there
 * was no body. */
typedef struct {
    JsonNode *(*check)(gpointer data, const char *peer, JsonNode *request, GError **error);
    /** Also called when the row does not exist yet; if it does, it names @peer. */
    JsonNode *(*protection_put)(gpointer data, const char *peer, const char *uuid,
                                JsonNode *request, GError **error);
    /** Replication ends; see peer_replica.h for what stays. Deleting what does not exist is done
     * already: the function is not called. */
    JsonNode *(*protection_delete)(gpointer data, const char *peer, const char *uuid,
                                   gboolean keep_replica, GError **error);
    /** Both roles. @action: [a-z-]{1,32} */
    JsonNode *(*action)(gpointer data, const char *peer, const char *uuid, const char *action,
                        JsonNode *request, GError **error);
    JsonNode *(*job)(gpointer data, const char *peer, gint64 id, GError **error);

    /**
     * The open replica of @uuid, kept alive until replica_done. @generation: of BEGIN, else NULL.
     * REFUSED if the sender may not send (generation behind, state).
     */
    VrReplica *(*replica)(gpointer data, const char *uuid, const char *peer, const char *generation,
                          GError **error);
    void (*replica_done)(gpointer data, VrReplica *replica); /* nullable */
    /** May this become an RP? Asked before each COMMIT; the replica is open. Nullable. */
    gboolean (*may_commit)(gpointer data, const char *uuid, VrReplica *replica,
                           const VrCycleCommit *commit, GError **error);
    /** A COMMIT was answered with this RP (perhaps not for the first time). */
    void (*cycle_committed)(gpointer data, const char *uuid,
                            const VrRecoveryPoint *rp); /* nullable */
    /** A new peer was pinned. */
    void (*peer_joined)(gpointer data, const char *fingerprint); /* nullable */
    /** A cycle is about to begin, and nothing of it was made yet. NO_SPACE, REFUSED: the peer has
     * used up what it may have. What it takes is reserved until released. */
    gboolean (*cycle_begins)(gpointer data, const char *uuid, const char *peer,
                             const VrCycleBegin *begin, guint64 bytes,
                             GError **error); /* nullable */
    /** @bytes are about to come which no cycle was charged for. NO_SPACE likewise. */
    gboolean (*reserve)(gpointer data, const char *uuid, const char *peer, guint64 bytes,
                        GError **error); /* nullable */
    /** With the two before: what was reserved is given back, or becomes the cycle's. */
    void (*release)(gpointer data, const char *peer, guint64 bytes);
    void (*charge)(gpointer data, const char *uuid, const char *peer, const char *cycle,
                   guint64 bytes);
    /** @cycle began and holds @held bytes already. NO_SPACE: the peer has used up what it may have.
     */
    gboolean (*cycle_begun)(gpointer data, const char *uuid, const char *peer, const char *cycle,
                            guint64 held, GError **error); /* nullable */
    /** Before @bytes more are stored for @cycle. NO_SPACE likewise. */
    gboolean (*cycle_grows)(gpointer data, const char *uuid, const char *peer, const char *cycle,
                            guint64 bytes, GError **error); /* nullable */
    /** A COMMIT failed and the cycle is not open any more. */
    void (*cycle_ended)(gpointer data, const char *uuid, const char *peer,
                        const char *cycle); /* nullable */
} VrPeerServerOps;

/** @state, @identity, @ops, @data: borrowed, outlive the server. @name: of this host. */
VrPeerServer *vr_peer_server_new(VrState *state, const VrIdentity *identity, const char *name,
                                 const VrPeerServerOps *ops, gpointer data);
/** Listens; errors of vr_http_server_new_tls(). @connections: of one peer at once. */
gboolean vr_peer_server_start(VrPeerServer *self, const char *listen, guint connections,
                              GError **error);
guint16 vr_peer_server_port(const VrPeerServer *self);
/** Stops and waits for running requests. */
void vr_peer_server_free(VrPeerServer *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrPeerServer, vr_peer_server_free)

G_END_DECLS
