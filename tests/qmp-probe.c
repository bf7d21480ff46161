/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Drives points on a real libvirtd by hand, a word a step, so that a test can stop or kill it
 * anywhere:
 *
 *   qmp-probe DOMAIN [KEY=VALUE...] STEP...
 *     kind=backup|offline  base=CHECKPOINT  disks=vda,vdb  journal=FILE  limit=BYTES  reserve=BYTES
 *     name=CHECKPOINT  scratch=DIR
 *     new prepare freeze begin thaw connect release end cleanup abort free
 *     read=DIR    every candidate of every disk into DIR/TARGET.raw (made sparse, holes are not
 * candidates) sleep=MS  kill  recover  recover-keep  sweep  sweep-checkpoints  list
 * delete=CHECKPOINT info  shutdown  start  give-way  thaw-now  wait (for libvirt)  expect=SLUG (the
 * step after it must fail so)
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "policies/error.h"
#include "qmp/point/checkpoint.h"
#include "qmp/conn.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/point/freeze.h"
#include "qmp/point/point.h"

typedef struct {
    VrConn *conn;
    VrPoint *point;
    char *domain;
    char *uuid;
    char *base;
    char *name;
    char *journal;
    char *scratch;
    char **disks;
    char *expect;
    VrPointKind kind;
    guint64 limit;
    guint64 reserve;
    GMainLoop *loop;
    int argc;
    char **argv;
    int status;
} Probe;

static gboolean
step_new(Probe *probe, GError **error)
{
    g_autofree VrPointDiskWanted *disks =
        g_new0(VrPointDiskWanted, g_strv_length(probe->disks) + 1);
    VrPointWanted wanted = {.kind = probe->kind, .uuid = probe->uuid, .disks = disks};

    for (guint i = 0; probe->disks[i]; i++, wanted.n_disks++) {
        disks[i].target = probe->disks[i];
        disks[i].base = probe->base;
    }
    if (!probe->name)
        probe->name = vr_checkpoint_new_name(probe->uuid);
    wanted.checkpoint = strcmp(probe->name, "none") == 0 ? NULL : probe->name;
    wanted.runtime_dir = "/run";
    wanted.scratch_dir = probe->scratch;
    wanted.scratch_limit = probe->limit;
    wanted.scratch_reserve = probe->reserve;
    probe->point = vr_point_new(probe->conn, &wanted, NULL, error);
    if (!probe->point)
        return FALSE;
    printf("checkpoint %s\n", probe->name);
    return !probe->journal ||
           g_file_set_contents(probe->journal, vr_point_journal(probe->point), -1, error);
}

static gboolean
step_connect(Probe *probe, GError **error)
{
    if (!vr_point_connect(probe->point, error))
        return FALSE;
    for (guint i = 0; i < vr_point_n_disks(probe->point); i++) {
        const VrPointDisk *disk = vr_point_disk(probe->point, i);

        printf("disk %s size %" G_GUINT64_FORMAT " data %" G_GUINT64_FORMAT
               " zero %" G_GUINT64_FORMAT " ranges %u\n",
               disk->target, disk->size_bytes, vr_extents_bytes(disk->candidates, VR_EXTENT_DATA),
               vr_extents_bytes(disk->candidates, VR_EXTENT_ZERO),
               vr_extents_count(disk->candidates));
    }
    return TRUE;
}

/* Candidates are written where they are in the disk; a ZERO one is punched out of what was there.
 */
static gboolean
copy_extent(VrSource *source, VrSourceReader *reader, const VrExtent *extent, int fd,
            GError **error)
{
    g_autofree guint8 *buf = g_malloc(VR_SOURCE_READ_MAX);

    if (extent->flags == VR_EXTENT_ZERO)
        return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t) extent->offset,
                         (off_t) extent->length) == 0;
    for (guint64 done = 0; done < extent->length;) {
        gsize len = MIN(extent->length - done, VR_SOURCE_READ_MAX);

        if (!source->ops->read(reader, extent->offset + done, len, buf, error))
            return FALSE;
        if (pwrite(fd, buf, len, (off_t) (extent->offset + done)) != (ssize_t) len)
            return FALSE;
        done += len;
    }
    return TRUE;
}

static gboolean
read_disk(const VrPointDisk *disk, const char *dir, GError **error)
{
    g_autofree char *path = g_strdup_printf("%s/%s.raw", dir, disk->target);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    VrSourceReader *reader = disk->source->ops->open(disk->source, error);
    gboolean ok = reader && fd >= 0 && ftruncate(fd, (off_t) disk->size_bytes) == 0;

    for (guint i = 0; ok && i < vr_extents_count(disk->candidates); i++)
        ok = copy_extent(disk->source, reader, vr_extents_get(disk->candidates, i), fd, error);
    disk->source->ops->close(reader);
    if (fd >= 0)
        close(fd);
    return ok;
}

