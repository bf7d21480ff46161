/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/conn.h"

G_BEGIN_DECLS

/** SECTION: every file that a domain's definition names, whatever for. Worker threads. */

typedef struct {
    char *disk;          /* "vda"; NULL: not of a disk (firmware, kernel, log, ...) */
    char *path;          /* NULL with @volume: the pool does not tell where it lies */
    char *format;        /* "qcow2", ... of an image, NULL: not said */
    char *pool, *volume; /* of a disk that is named so, else NULL */
} VrDomFile;

/** Sources and mirrors of disks and all that libvirt lists below them, then all other attributes
 * and texts that are absolute paths. (element-type VrDomFile) (transfer full) Errors: INTERNAL
 * "domain-xml". */
GPtrArray *vr_dom_files_from_xml(const char *xml, GError **error);

/** Of the domain as it runs and as it is defined; volumes of pools are looked up. @domain: UUID or
 * name. (element-type VrDomFile) (transfer full) Errors: NOT_FOUND, TRANSIENT. */
GPtrArray *vr_dom_files(VrConn *conn, const char *domain, GError **error);

G_END_DECLS
