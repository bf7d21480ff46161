/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/protection_state.h"
#include "storage/cycle.h"
#include "storage/state.h"

G_BEGIN_DECLS

/** SECTION: rows of protections, on both roles. */

typedef enum { VR_ROLE_SOURCE, VR_ROLE_TARGET } VrRole;
const char *vr_role_name(VrRole role); /* "source", "target" */

typedef struct {
    char *uuid;
    char *name; /* domain name, for people */
    VrRole role;
    char *peer;        /* fingerprint of the other host */
    char *store;       /* name of the store on the target */
    char *policy;      /* policy name (source decides; the target keeps the effective text) */
    char *policy_text; /* effective policy as INI, so that the target needs no file of that name */
    VrProtectionState state;
    char *generation;  /* vr_generation_to_line() */
    char *exclude;     /* comma-separated disk names, or "" */
    gint64 created_us; /* wall */

    /* Source: what the next cycle starts from; target: mirror of the newest RP. */
    guint64 base_number; /* 0: none */
    char *base_cycle;    /* nullable */
    char *base_root;     /* nullable */
    gint64 base_time_us;
    VrConsistency base_consistency;
    char *checkpoint;         /* source: libvirt checkpoint of the base, nullable */
    char *disks;              /* source: identity of the disks at the base: JSON text, nullable */
    gboolean manifest_unsure; /* ours was proven wrong: fetch the digests from the target */

    char *last_error;     /* JSON text of the last failed cycle's error, nullable */
    gint64 last_error_us; /* wall */
    gboolean autostart;   /* of the source domain when protected, moved by failover */
} VrProtection;

void vr_protection_free(VrProtection *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrProtection, vr_protection_free)

/** NULL with NOT_FOUND "no-such-protection" if there is none. */
VrProtection *vr_state_protection_get(VrState *self, const char *uuid, GError **error);
/** (element-type VrProtection) (transfer full), by name */
GPtrArray *vr_state_protection_list(VrState *self, GError **error);
/** Inserts or replaces the whole row. */
gboolean vr_state_protection_put(VrState *self, const VrProtection *row, GError **error);
gboolean vr_state_protection_delete(VrState *self, const char *uuid, GError **error);

/** The cycle under way on the source: what must be undone after a crash. At most one a protection.
 */
typedef struct {
    char *uuid;
    char *cycle;
    VrCycleKind kind;
    char *checkpoint; /* intended name, journaled before the call */
    char *point;      /* what the guest's side may hold, for vr_point_recover(); nullable */
    gboolean sent;    /* COMMIT may have reached the target */
    char *commit;     /* JSON text of the COMMIT request when sent, nullable */
    char *disks;      /* becomes protection.disks, nullable */
} VrCycleJournal;

void vr_cycle_journal_free(VrCycleJournal *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrCycleJournal, vr_cycle_journal_free)
/** NULL without error if there is none. */
VrCycleJournal *vr_state_cycle_get(VrState *self, const char *uuid, GError **error);
gboolean vr_state_cycle_put(VrState *self, const VrCycleJournal *row, GError **error);
gboolean vr_state_cycle_delete(VrState *self, const char *uuid, GError **error);

G_END_DECLS
