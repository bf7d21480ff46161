/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/conn.h"

G_BEGIN_DECLS

/** SECTION: libvirt's pull backup of a running domain. All block, worker threads. */

/** (transfer full) the directory in which QEMU of domain number @id may make sockets (AppArmor lets
 * it do so nowhere else). Errors: TRANSIENT "domain-changing". */
char *vr_point_backup_find_dir(int id, GError **error);

/** TRUE for a socket vr_point_new() could have chosen. */
gboolean vr_point_backup_socket_is_ours(const char *socket);

/** *@ret_socket: of the backup job that runs now, "" if that has none, NULL if no backup job runs.
 *  (transfer full) */
gboolean vr_point_backup_job_socket(VrConn *conn, const char *uuid, char **ret_socket,
                                    GError **error);

/** TRUE if the running domain has no job at all. Errors: CONFLICT "backup-job-running",
 * "domain-busy", and "backup-job-lost" after 5 s in which libvirt says that a backup job runs and
 * has no data of it. */
gboolean vr_point_backup_check_idle(VrConn *conn, const char *uuid, GError **error);

/** Ends the backup job whose socket is @socket and waits until it is gone. Another job or none:
 * success and nothing done. @ret_ended: (nullable). No client of ours may be connecting meanwhile.
 *  Errors: TRANSIENT "backup-job-stuck" after 60 s. */
gboolean vr_point_backup_end_job(VrConn *conn, const char *uuid, const char *socket,
                                 gboolean *ret_ended, GError **error);

G_END_DECLS
