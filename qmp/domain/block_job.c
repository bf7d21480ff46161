/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/block_job.h"

#include "policies/error.h"
#include "policies/ids.h"
#include "qmp/virerr.h"

static const char *
kind_name(int type)
{
    switch (type) {
    case VIR_DOMAIN_BLOCK_JOB_TYPE_PULL:
        return "pull";
    case VIR_DOMAIN_BLOCK_JOB_TYPE_COPY:
        return "copy";
    case VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT:
    case VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT:
        return "commit";
    case VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP:
        return "backup";
    default:
        return "unknown";
    }
}

/* A disk that has gone meanwhile has none. */
static gboolean
check_disk(VrDom *dom, const char *disk, GError **error)
{
    virDomainBlockJobInfo info = {0};
    g_autofree char *word = NULL;
    g_autofree char *action = NULL;

    if (virDomainGetBlockJobInfo(dom->dom, disk, &info, 0) != 1) {
        vr_virerr_ignore();
        return TRUE;
    }
    word = vr_shell_word(dom->name);
    action = g_strdup_printf("Wait for it to end, or end it with 'virsh blockjob %s %s --abort'.",
                             word, disk);
    vr_set_error(error, VR_ERROR_CONFLICT, "block-job-running", action,
                 "domain '%s': a block job (%s) of another program runs on disk '%s'", dom->name,
                 kind_name(info.type), disk);
    return FALSE;
}

static gboolean
check_disks(VrDom *dom, const virDomainStatsRecord *record, GError **error)
{
    unsigned int count = 0;

    (void) virTypedParamsGetUInt(record->params, record->nparams, "block.count", &count);
    for (unsigned int i = 0; i < count; i++) {
        g_autofree char *key = g_strdup_printf("block.%u.name", i);
        const char *disk = NULL;

        if (virTypedParamsGetString(record->params, record->nparams, key, &disk) == 1 &&
            !check_disk(dom, disk, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
vr_dom_check_no_block_job(VrConn *conn, const char *uuid, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, uuid, error);
    virDomainStatsRecordPtr *records = NULL;
    gboolean ok = TRUE;
    int n;

    if (!dom)
        return FALSE;
    n = virDomainListGetStats((virDomainPtr[]){dom->dom, NULL}, VIR_DOMAIN_STATS_BLOCK, &records,
                              VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT);
    if (n < 0) {
        vr_virerr_set(error, "domain '%s': cannot ask for its disks", dom->name);
        return FALSE;
    }
    for (int i = 0; ok && i < n; i++)
        ok = check_disks(dom, records[i], error);
    virDomainStatsRecordListFree(records);
    return ok;
}
