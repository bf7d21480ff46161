/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/replica.h"
#include "storage/state_protection.h"

G_BEGIN_DECLS

/** SECTION: the open replicas of this host (role target), and the thread that applies retention to
 * them. */
typedef struct _VrReplicas VrReplicas;

/** @manifests: directory that holds one directory a protection; copied. */
VrReplicas *vr_replicas_new(VrState *state, const char *manifests);
void vr_replicas_free(VrReplicas *self);

/** Opened (and recovered) when first asked for; valid until put. NOT_FOUND, or the errors of
 * vr_replica_open(). */
VrReplica *vr_replicas_get(VrReplicas *self, const char *uuid, GError **error);
void vr_replicas_put(VrReplicas *self, VrReplica *replica);

/** Somebody waits until nobody uses it: whoever has it for long lets go of it. */
gboolean vr_replicas_is_closing(VrReplicas *self, const VrReplica *replica);

/** Retention of @uuid is due; done soon in a thread of ours. */
void vr_replicas_retain(VrReplicas *self, const char *uuid);

/** The row of @uuid was changed: what its store says follows (vr_replica_refresh_index()). Where
 * that is not possible it is logged, and done when the replica is next opened or gets an RP. */
void vr_replicas_refresh_index(VrReplicas *self, const char *uuid);

/** Waits until nobody uses it, deletes its data, closes it. */
gboolean vr_replicas_destroy(VrReplicas *self, const char *uuid, GError **error);

/** Waits until nobody uses it and closes it; its data stay. */
void vr_replicas_close(VrReplicas *self, const char *uuid);

G_END_DECLS
