/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/conn.h"

G_BEGIN_DECLS

/** SECTION: what the programs ask of a domain. All block, all from worker threads. @domain is a
 *  UUID or an exact name. Errors beside those named: vr_virerr_set()'s. */

typedef enum {
    VR_DOM_SHUTOFF,
    VR_DOM_RUNNING,
    VR_DOM_PAUSED,   /* by an operator, a snapshot, a migration, ... */
    VR_DOM_IO_ERROR, /* paused by libvirt because a disk write failed */
    VR_DOM_STOPPING, /* shutting down or dying */
    VR_DOM_CRASHED,  /* guest panicked, QEMU is still there */
} VrDomState;

const char *vr_dom_state_name(VrDomState state); /* "running"; static */

typedef struct {
    char *name;
    char *uuid;
    VrDomState state;
    gboolean persistent;
    gboolean autostart;
    gboolean managed_save;
    guint internal_snapshots; /* snapshots libvirt keeps metadata of */
    int id;                   /* -1: shut off */
} VrDomInfo;

VrDomInfo *vr_dom_info(VrConn *conn, const char *domain, GError **error);
void vr_dom_info_free(VrDomInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrDomInfo, vr_dom_info_free)

gboolean vr_dom_state(VrConn *conn, const char *domain, VrDomState *ret_state, GError **error);

/** All domains of the host: (element-type VrDomInfo) (transfer full), frees its elements. */
GPtrArray *vr_dom_list(VrConn *conn, GError **error);

/** The persistent definition with secrets; of a transient domain the live one. (transfer full) */
char *vr_dom_xml_inactive(VrConn *conn, const char *domain, GError **error);
/** As it runs, with all that libvirt knows of its disks' backing; shut off: the persistent one. */
char *vr_dom_xml_live(VrConn *conn, const char *domain, GError **error);

typedef struct {
    char *target; /* "vda" */
    char *path;   /* image file or block device; NULL when neither or empty */
    char *format; /* "qcow2", "raw", ... as the definition says; NULL: not said */
    char *device; /* "disk", "cdrom", "floppy", "lun" */
    gboolean readonly;
    gboolean shareable;
    gboolean transient;
    gboolean iothread;  /* the disk or its SCSI controller uses one */
    guint64 size_bytes; /* virtual size; 0 when @path is NULL or the size could not be asked */
    guint64 device_id;  /* st_dev of @path, 0 if unknown */
    guint64 inode;
} VrDomDisk;

/** Every disk in the order of the XML, live when it runs. (element-type VrDomDisk) (transfer full)
 */
GPtrArray *vr_dom_disks(VrConn *conn, const char *domain, GError **error);
/** Parses them from @xml without asking libvirt or the file system: sizes and inodes stay 0. */
GPtrArray *vr_dom_disks_from_xml(const char *xml, GError **error);
/** (nullable) (transfer none) */
const VrDomDisk *vr_dom_disk_find(const GPtrArray *disks, const char *target);

gboolean vr_dom_set_autostart(VrConn *conn, const char *domain, gboolean autostart, GError **error);

/** Defines (validated by libvirt's schema); @ret_uuid: (nullable). */
gboolean vr_dom_define(VrConn *conn, const char *xml, char **ret_uuid, GError **error);
/** Keeps NVRAM unless @drop_nvram; checkpoint metadata goes. Not there: success. */
gboolean vr_dom_undefine(VrConn *conn, const char *domain, gboolean drop_nvram, GError **error);

/** Already running is success. REFUSED "hook-refused" carries the hook's words. */
gboolean vr_dom_start(VrConn *conn, const char *domain, GError **error);

/** Waits until really running (state running, the same run of it, still so 500 ms later).
 *  Errors: TRANSIENT "domain-not-running" naming the state, CANCELLED. */
gboolean vr_dom_wait_running(VrConn *conn, const char *domain, guint timeout_ms,
                             GCancellable *cancel, GError **error);

/**
 * vr_dom_shutdown:
 * @timeout_ms: for the guest to power off by itself (agent first, ACPI every 5 s)
 * @force: then terminate QEMU gracefully (disks flushed, bitmaps kept)
 *
 * Returns when it is shut off. Shut off already is success. @ret_forced: (nullable).
 * Errors: TRANSIENT "shutdown-timeout", CANCELLED (the guest may still shut down later).
 */
gboolean vr_dom_shutdown(VrConn *conn, const char *domain, guint timeout_ms, gboolean force,
                         gboolean *ret_forced, GCancellable *cancel, GError **error);

/** Resumes only a domain paused by an I/O error; @ret_resumed: (nullable). */
gboolean vr_dom_resume_io_error(VrConn *conn, const char *domain, gboolean *ret_resumed,
                                GError **error);

/** TRUE if defined; @ret_active: (nullable). */
gboolean vr_dom_network_exists(VrConn *conn, const char *network, gboolean *ret_exists,
                               gboolean *ret_active, GError **error);

char *vr_dom_capabilities(VrConn *conn, GError **error);
/** All arguments nullable: libvirt's defaults. */
char *vr_dom_domain_capabilities(VrConn *conn, const char *emulator, const char *arch,
                                 const char *machine, const char *virt_type, GError **error);

gboolean vr_dom_host_free_memory(VrConn *conn, guint64 *ret_bytes, GError **error);
/** All that the host has. */
gboolean vr_dom_host_memory(VrConn *conn, guint64 *ret_bytes, GError **error);

G_END_DECLS
