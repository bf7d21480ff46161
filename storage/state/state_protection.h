/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/protection_state.h"
#include "storage/wire/cycle.h"
#include "storage/state/state.h"

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
    gint64 last_error_us; /* wall; since when cycles fail for that cause */
    gboolean autostart;   /* of the source domain when protected, moved by failover */

    /* Target. */
    char *networks; /* the source's network map: JSON text [{"source","target","test"}], nullable */
    gint64 kept_until_us; /* wall; the source has ended replication, the replica is dropped then.
                             0: it is replicated */
    char *policy_before; /* a longer policy whose RPs stay until policy_before_until_us; nullable */
    gint64 policy_before_until_us;
} VrProtection;

void vr_protection_free(VrProtection *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrProtection, vr_protection_free)

/** NULL with NOT_FOUND "no-such-protection" if there is none. */
VrProtection *vr_state_protection_get(VrState *self, const char *uuid, GError **error);
/** Having none is no error: *ret_row is NULL then. (transfer full) */
gboolean vr_state_protection_find(VrState *self, const char *uuid, VrProtection **ret_row,
                                  GError **error);
/** (element-type VrProtection) (transfer full), by name */
GPtrArray *vr_state_protection_list(VrState *self, GError **error);
/** Names of the policies that domains of this host have. NULL if that cannot be read.
 * (element-type utf8) (transfer full) */
GPtrArray *vr_state_protection_policies(VrState *self);
#define VR_HOST_PROTECTIONS_MAX 500
/** Of both roles. */
gboolean vr_state_protection_count(VrState *self, guint *ret_number, GError **error);
/** A new row. Errors: CONFLICT "protection-exists", REFUSED "no-such-peer". */
gboolean vr_state_protection_insert(VrState *self, const VrProtection *row, GError **error);

/* Each writes its own columns of an existing row and no others, so that nobody writes back what
 * somebody else has changed since it was read. Errors: NOT_FOUND "no-such-protection". */

/** Only vr_app_set_state() asks for it: the transition table decides. */
gboolean vr_state_protection_set_state(VrState *self, const char *uuid, VrProtectionState state,
                                       GError **error);
/** @line: vr_generation_to_line(). */
gboolean vr_state_protection_set_generation(VrState *self, const char *uuid, const char *line,
                                            GError **error);
/** Target: name, policy, policy_text, exclude, networks, policy_before and its time, as the source
 * told them. */
gboolean vr_state_protection_set_settings(VrState *self, const VrProtection *row, GError **error);
gboolean vr_state_protection_set_kept_until(VrState *self, const char *uuid, gint64 until_us,
                                            GError **error);
gboolean vr_state_protection_set_policy(VrState *self, const char *uuid, const char *policy,
                                        GError **error);
/** @exclude: targets with commas between them. */
gboolean vr_state_protection_set_exclude(VrState *self, const char *uuid, const char *exclude,
                                         GError **error);
gboolean vr_state_protection_set_name(VrState *self, const char *uuid, const char *name,
                                      GError **error);
gboolean vr_state_protection_set_autostart(VrState *self, const char *uuid, gboolean autostart,
                                           GError **error);
/** Source: base_*, checkpoint and disks of @row; the manifest is sure and the last error over. */
gboolean vr_state_protection_set_base(VrState *self, const VrProtection *row, GError **error);
/** Source: changes since the base are not tracked. */
gboolean vr_state_protection_drop_checkpoint(VrState *self, const char *uuid, GError **error);
gboolean vr_state_protection_distrust_manifest(VrState *self, const char *uuid, GError **error);
/** @text: JSON text of an error; @when_us: wall. */
gboolean vr_state_protection_set_last_error(VrState *self, const char *uuid, const char *text,
                                            gint64 when_us, GError **error);
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
