/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: which network here a peer's network becomes. One entry per (peer, source). Not locked.
 */

typedef struct {
    char *peer;
    char *source; /* network on the domain's own host */
    char *target; /* network on the host it fails over to */
    char *test;   /* nullable: network of test failovers; NULL: an isolated one is made */
} VrNetworkMapEntry;

typedef struct _VrNetworkMap VrNetworkMap;

VrNetworkMap *vr_network_map_new(void);
void vr_network_map_free(VrNetworkMap *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrNetworkMap, vr_network_map_free)

/** 1 to 255 bytes of printable UTF-8 without '/', not beginning with '.' or '-'. */
gboolean vr_network_name_valid(const char *name);

/** Adds or replaces. Errors: INVALID naming the bad name. */
gboolean vr_network_map_set(VrNetworkMap *self, const char *peer, const char *source,
                            const char *target, const char *test, GError **error);

/** Errors: NOT_FOUND. */
gboolean vr_network_map_unset(VrNetworkMap *self, const char *peer, const char *source,
                              GError **error);

/** NULL if not mapped. (transfer none), valid until the map changes. */
const VrNetworkMapEntry *vr_network_map_lookup(const VrNetworkMap *self, const char *peer,
                                               const char *source);

/** Those of @sources (NULL-terminated) that have no entry, each once. (transfer full), never NULL.
 */
char **vr_network_map_missing(const VrNetworkMap *self, const char *peer,
                              const char *const *sources);

/** In the order they were set; for listing. */
guint vr_network_map_count(const VrNetworkMap *self);
const VrNetworkMapEntry *vr_network_map_get(const VrNetworkMap *self, guint i);

G_END_DECLS