static gboolean
step_read(Probe *probe, const char *dir, GError **error)
{
    for (guint i = 0; i < vr_point_n_disks(probe->point); i++) {
        if (!read_disk(vr_point_disk(probe->point, i), dir, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
step_recover(Probe *probe, gboolean keep, GError **error)
{
    g_autofree char *journal = NULL;

    return g_file_get_contents(probe->journal, &journal, NULL, error) &&
           vr_point_recover(probe->conn, journal, keep, error);
}

static gboolean
step_list(Probe *probe, GError **error)
{
    g_auto(GStrv) names = vr_checkpoint_list(probe->conn, probe->uuid, error);

    for (guint i = 0; names && names[i]; i++)
        printf("have %s\n", names[i]);
    return names != NULL;
}

static gboolean
step_info(Probe *probe, GError **error)
{
    g_autoptr(VrDomInfo) info = vr_dom_info(probe->conn, probe->domain, error);
    g_autoptr(GPtrArray) disks = info ? vr_dom_disks(probe->conn, probe->domain, error) : NULL;

    if (!disks)
        return FALSE;
    printf("info %s %s %s id %d persistent %d save %d snapshots %u qemu %lu libvirt %lu\n",
           info->name, info->uuid, vr_dom_state_name(info->state), info->id, info->persistent,
           info->managed_save, info->internal_snapshots, vr_conn_qemu_version(probe->conn),
           vr_conn_libvirt_version(probe->conn));
    for (guint i = 0; i < disks->len; i++) {
        const VrDomDisk *disk = disks->pdata[i];

        printf("has %s %s %s %s %" G_GUINT64_FORMAT "\n", disk->target, disk->device,
               disk->path ? disk->path : "-", disk->format ? disk->format : "-", disk->size_bytes);
    }
    return TRUE;
}

static gboolean
step_sweep_checkpoints(Probe *probe, GError **error)
{
    guint n = 0;
    gboolean ok = vr_checkpoint_sweep(probe->conn, probe->uuid, probe->base, &n, error);

    printf("swept %u\n", n);
    return ok;
}

static gboolean
step_thaw(Probe *probe)
{
    vr_point_thaw(probe->point);
    printf("consistency %s\n", vr_consistency_name(vr_point_consistency(probe->point)));
    return TRUE;
}

static gboolean
run_step(Probe *probe, const char *step, GError **error)
{
    const char *value = strchr(step, '=');

    value = value ? value + 1 : "";
    if (g_str_has_prefix(step, "sleep="))
        return g_usleep(strtoul(value, NULL, 10) * 1000), TRUE;
    if (g_str_has_prefix(step, "read="))
        return step_read(probe, value, error);
    if (g_str_has_prefix(step, "delete="))
        return vr_checkpoint_delete(probe->conn, probe->uuid, value, error);
    if (strcmp(step, "new") == 0)
        return step_new(probe, error);
    if (strcmp(step, "prepare") == 0)
        return vr_point_prepare(probe->point, error);
    if (strcmp(step, "freeze") == 0)
        return vr_point_freeze(probe->point, VR_FREEZE_DEADLINE_MS, error);
    if (strcmp(step, "begin") == 0)
        return vr_point_begin(probe->point, error);
    if (strcmp(step, "thaw") == 0)
        return step_thaw(probe);
    if (strcmp(step, "connect") == 0)
        return step_connect(probe, error);
    if (strcmp(step, "release") == 0)
        return vr_point_release(probe->point, error);
    if (strcmp(step, "end") == 0)
        return vr_point_end(probe->point, error);
    if (strcmp(step, "cleanup") == 0)
        return vr_point_cleanup(probe->point), TRUE;
    if (strcmp(step, "abort") == 0)
        return vr_point_abort(probe->point, error);
    if (strcmp(step, "free") == 0)
        return vr_point_free(g_steal_pointer(&probe->point)), TRUE;
    if (strcmp(step, "kill") == 0)
        return kill(getpid(), SIGKILL) == 0;
    if (strcmp(step, "recover") == 0 || strcmp(step, "recover-keep") == 0)
        return step_recover(probe, strcmp(step, "recover-keep") == 0, error);
    if (strcmp(step, "sweep") == 0)
        return vr_point_sweep(probe->conn, probe->uuid, NULL, error);
    if (strcmp(step, "sweep-checkpoints") == 0)
        return step_sweep_checkpoints(probe, error);
    if (strcmp(step, "list") == 0)
        return step_list(probe, error);
    if (strcmp(step, "info") == 0)
        return step_info(probe, error);
    if (strcmp(step, "thaw-now") == 0)
        return vr_freeze_thaw_now(probe->conn, probe->uuid, error);
    if (strcmp(step, "wait") == 0)
        return vr_conn_wait(probe->conn, 20000, NULL, error);
    if (strcmp(step, "give-way") == 0)
        return vr_point_give_way(probe->point), TRUE;
    if (strcmp(step, "shutdown") == 0)
        return vr_dom_shutdown(probe->conn, probe->uuid, 60000, FALSE, NULL, NULL, error);
    if (strcmp(step, "start") == 0)
        return vr_dom_start(probe->conn, probe->uuid, error) &&
               vr_dom_wait_running(probe->conn, probe->uuid, 20000, NULL, error);
    vr_set_error(error, VR_ERROR_INVALID, "usage", NULL, "no such step");
    return FALSE;
}

static void
replace(char **text, const char *value)
{
    g_free(*text);
    *text = g_strdup(value);
}

static gboolean
set_value(Probe *probe, const char *word)
{
    const char *value = strchr(word, '=');

    if (!value)
        return FALSE;
    value++;
    if (g_str_has_prefix(word, "kind=")) {
        probe->kind = strcmp(value, "offline") == 0 ? VR_POINT_OFFLINE : VR_POINT_BACKUP;
    } else if (g_str_has_prefix(word, "base=")) {
        replace(&probe->base, value);
    } else if (g_str_has_prefix(word, "name=")) {
        replace(&probe->name, value);
    } else if (g_str_has_prefix(word, "journal=")) {
        replace(&probe->journal, value);
    } else if (g_str_has_prefix(word, "scratch=")) {
        replace(&probe->scratch, value);
    } else if (g_str_has_prefix(word, "disks=")) {
        g_strfreev(probe->disks);
        probe->disks = g_strsplit(value, ",", -1);
    } else if (g_str_has_prefix(word, "limit=")) {
        probe->limit = strtoull(value, NULL, 10);
    } else if (g_str_has_prefix(word, "reserve=")) {
        probe->reserve = strtoull(value, NULL, 10);
    } else if (g_str_has_prefix(word, "expect=")) {
        replace(&probe->expect, value);
    } else {
        return FALSE;
    }
    return TRUE;
}

/* 0 when the step did what was wanted of it. */
static int
judge(Probe *probe, const char *step, gint64 start, gboolean ok, const GError *error)
{
    g_autofree char *expect = g_steal_pointer(&probe->expect);
    double ms = (double) (g_get_monotonic_time() - start) / 1000;

    if (ok && !expect) {
        printf("ok %s %.1f ms\n", step, ms);
        return 0;
    }
    if (ok) {
        printf("not ok %s %.1f ms: done, but '%s' was expected\n", step, ms, expect);
        return 1;
    }
    printf("%s %s %.1f ms: %s: %s\n", expect ? "failed" : "not ok", step, ms, vr_error_slug(error),
           error->message);
    return expect && strcmp(vr_error_slug(error), expect) == 0 ? 0 : 1;
}

static gboolean
quit(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_REMOVE;
}

static gpointer
probe_main(gpointer data)
{
    Probe *probe = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(VrDomInfo) info = NULL;

    if (vr_conn_wait(probe->conn, 10000, NULL, &error))
        info = vr_dom_info(probe->conn, probe->domain, &error);
    if (!info) {
        printf("not ok open: %s: %s\n", vr_error_slug(error), error->message);
        probe->status = 1;
    } else {
        probe->uuid = g_strdup(info->uuid);
    }
    for (int i = 0; probe->status == 0 && i < probe->argc; i++) {
        g_autoptr(GError) local = NULL;
        gint64 start = g_get_monotonic_time();
        gboolean ok;

        fflush(stdout);
        if (set_value(probe, probe->argv[i]))
            continue;
        ok = run_step(probe, probe->argv[i], &local);
        probe->status = judge(probe, probe->argv[i], start, ok, local);
    }
    fflush(stdout);
    g_clear_pointer(&probe->point, vr_point_free);
    g_idle_add(quit, probe->loop);
    return NULL;
}

int
main(int argc, char **argv)
{
    Probe probe = {.kind = VR_POINT_BACKUP};
    GThread *thread;

    if (argc > 1 && strcmp(argv[1], VR_FREEZE_HELPER_ARG) == 0)
        return vr_freeze_helper_main(argc, argv);
    if (argc < 3) {
        fprintf(stderr, "usage: qmp-probe DOMAIN [KEY=VALUE...] STEP...\n");
        return 2;
    }
    probe.domain = argv[1];
    probe.argc = argc - 2;
    probe.argv = argv + 2;
    probe.disks = g_strsplit("vda,vdb", ",", -1);
    probe.loop = g_main_loop_new(NULL, FALSE);
    probe.conn = vr_conn_new("qemu:///system", NULL, NULL);
    thread = g_thread_new("probe", probe_main, &probe);
    g_main_loop_run(probe.loop);
    g_thread_join(thread);
    vr_conn_free(probe.conn);
    g_main_loop_unref(probe.loop);
    g_strfreev(probe.disks);
    g_free(probe.base);
    g_free(probe.name);
    g_free(probe.journal);
    g_free(probe.scratch);
    g_free(probe.uuid);
    g_free(probe.expect);
    return probe.status;
}
