/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/wire/copy.h"
#include "storage/wire/cycle.h"
#include "storage/wire/http.h"
#include "storage/replica/replica.h"
#include "storage/wire/token.h"

G_BEGIN_DECLS

/**
 * SECTION: every peer route as a typed call.
 *
 * Any number of threads may call at once: each call takes an idle connection or makes a new one.
 * All block and watch
 * @cancel (nullable). While a peer thinks for long, it is asked whether it is there: one that hangs
 * is given up within 40 s. Requests may be repeated after any error. Errors: those of
 * vr_http_call() and those that the peer's function gives (same code, slug, message, action).
 */
typedef struct _VrPeerClient VrPeerClient;

/** See vr_http_new_peer() for the arguments and errors. */
VrPeerClient *vr_peer_client_new(const char *name, const char *address, const char *fingerprint,
                                 const char *cert_path, const char *key_path, GError **error);
void vr_peer_client_free(VrPeerClient *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrPeerClient, vr_peer_client_free)

const char *vr_peer_client_name(const VrPeerClient *self);
const char *vr_peer_client_fingerprint(const VrPeerClient *self);

/**
 * vr_peer_join:
 * @our_name: how the other side will call us
 * @our_address: HOST:PORT where we listen, or ":PORT": the peer takes the address it sees us come
 * from
 * @our_fingerprint: of the certificate at @cert_path
 * @ret_name, @ret_address: (out) (transfer full): the inviting host's name and the address of the
 * token that worked
 *
 * Tries the token's addresses in order. TRUE only if the server proved that it knows the secret;
 * the caller then pins token->fingerprint. Errors: AUTH "token-unknown" | "token-used" |
 * "token-expired" | "join-proof" (either side), AUTH "peer-key-changed" (another server answers
 * there), CONFLICT (name taken), TRANSIENT.
 */
gboolean vr_peer_join(const VrToken *token, const char *our_name, const char *our_address,
                      const char *our_fingerprint, const char *cert_path, const char *key_path,
                      char **ret_name, char **ret_address, GCancellable *cancel, GError **error);

/** {"name","version","time_us"}; the cheap "are you there", 10 s at most. @ret_answer nullable */
gboolean vr_peer_client_hello(VrPeerClient *self, JsonNode **ret_answer, GCancellable *cancel,
                              GError **error);

/* JSON in and out as agreed between the daemons; 120 s at most. (transfer full); @request
 * (nullable) borrowed. An answer without a body is an empty object. */
JsonNode *vr_peer_client_check(VrPeerClient *self, JsonNode *request, GCancellable *cancel,
                               GError **error);
JsonNode *vr_peer_client_protection_put(VrPeerClient *self, const char *uuid, JsonNode *request,
                                        GCancellable *cancel, GError **error);
JsonNode *vr_peer_client_protection_delete(VrPeerClient *self, const char *uuid,
                                           gboolean keep_replica, GCancellable *cancel,
                                           GError **error);
JsonNode *vr_peer_client_action(VrPeerClient *self, const char *uuid, const char *action,
                                JsonNode *request, GCancellable *cancel, GError **error);
JsonNode *vr_peer_client_job(VrPeerClient *self, gint64 id, GCancellable *cancel, GError **error);

/** @ret_rp: (transfer full): newest RP or NULL (none yet). */
gboolean vr_peer_client_head(VrPeerClient *self, const char *uuid, VrRecoveryPoint **ret_rp,
                             GCancellable *cancel, GError **error);
/** Oldest first. (element-type VrRecoveryPoint) (transfer full) */
GPtrArray *vr_peer_client_rps(VrPeerClient *self, const char *uuid, GCancellable *cancel,
                              GError **error);

gboolean vr_peer_client_begin(VrPeerClient *self, const char *uuid, const VrCycleBegin *begin,
                              guint64 *ret_held, GCancellable *cancel, GError **error);
/** @ret_rp: set when committed, else NULL. (nullable) (transfer full) */
gboolean vr_peer_client_cycle_status(VrPeerClient *self, const char *uuid, const char *cycle,
                                     VrCycleStatus *ret_status, VrRecoveryPoint **ret_rp,
                                     GCancellable *cancel, GError **error);

typedef void (*VrDigestFunc)(guint64 chunk, const VrDigest *digest, gpointer data);
/** Calls @func for each chunk that the target holds of the open cycle, page by page. Chunk numbers
 * come from the peer: @chunks is the disk's number of chunks; a larger one is refused, INVALID. */
gboolean vr_peer_client_held(VrPeerClient *self, const char *uuid, const char *cycle,
                             const char *disk, guint64 chunks, VrDigestFunc func, gpointer data,
                             GCancellable *cancel, GError **error);
/** The same for every non-zero chunk of the newest RP, ascending. Its disk may be larger: of what
 * lies above @chunks no more is asked for, but some of it may be told. */
gboolean vr_peer_client_sums(VrPeerClient *self, const char *uuid, const char *disk, guint64 chunks,
                             VrDigestFunc func, gpointer data, GCancellable *cancel,
                             GError **error);

/** One body of frames, acknowledged. */
gboolean vr_peer_client_chunks(VrPeerClient *self, const char *uuid, const char *cycle,
                               const void *body, gsize len, GCancellable *cancel, GError **error);
gboolean vr_peer_client_has_attachment(VrPeerClient *self, const char *uuid, const char *sha256,
                                       gboolean *ret_has, GCancellable *cancel, GError **error);
/** @fd: read from its start, @size bytes, at most VR_ATTACHMENT_MAX. A peer that takes them slower
 * than it would have to take chunks is given up, TRANSIENT. */
gboolean vr_peer_client_put_attachment(VrPeerClient *self, const char *uuid, const char *cycle,
                                       const char *sha256, int fd, guint64 size,
                                       GCancellable *cancel, GError **error);
/** (transfer full). Waits up to 30 minutes for the answer. */
VrRecoveryPoint *vr_peer_client_commit(VrPeerClient *self, const char *uuid,
                                       const VrCycleCommit *commit, GCancellable *cancel,
                                       GError **error);

/** Recovery points in one answer: those behind the number that the request names. */
#define VR_PEER_RPS_PAGE 1000u
#define VR_ATTACHMENT_MAX (G_GUINT64_CONSTANT(512) << 20)

/** A sink for vr_copy_run(). @client borrowed, outlives the sink. */
VrSink *vr_peer_sink_new(VrPeerClient *client, const char *uuid, const char *cycle);
void vr_peer_sink_free(VrSink *sink);

G_END_DECLS
