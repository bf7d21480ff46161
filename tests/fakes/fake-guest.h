/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/point/point.h"
#include "storage/util/chunk.h"

G_BEGIN_DECLS

/**
 * SECTION: the disks of one guest, its QEMU's bitmaps and backup job, in place of what is below
 * qmp/point/point.c: both kinds of point, qmp/point/nbd_source.c, checkpoint.c, freeze.c,
 * backup_job.c and domain_disks.c. What libvirt knows of the domain itself is in fake-dom.c.
 *
 * It lives in memory that a forked child shares, so it outlives a daemon that is killed there.
 * Every call is one of FAKE_GUEST (fake-fault.h).
 */
#define FAKE_DISKS 2
#define FAKE_CHUNKS 16
#define FAKE_DISK_BYTES (FAKE_CHUNKS * (gsize) VR_CHUNK_SIZE)
#define FAKE_CHECKPOINTS 8

typedef struct {
    char name[64];   /* "": none */
    gboolean broken; /* only libvirt still knows it: QEMU was killed */
    gboolean dirty[FAKE_DISKS][FAKE_CHUNKS];
} FakeCheckpoint;

typedef struct {
    char dir[128];            /* of images, scratch and sockets */
    guint64 size[FAKE_DISKS]; /* at most FAKE_DISK_BYTES */
    FakeCheckpoint checkpoints[FAKE_CHECKPOINTS];
    char job[128]; /* socket of the backup job, "": none */
    gboolean frozen;
    guint frozen_points; /* begun while the guest was frozen */
    guint servers;       /* of a shut-off domain's images; they die with us */
    gint readers;        /* atomic */
    gint chunks_read;    /* atomic */
    guint written;       /* chunks, by the guest */
    guint begun;         /* points */
    gboolean loses;      /* its bitmaps, when the next point begins */
    gboolean busy;       /* the guest writes while it is read */
    guint8 data[FAKE_DISKS][FAKE_DISK_BYTES];
    guint8 view[FAKE_DISKS][FAKE_DISK_BYTES];  /* what the last point froze */
    gboolean changed[FAKE_DISKS][FAKE_CHUNKS]; /* since its base */
} FakeGuest;

extern FakeGuest *fake_guest;

/** Asked before a checkpoint goes, whoever deletes it; NULL: nobody. */
extern void (*fake_guest_deletes)(const char *checkpoint);

/** Told before what the last point froze is overwritten; NULL: nobody. */
extern void (*fake_guest_begins)(void);

/** Two disks of which the larger part holds data. @dir: copied. */
void fake_guest_reset(const char *dir);
/** One chunk, of random data or zeros. */
void fake_guest_write(guint disk, guint64 chunk, gboolean zeros);
/** One chunk, as it is in @content. */
void fake_guest_put_back(guint disk, guint64 chunk, const guint8 *content);
/** The daemon is gone: what dies with it does. Freeze and job stay, and whoever was to end a
 * freeze in its place is gone as well. */
void fake_guest_daemon_died(void);
/** QEMU is gone: bitmaps and job with it. */
void fake_guest_qemu_died(void);
/** Nothing of ours is left but @checkpoint (NULL: none). */
void fake_guest_assert_clean(const char *checkpoint);
/** Written since @checkpoint, in chunks. */
guint fake_guest_dirty(const char *checkpoint);

G_END_DECLS
