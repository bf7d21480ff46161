/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_run.h"

#include "policies/error.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/virerr.h"

gboolean
vr_dom_start_paused(VrConn *conn, const char *domain, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, domain, error);

    if (dom == NULL)
        return FALSE;
    if (virDomainIsActive(dom->dom) == 1)
        return TRUE;
    if (virDomainCreateWithFlags(dom->dom, VIR_DOMAIN_START_PAUSED) == 0)
        return TRUE;
    vr_virerr_set(error, "cannot start domain '%s'", dom->name);
    return FALSE;
}

gboolean
vr_dom_resume(VrConn *conn, const char *domain, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, domain, error);
    int state, reason;

    if (dom == NULL)
        return FALSE;
    if (virDomainGetState(dom->dom, &state, &reason, 0) == 0 && state == VIR_DOMAIN_RUNNING)
        return TRUE;
    if (virDomainResume(dom->dom) == 0)
        return TRUE;
    vr_virerr_set(error, "cannot resume domain '%s'", dom->name);
    return FALSE;
}

gboolean
vr_dom_suspend(VrConn *conn, const char *domain, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, domain, error);
    int state, reason;

    if (dom == NULL)
        return FALSE;
    if (virDomainSuspend(dom->dom) == 0)
        return TRUE;
    vr_virerr_set(error, "cannot suspend domain '%s'", dom->name);
    if (virDomainGetState(dom->dom, &state, &reason, 0) != 0 ||
        (state != VIR_DOMAIN_PAUSED && state != VIR_DOMAIN_SHUTOFF))
        return FALSE;
    g_clear_error(error);
    return TRUE;
}

gboolean
vr_dom_destroy(VrConn *conn, const char *domain, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrDom) dom = vr_dom_open(conn, domain, &local);

    if (dom == NULL && g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    if (dom == NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (virDomainIsActive(dom->dom) != 1 || virDomainDestroy(dom->dom) == 0 ||
        virDomainIsActive(dom->dom) == 0)
        return TRUE;
    vr_virerr_set(error, "cannot end domain '%s'", dom->name);
    return FALSE;
}
