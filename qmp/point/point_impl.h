/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/point/nbd_source.h"
#include "qmp/point/point.h"

G_BEGIN_DECLS

/** SECTION: what point.c shares with point_backup.c and point_offline.c. */

typedef struct {
    VrPointDisk pub;       /* target and path point into the fields below */
    char *target;          /* owned */
    char *path;            /* owned */
    char *format;          /* owned */
    char *base;            /* owned, nullable */
    char *bitmap;          /* owned, nullable: the export's name for what changed since base */
    char *socket;          /* owned: its NBD socket */
    char *scratch;         /* owned, nullable */
    guint64 image_size;    /* as libvirt says, before connect */
    VrNbdSource *source;   /* owned, from begin on */
    VrExtents *candidates; /* owned, from connect on */
} VrPointDiskState;

typedef struct {
    gboolean (*prepare)(VrPoint *self, GError **error);
    gboolean (*begin)(VrPoint *self, GError **error);
    gboolean (*release)(VrPoint *self, GError **error);
    gboolean (*end)(VrPoint *self, GError **error);
    void (*cleanup)(VrPoint *self);
    void (*give_way)(VrPoint *self);
    gpointer (*impl_new)(VrPoint *self);
    void (*impl_free)(gpointer impl);
} VrPointOps;

struct _VrPoint {
    const VrPointOps *ops;
    gpointer impl; /* owned, of ops->impl_new */
    VrConn *conn;  /* borrowed: outlives every point */
    VrPointKind kind;
    char *uuid;
    char *checkpoint;  /* owned, nullable */
    char *scratch_dir; /* owned, nullable */
    GPtrArray *disks;  /* owned: VrPointDiskState */
    char **others;     /* owned: targets of the other disks of the domain */
    guint64 scratch_limit;
    guint64 scratch_reserve;
    char *journal;            /* owned */
    GCancellable *cycle;      /* owned, nullable */
    VrNbdGate *gate;          /* owned */
    struct _VrFreeze *freeze; /* owned, nullable */
    VrConsistency consistency;
    gboolean begun;   /* the new checkpoint, a job, readers may exist */
    gboolean serving; /* begin has succeeded */
    gboolean ended;   /* the job and the readers are gone */
    GMutex lock;      /* guards failure */
    GError *failure;  /* owned, nullable: first one wins */
};

VrPointDiskState *vr_point_disk_state(VrPoint *self, guint i);

/** Takes @failure; cancels the cycle. Any thread. */
void vr_point_fail(VrPoint *self, GError *failure);

extern const VrPointOps vr_point_backup_ops;
extern const VrPointOps vr_point_offline_ops;

G_END_DECLS
