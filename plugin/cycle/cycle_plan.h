/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/point/point.h"

G_BEGIN_DECLS

/** SECTION: what a cycle will read: decided from the domain as it is and the disks as they were at
 * the base. */

typedef struct {
    char *name; /* target, "vda" */
    char *path;
    guint64 size_bytes;
    guint64 device_id, inode;
    gboolean tracked; /* what changed since the base is known: same image, same size, base has a
                         checkpoint */
    gboolean fresh;   /* the base does not have this disk: the replica holds nothing of it */
} VrPlanDisk;

typedef struct {
    VrPointKind point;
    VrCycleKind kind;
    GPtrArray *disks; /* VrPlanDisk, owned */
    char *name;       /* of the domain now, owned */
    char *xml;        /* the definition, owned */
} VrCyclePlan;

void vr_cycle_plan_free(VrCyclePlan *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrCyclePlan, vr_cycle_plan_free)

/**
 * vr_cycle_plan_decide:
 * @info, @disks: (element-type VrDomDisk): the domain as it is now
 *
 * The decision alone, without I/O; the plan has no XML yet. Errors: as vr_cycle_plan_new(), but for
 * NOT_FOUND.
 */
VrCyclePlan *vr_cycle_plan_decide(const VrProtection *row, const VrDomInfo *info,
                                  const GPtrArray *disks, gboolean final, GError **error);

/** Errors: NOT_FOUND (domain), REFUSED ("no-disks", "domain-running" though @final), TRANSIENT
 * ("domain-stopping", "disk-not-readable"), those of libvirt. */
VrCyclePlan *vr_cycle_plan_new(VrApp *app, const VrProtection *row, gboolean final, GError **error);

/** Identity of the disks for VrProtection.disks. (transfer full) */
char *vr_cycle_plan_disks_text(const VrCyclePlan *self);

G_END_DECLS
