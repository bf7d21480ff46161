/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/replica/replica.h"
#include "storage/state/state_protection.h"

G_BEGIN_DECLS

/** SECTION: the open replicas of this host (role target), and the thread that applies retention to
 * them. */
typedef struct _VrReplicas VrReplicas;

/** @manifests: directory that holds one directory a protection; copied. */
VrReplicas *vr_replicas_new(VrState *state, const char *manifests);
void vr_replicas_free(VrReplicas *self);
/** Before whoever uses one is waited for: what peers have begun and takes long ends soon. */
void vr_replicas_stop(VrReplicas *self);

/** Opened (and recovered) when first asked for; valid until put. NOT_FOUND, or the errors of
 * vr_replica_open(). */
VrReplica *vr_replicas_get(VrReplicas *self, const char *uuid, GError **error);
/** Retention is due again if a merge gave way to the user. */
void vr_replicas_put(VrReplicas *self, VrReplica *replica);

/** Somebody waits until nobody uses it: whoever has it for long lets go of it. */
gboolean vr_replicas_is_closing(VrReplicas *self, const VrReplica *replica);

/** Retention of @uuid is due; done soon in one of our threads, in turns with those of others. */
void vr_replicas_retain(VrReplicas *self, const char *uuid);

/** May @uuid have another recovery point? TRANSIENT "retention-behind" if it has so many that can
 * go that retention does not keep up; it is asked for then. Says why it failed if it did. @host:
 * name of this host, for messages. @final: for one there is room longer, a guest is off for it. */
gboolean vr_replicas_check_behind(VrReplicas *self, const char *uuid, const char *host,
                                  gboolean final, GError **error);

/** The row of @uuid was changed: what its store says follows (vr_replica_refresh_index()). Where
 * that is not possible it is logged, and done when the replica is next opened or gets an RP. */
void vr_replicas_refresh_index(VrReplicas *self, const char *uuid);

/** Waits until nobody uses it, deletes its data, closes it. Meanwhile whoever asks for it gets
 * CONFLICT "replica-closing". */
gboolean vr_replicas_destroy(VrReplicas *self, const char *uuid, GError **error);

/** Waits until nobody uses it and closes it; its data stay. */
void vr_replicas_close(VrReplicas *self, const char *uuid);

G_END_DECLS
