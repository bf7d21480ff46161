/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looking at and ending backup jobs. A job is known by its socket: the name of ours is random. */
#include <libvirt/virterror.h>
#include <string.h>

#include "policies/error.h"
#include "qmp/point/point_backup.h"
#include "qmp/virerr.h"

#define LIBVIRT_DIR "/var/lib/libvirt/qemu"
#define SOCKET_PREFIX "virt-replica-"
#define SOCKET_SUFFIX ".sock"
#define RANDOM_LEN 8
#define END_US (60 * G_USEC_PER_SEC)
#define POLL_US (G_USEC_PER_SEC / 50)
/* How long a job that just begins may have no data yet. */
#define BEGIN_US (5 * G_USEC_PER_SEC)

char *
vr_point_backup_find_dir(int id, GError **error)
{
    g_autofree char *prefix = g_strdup_printf("domain-%d-", id);
    g_autoptr(GDir) dir = g_dir_open(LIBVIRT_DIR, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        if (g_str_has_prefix(name, prefix))
            return g_build_filename(LIBVIRT_DIR, name, NULL);
    }
    vr_set_error(error, VR_ERROR_TRANSIENT, "domain-changing", NULL,
                 "no directory '%s*' in " LIBVIRT_DIR, prefix);
    return NULL;
}

gboolean
vr_point_backup_socket_is_ours(const char *socket)
{
    const char *name = strrchr(socket, '/');

    return name && g_str_has_prefix(socket, LIBVIRT_DIR "/domain-") &&
           g_str_has_prefix(name + 1, SOCKET_PREFIX) && g_str_has_suffix(name, SOCKET_SUFFIX) &&
           strlen(name + 1) == strlen(SOCKET_PREFIX) + RANDOM_LEN + strlen(SOCKET_SUFFIX);
}

/* From libvirt's own XML; names of ours need no unescaping, others are only shown. */
static char *
socket_in(const char *xml)
{
    const char *start = strstr(xml, " socket='");
    const char *end;

    if (!start)
        return g_strdup("");
    start += strlen(" socket='");
    end = strchr(start, '\'');
    return end ? g_strndup(start, (gsize) (end - start)) : g_strdup("");
}

static gboolean
ask_socket(VrDom *dom, char **ret_socket, GError **error)
{
    char *xml;

    *ret_socket = NULL;
    if (virDomainIsActive(dom->dom) == 0)
        return TRUE;
    xml = virDomainBackupGetXMLDesc(dom->dom, 0);
    if (xml) {
        *ret_socket = socket_in(xml);
        free(xml);
        return TRUE;
    }
    if (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_BACKUP) {
        vr_virerr_ignore();
        return TRUE;
    }
    vr_virerr_set(error, "domain '%s': cannot ask for its backup job", dom->name);
    return FALSE;
}

gboolean
vr_point_backup_job_socket(VrConn *conn, const char *uuid, char **ret_socket, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, uuid, error);

    return dom && ask_socket(dom, ret_socket, error);
}

/* FALSE in @ret_known: there is a backup job that libvirt has no data of. */
static gboolean
ask_type(VrDom *dom, int *ret_type, gboolean *ret_known, GError **error)
{
    virDomainJobInfo info;

    *ret_known = virDomainGetJobInfo(dom->dom, &info) == 0;
    if (*ret_known) {
        *ret_type = info.type;
        return TRUE;
    }
    if (virGetLastErrorCode() == VIR_ERR_INTERNAL_ERROR) {
        vr_virerr_ignore();
        return TRUE;
    }
    vr_virerr_set(error, "domain '%s': cannot ask for its job", dom->name);
    return FALSE;
}

/* A job without data either just begins, which passes, or began when libvirtd was killed: then
 * libvirt keeps it for as long as QEMU runs, and beyond (src/qemu/qemu_process.c restores it). */
static gboolean
check_type(VrDom *dom, GError **error)
{
    gint64 until = g_get_monotonic_time() + BEGIN_US;
    int type = VIR_DOMAIN_JOB_NONE;
    gboolean known = FALSE;

    for (;;) {
        if (!ask_type(dom, &type, &known, error))
            return FALSE;
        if (known || g_get_monotonic_time() > until)
            break;
        g_usleep(POLL_US);
    }
    if (known && type == VIR_DOMAIN_JOB_NONE)
        return TRUE;
    if (known)
        vr_set_error(error, VR_ERROR_CONFLICT, "domain-busy", "Wait for the other job to end.",
                     "domain '%s': another job is running", dom->name);
    else
        vr_set_error(error, VR_ERROR_CONFLICT, "backup-job-lost",
                     "Shut the domain off, restart libvirtd, then start the domain.",
                     "domain '%s': libvirtd was killed while it began a backup job, has lost it "
                     "and takes no other",
                     dom->name);
    return FALSE;
}

gboolean
vr_point_backup_check_idle(VrConn *conn, const char *uuid, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, uuid, error);
    g_autofree char *socket = NULL;

    if (!dom || !ask_socket(dom, &socket, error))
        return FALSE;
    if (!socket)
        return check_type(dom, error);
    vr_set_error(error, VR_ERROR_CONFLICT, "backup-job-running",
                 "Wait for the other backup to end, or end it with 'virsh domjobabort'.",
                 "domain '%s': another backup job is running (%s)", dom->name,
                 *socket ? socket : "no UNIX socket");
    return FALSE;
}

static gboolean
is_running(VrConn *conn, const char *uuid, const char *socket, gboolean *ret_running,
           GError **error)
{
    g_autofree char *found = NULL;

    if (!vr_point_backup_job_socket(conn, uuid, &found, error))
        return FALSE;
    *ret_running = g_strcmp0(found, socket) == 0;
    return TRUE;
}

/* Asynchronous; that the job is gone already shows in what follows. */
static gboolean
abort_job(VrConn *conn, const char *uuid, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, uuid, error);

    if (!dom)
        return FALSE;
    if (virDomainAbortJob(dom->dom) == 0 || virGetLastErrorCode() == VIR_ERR_OPERATION_INVALID) {
        vr_virerr_ignore();
        return TRUE;
    }
    vr_virerr_set(error, "domain '%s': cannot end the backup job", dom->name);
    return FALSE;
}

gboolean
vr_point_backup_end_job(VrConn *conn, const char *uuid, const char *socket, gboolean *ret_ended,
                        GError **error)
{
    gint64 until = g_get_monotonic_time() + END_US;
    gboolean running = FALSE;

    if (!is_running(conn, uuid, socket, &running, error))
        return FALSE;
    if (ret_ended)
        *ret_ended = running;
    if (!running)
        return TRUE;
    if (!abort_job(conn, uuid, error))
        return FALSE;
    while (g_get_monotonic_time() < until) {
        if (!is_running(conn, uuid, socket, &running, error))
            return FALSE;
        if (!running)
            return TRUE;
        g_usleep(POLL_US);
    }
    vr_set_error(error, VR_ERROR_TRANSIENT, "backup-job-stuck", "Check whether QEMU still answers.",
                 "domain '%s': its backup job does not end", uuid);
    return FALSE;
}
