/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: who owns a workload, and the history of that (DRBD's rule, design.md section 7).
 *
 * A generation has an id, an owner and its ancestors. It advances, durably, before the domain runs
 * on another host; two hosts compare theirs to learn who is behind. Immutable values.
 */

#define VR_GENERATION_ANCESTORS_MAX 64
#define VR_GENERATION_OWNER_MAX 128

typedef enum {
    VR_GENERATION_SAME,
    VR_GENERATION_BEHIND,      /* mine is an ancestor of theirs: I am not the owner */
    VR_GENERATION_AHEAD,       /* theirs is an ancestor of mine */
    VR_GENERATION_SPLIT_BRAIN, /* a common ancestor, then two owners */
    VR_GENERATION_UNRELATED,   /* nothing in common (or over 64 generations apart): refuse */
    VR_GENERATION_RELATION_LAST
} VrGenerationRelation;

typedef struct _VrGeneration VrGeneration;

/** @id: vr_cycle_id_valid(). @owner: the host's fingerprint, 1 to 128 of [A-Za-z0-9:+/=_.-]. NULL
 * if either is not valid. (transfer full) */
VrGeneration *vr_generation_new(const char *id, const char *owner);
void vr_generation_free(VrGeneration *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrGeneration, vr_generation_free)

const char *vr_generation_id(const VrGeneration *self);
const char *vr_generation_owner(const VrGeneration *self);

/** How many ancestors are kept, and the @i-th, newest first. */
guint vr_generation_ancestors(const VrGeneration *self);
const char *vr_generation_ancestor(const VrGeneration *self, guint i);

/** TRUE if @id is its own id or one of its ancestors. */
gboolean vr_generation_knows(const VrGeneration *self, const char *id);

/** The next one: @new_id must be fresh (random); the oldest of 64 ancestors is forgotten. NULL if
 * an argument is not valid or @new_id is already in the history. (transfer full) */
VrGeneration *vr_generation_advance(const VrGeneration *self, const char *new_id,
                                    const char *new_owner);

/** Both sides reach the mirrored verdict. The same id with two owners is a split brain. */
VrGenerationRelation vr_generation_compare(const VrGeneration *mine, const VrGeneration *theirs);

/** "same", "behind", "ahead", "split-brain", "unrelated"; static. */
const char *vr_generation_relation_name(VrGenerationRelation relation);

/** One line without newline, "1 ID OWNER ANCESTOR,ANCESTOR" ("-" for none); at most 2300 bytes. */
char *vr_generation_to_line(const VrGeneration *self);

/** Strict inverse; text from a peer is welcome. Errors: INVALID. */
VrGeneration *vr_generation_from_line(const char *line, GError **error);

G_END_DECLS
