/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-glib/json-glib.h>

G_BEGIN_DECLS

/** SECTION: what the two ends of a cycle tell each other; one encoder and decoder for both. */

#define VR_MAX_DISKS 64
#define VR_MAX_DISK_BYTES (G_GUINT64_CONSTANT(64) << 40)

typedef enum { VR_CYCLE_INITIAL, VR_CYCLE_DELTA, VR_CYCLE_RESYNC, VR_CYCLE_FINAL } VrCycleKind;
const char *vr_cycle_kind_name(VrCycleKind kind); /* "initial" ... */
gboolean vr_cycle_kind_from_name(const char *name, VrCycleKind *ret_kind);

typedef enum { VR_CONSISTENCY_CRASH, VR_CONSISTENCY_APP } VrConsistency;
const char *vr_consistency_name(VrConsistency consistency); /* "crash", "app" */
gboolean vr_consistency_from_name(const char *name, VrConsistency *ret_consistency);

typedef struct {
    char *name; /* owned; target device, e.g. "vda" */
    guint64 size_bytes;
} VrCycleDisk;

/** Empty list of VrCycleDisk that frees its elements, and one more element. (transfer full) */
GPtrArray *vr_cycle_disks_new(void);
void vr_cycle_disks_add(GPtrArray *disks, const char *name, guint64 size_bytes);

/** BEGIN: asks to make RP @number on top of RP @base_number. */
typedef struct {
    char *cycle; /* owned; 32 hex digits, used once */
    VrCycleKind kind;
    char *generation;    /* owned; current id of the sender, 32 hex digits */
    guint64 base_number; /* 0: none */
    char *base_cycle;    /* owned, nullable when base_number is 0 */
    GPtrArray *disks;    /* owned; VrCycleDisk, order gives the frame's disk index */
} VrCycleBegin;

void vr_cycle_begin_free(VrCycleBegin *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrCycleBegin, vr_cycle_begin_free)
JsonNode *vr_cycle_begin_to_json(const VrCycleBegin *self);
/** Every field checked against its limits. Errors: INVALID. */
VrCycleBegin *vr_cycle_begin_from_json(JsonNode *node, GError **error);

typedef struct {
    char *name; /* owned; vr_attachment_kind_name() */
    guint64 size_bytes;
    char *sha256; /* owned; 64 hex */
} VrAttachment;

/** Empty list of VrAttachment that frees its elements, and one more element. (transfer full) */
GPtrArray *vr_attachments_new(void);
void vr_attachments_add(GPtrArray *attachments, const char *name, guint64 size_bytes,
                        const char *sha256_hex);
/** The array "attachments" in @object, every field checked. Errors: INVALID. (transfer full) */
GPtrArray *vr_attachments_from_json(JsonObject *object, GError **error);

/** COMMIT: everything was sent. */
typedef struct {
    char *cycle;    /* owned */
    gint64 time_us; /* wall time of the point's instant on the source, UTC */
    VrConsistency consistency;
    char *root;       /* owned; 64 hex */
    char *domain_xml; /* owned; at most 256 KiB; data only, parsed by the target's own model */
    GPtrArray
        *attachments; /* owned; VrAttachment: all that belong to the RP, new or stored before */
} VrCycleCommit;

void vr_cycle_commit_free(VrCycleCommit *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrCycleCommit, vr_cycle_commit_free)
JsonNode *vr_cycle_commit_to_json(const VrCycleCommit *self);
VrCycleCommit *vr_cycle_commit_from_json(JsonNode *node, GError **error);

/** A listed recovery point. */
typedef struct {
    guint64 number;
    char *cycle;      /* owned */
    gint64 time_us;   /* instant on the source */
    gint64 stored_us; /* commit on the target's clock */
    VrConsistency consistency;
    char *root;    /* owned */
    guint64 bytes; /* what its layers take of the store */
    gboolean pinned;
    gint64 verified_us; /* target's clock: the oldest reading of its layers, all good; 0: none */
    guint64 damaged_chunks; /* found not to be what was proven; 0: none known */
    char *damaged_disk;     /* owned; the first disk of these, NULL: none known */
} VrRecoveryPoint;

/** The time of an RP whose source says @claimed_us, as it is stored: never ahead of our clock, at
 * most 30 days behind it (a long initial replication ends long after its instant). */
gint64 vr_recovery_point_time(gint64 claimed_us, gint64 stored_us);

void vr_recovery_point_free(VrRecoveryPoint *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrRecoveryPoint, vr_recovery_point_free)
/** Keys of design.md section 8 (`rp-list`), "cycle", "verified" (time or null), "damaged" and, if
 * it is, "damaged_disk" and "damaged_chunks". */
JsonNode *vr_recovery_point_to_json(const VrRecoveryPoint *self);
VrRecoveryPoint *vr_recovery_point_from_json(JsonNode *node, GError **error);

G_END_DECLS
