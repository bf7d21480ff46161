/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_ops.h"

#include <libvirt/virterror.h>
#include <string.h>

#include "policies/error.h"
#include "qmp/virerr.h"

#define POLL_US (G_USEC_PER_SEC / 4)
#define SETTLE_US (G_USEC_PER_SEC / 2)
#define ACPI_EVERY_US (5 * G_USEC_PER_SEC)
#define AGENT_TIMEOUT_S 5
#define AGENT_CONNECTED "name='org.qemu.guest_agent.0' state='connected'"

const char *
vr_dom_state_name(VrDomState state)
{
    switch (state) {
    case VR_DOM_SHUTOFF:
        return "shut off";
    case VR_DOM_RUNNING:
        return "running";
    case VR_DOM_PAUSED:
        return "paused";
    case VR_DOM_IO_ERROR:
        return "paused by an I/O error";
    case VR_DOM_STOPPING:
        return "stopping";
    case VR_DOM_CRASHED:
        return "crashed";
    }
    return "unknown";
}

static gboolean
get_state(VrDom *dom, VrDomState *ret_state, GError **error)
{
    int state = 0, reason = 0;

    if (virDomainGetState(dom->dom, &state, &reason, 0) < 0) {
        vr_virerr_set(error, "domain '%s': cannot ask its state", dom->name);
        return FALSE;
    }
    switch ((virDomainState) state) {
    case VIR_DOMAIN_SHUTOFF:
        *ret_state = VR_DOM_SHUTOFF;
        return TRUE;
    case VIR_DOMAIN_PAUSED:
        *ret_state = reason == VIR_DOMAIN_PAUSED_IOERROR ? VR_DOM_IO_ERROR : VR_DOM_PAUSED;
        return TRUE;
    case VIR_DOMAIN_PMSUSPENDED:
        *ret_state = VR_DOM_PAUSED;
        return TRUE;
    case VIR_DOMAIN_SHUTDOWN:
        /* Between the guest's power-off and the end of QEMU. */
        *ret_state = VR_DOM_STOPPING;
        return TRUE;
    case VIR_DOMAIN_CRASHED:
        *ret_state = VR_DOM_CRASHED;
        return TRUE;
    case VIR_DOMAIN_NOSTATE:
    case VIR_DOMAIN_RUNNING:
    case VIR_DOMAIN_BLOCKED:
        *ret_state = VR_DOM_RUNNING;
        return TRUE;
    }
    *ret_state = VR_DOM_STOPPING;
    return TRUE;
}

gboolean
vr_dom_state(VrConn *conn, const char *domain, VrDomState *ret_state, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, domain, error);

    return dom && get_state(dom, ret_state, error);
}

static VrDomInfo *
info_of(VrDom *dom, GError **error)
{
    g_autoptr(VrDomInfo) info = g_new0(VrDomInfo, 1);
    char uuid[VIR_UUID_STRING_BUFLEN];
    int autostart = 0, n;

    if (!get_state(dom, &info->state, error) || virDomainGetUUIDString(dom->dom, uuid) < 0)
        return NULL;
    info->name = g_strdup(dom->name);
    info->uuid = g_strdup(uuid);
    info->id = info->state == VR_DOM_SHUTOFF ? -1 : (int) virDomainGetID(dom->dom);
    info->persistent = virDomainIsPersistent(dom->dom) == 1;
    info->managed_save = virDomainHasManagedSaveImage(dom->dom, 0) == 1;
    info->autostart = virDomainGetAutostart(dom->dom, &autostart) == 0 && autostart;
    n = virDomainSnapshotNum(dom->dom, VIR_DOMAIN_SNAPSHOT_LIST_INTERNAL);
    info->internal_snapshots = n > 0 ? (guint) n : 0;
    vr_virerr_ignore();
    return g_steal_pointer(&info);
}

VrDomInfo *
vr_dom_info(VrConn *conn, const char *domain, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, domain, error);

    return dom ? info_of(dom, error) : NULL;
}

void
vr_dom_info_free(VrDomInfo *info)
{
    if (!info)
        return;
    g_free(info->name);
    g_free(info->uuid);
    g_free(info);
}

static void
info_free(gpointer info)
{
    vr_dom_info_free(info);
}

GPtrArray *
vr_dom_list(VrConn *conn, GError **error)
{
    virConnectPtr vir = vr_conn_ref(conn, error);
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(info_free);
    virDomainPtr *doms = NULL;
    int n;

    if (!vir)
        return NULL;
    n = virConnectListAllDomains(vir, &doms, 0);
    if (n < 0) {
        vr_virerr_set(error, "cannot list the domains");
        vr_conn_unref(conn, vir);
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        VrDom dom = {conn, vir, doms[i], virDomainGetName(doms[i])};
        VrDomInfo *info = info_of(&dom, NULL); /* one that went away meanwhile is left out */

        if (info)
            g_ptr_array_add(list, info);
        virDomainFree(doms[i]);
    }
    free(doms);
    vr_conn_unref(conn, vir);
    return g_steal_pointer(&list);
}

/* libvirt's strings come from malloc(). */
static char *
take(char *text)
{
    char *copy = g_strdup(text);

    free(text);
    return copy;
}

static char *
get_xml(VrConn *conn, const char *domain, gboolean inactive, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, domain, error);
    guint flags = VIR_DOMAIN_XML_SECURE;
    char *xml;

    if (!dom)
        return NULL;
    if (inactive && virDomainIsPersistent(dom->dom) == 1)
        flags |= VIR_DOMAIN_XML_INACTIVE;
    xml = virDomainGetXMLDesc(dom->dom, flags);
    if (!xml)
        vr_virerr_set(error, "domain '%s': cannot read its definition", dom->name);
    return take(xml);
}

char *
vr_dom_xml_inactive(VrConn *conn, const char *domain, GError **error)
{
    return get_xml(conn, domain, TRUE, error);
}

char *
vr_dom_xml_live(VrConn *conn, const char *domain, GError **error)
{
    return get_xml(conn, domain, FALSE, error);
}

gboolean
vr_dom_set_autostart(VrConn *conn, const char *domain, gboolean autostart, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, domain, error);

    if (!dom)
        return FALSE;
    if (virDomainSetAutostart(dom->dom, autostart) == 0)
        return TRUE;
    vr_virerr_set(error, "domain '%s': cannot set autostart", dom->name);
    return FALSE;
}

gboolean
vr_dom_define(VrConn *conn, const char *xml, char **ret_uuid, GError **error)
{
    virConnectPtr vir = vr_conn_ref(conn, error);
    virDomainPtr dom;
    char uuid[VIR_UUID_STRING_BUFLEN] = "";

    if (!vir)
        return FALSE;
    dom = virDomainDefineXMLFlags(vir, xml, VIR_DOMAIN_DEFINE_VALIDATE);
    if (dom) {
        virDomainGetUUIDString(dom, uuid);
        virDomainFree(dom);
        if (ret_uuid)
            *ret_uuid = g_strdup(uuid);
    } else {
        vr_virerr_set(error, "cannot define the domain");
    }
    vr_conn_unref(conn, vir);
    return dom != NULL;
}

gboolean
vr_dom_undefine(VrConn *conn, const char *domain, gboolean drop_nvram, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrDom) dom = vr_dom_open(conn, domain, &local);
    guint flags = VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;

    flags |= drop_nvram ? VIR_DOMAIN_UNDEFINE_NVRAM | VIR_DOMAIN_UNDEFINE_TPM
                        : VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | VIR_DOMAIN_UNDEFINE_KEEP_TPM;
    if (!dom && g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    if (!dom) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (virDomainUndefineFlags(dom->dom, flags) == 0)
        return TRUE;
    vr_virerr_set(error, "domain '%s': cannot undefine", dom->name);
    return FALSE;
}

gboolean
vr_dom_start(VrConn *conn, const char *domain, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, domain, error);
    VrDomState state;

    if (!dom || !get_state(dom, &state, error))
        return FALSE;
    if (state == VR_DOM_RUNNING || virDomainCreate(dom->dom) == 0)
        return TRUE;
    vr_virerr_set(error, "domain '%s': cannot start", dom->name);
    return FALSE;
}

static gboolean
check_cancel(GCancellable *cancel, const char *domain, const char *what, GError **error)
{
    if (!g_cancellable_is_cancelled(cancel))
        return FALSE;
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "domain '%s': %s: cancelled", domain,
                 what);
    return TRUE;
}

/* @ret_id is -1 unless it runs. */
static gboolean
running_id(VrConn *conn, const char *domain, int *ret_id, VrDomState *ret_state, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, domain, error);

    if (!dom || !get_state(dom, ret_state, error))
        return FALSE;
    *ret_id = *ret_state == VR_DOM_RUNNING ? (int) virDomainGetID(dom->dom) : -1;
    return TRUE;
}

gboolean
vr_dom_wait_running(VrConn *conn, const char *domain, guint timeout_ms, GCancellable *cancel,
                    GError **error)
{
    gint64 until = g_get_monotonic_time() + (gint64) timeout_ms * 1000;
    int last = -1, id = -1;
    VrDomState state = VR_DOM_SHUTOFF;

    do {
        if (check_cancel(cancel, domain, "waiting until it runs", error))
            return FALSE;
        if (!running_id(conn, domain, &id, &state, error))
            return FALSE;
        if (id >= 0 && id == last)
            return TRUE;
        last = id;
        g_usleep(SETTLE_US);
    } while (g_get_monotonic_time() < until);
    vr_set_error(error, VR_ERROR_TRANSIENT, "domain-not-running",
                 "Read the domain's log under /var/log/libvirt/qemu.",
                 "domain '%s' does not run after %u s: it is %s", domain, timeout_ms / 1000,
                 vr_dom_state_name(state));
    return FALSE;
}

/* Politely through the agent when it is connected, otherwise by the power button. */
static void
ask_to_power_off(VrConn *conn, const char *domain, gboolean agent)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, domain, NULL);
    g_autofree char *xml = NULL;

    if (!dom)
        return;
    xml = agent ? take(virDomainGetXMLDesc(dom->dom, 0)) : NULL;
    if (xml && strstr(xml, AGENT_CONNECTED)) {
        int rc;

        virDomainAgentSetResponseTimeout(dom->dom, AGENT_TIMEOUT_S, 0);
        rc = virDomainShutdownFlags(dom->dom, VIR_DOMAIN_SHUTDOWN_GUEST_AGENT);
        virDomainAgentSetResponseTimeout(dom->dom, VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0);
        if (rc == 0)
            return;
    }
    virDomainShutdownFlags(dom->dom, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN);
    vr_virerr_ignore();
}

/* A transient domain that is gone is off as well. */
static gboolean
is_off(VrConn *conn, const char *domain, gboolean *ret_off, GError **error)
{
    g_autoptr(GError) local = NULL;
    VrDomState state = VR_DOM_SHUTOFF;

    if (!vr_dom_state(conn, domain, &state, &local) &&
        !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    *ret_off = state == VR_DOM_SHUTOFF;
    return TRUE;
}

static gboolean
terminate(VrConn *conn, const char *domain, gboolean *ret_off, GError **error)
{
    for (guint attempt = 0; attempt < 3; attempt++) {
        g_autoptr(VrDom) dom = vr_dom_open(conn, domain, NULL);

        /* Without GRACEFUL libvirt kills a slow QEMU, and its bitmaps are lost. */
        if (dom && virDomainDestroyFlags(dom->dom, VIR_DOMAIN_DESTROY_GRACEFUL) < 0)
            vr_virerr_ignore();
        if (!is_off(conn, domain, ret_off, error))
            return FALSE;
        if (*ret_off)
            return TRUE;
        g_usleep(POLL_US);
    }
    return TRUE;
}

gboolean
vr_dom_shutdown(VrConn *conn, const char *domain, guint timeout_ms, gboolean force,
                gboolean *ret_forced, GCancellable *cancel, GError **error)
{
    gint64 until = g_get_monotonic_time() + (gint64) timeout_ms * 1000;
    gint64 ask_again = 0;
    gboolean first = TRUE, off = FALSE;

    for (;;) {
        gint64 now = g_get_monotonic_time();

        if (!is_off(conn, domain, &off, error) ||
            (!off && check_cancel(cancel, domain, "shutdown", error)))
            return FALSE;
        if (off || now >= until)
            break;
        if (now >= ask_again) {
            ask_to_power_off(conn, domain, first);
            first = FALSE;
            ask_again = now + ACPI_EVERY_US;
        }
        g_usleep(POLL_US);
    }
    if (ret_forced)
        *ret_forced = !off && force;
    if (!off && force && !terminate(conn, domain, &off, error))
        return FALSE;
    if (!off) {
        g_autoptr(VrDom) dom = vr_dom_open(conn, domain, NULL);

        vr_set_error(error, VR_ERROR_TRANSIENT, "shutdown-timeout",
                     "Shut the guest down yourself, or use --force to power it off.",
                     "domain '%s' has not shut down within %u s", dom ? dom->name : domain,
                     timeout_ms / 1000);
    }
    return off;
}

gboolean
vr_dom_resume_io_error(VrConn *conn, const char *domain, gboolean *ret_resumed, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, domain, error);
    VrDomState state;

    if (!dom || !get_state(dom, &state, error))
        return FALSE;
    if (ret_resumed)
        *ret_resumed = state == VR_DOM_IO_ERROR;
    if (state != VR_DOM_IO_ERROR || virDomainResume(dom->dom) == 0)
        return TRUE;
    vr_virerr_set(error, "domain '%s': cannot resume", dom->name);
    return FALSE;
}

gboolean
vr_dom_network_exists(VrConn *conn, const char *network, gboolean *ret_exists, gboolean *ret_active,
                      GError **error)
{
    virConnectPtr vir = vr_conn_ref(conn, error);
    virNetworkPtr found;
    gboolean ok = TRUE;

    if (!vir)
        return FALSE;
    found = virNetworkLookupByName(vir, network);
    if (!found && virGetLastErrorCode() != VIR_ERR_NO_NETWORK) {
        vr_virerr_set(error, "network '%s'", network);
        ok = FALSE;
    } else {
        *ret_exists = found != NULL;
        if (ret_active)
            *ret_active = found && virNetworkIsActive(found) == 1;
        vr_virerr_ignore();
    }
    if (found)
        virNetworkFree(found);
    vr_conn_unref(conn, vir);
    return ok;
}

char *
vr_dom_capabilities(VrConn *conn, GError **error)
{
    virConnectPtr vir = vr_conn_ref(conn, error);
    char *xml;

    if (!vir)
        return NULL;
    xml = virConnectGetCapabilities(vir);
    if (!xml)
        vr_virerr_set(error, "cannot read this host's capabilities");
    vr_conn_unref(conn, vir);
    return take(xml);
}

char *
vr_dom_domain_capabilities(VrConn *conn, const char *emulator, const char *arch,
                           const char *machine, const char *virt_type, GError **error)
{
    virConnectPtr vir = vr_conn_ref(conn, error);
    char *xml;

    if (!vir)
        return NULL;
    xml = virConnectGetDomainCapabilities(vir, emulator, arch, machine, virt_type, 0);
    if (!xml)
        vr_virerr_set(error, "cannot read the capabilities of machine '%s'",
                      machine ? machine : "(default)");
    vr_conn_unref(conn, vir);
    return take(xml);
}

gboolean
vr_dom_host_free_memory(VrConn *conn, guint64 *ret_bytes, GError **error)
{
    virConnectPtr vir = vr_conn_ref(conn, error);
    unsigned long long bytes;

    if (!vir)
        return FALSE;
    bytes = virNodeGetFreeMemory(vir);
    if (bytes == 0)
        vr_virerr_set(error, "cannot ask this host's free memory");
    else
        *ret_bytes = bytes;
    vr_conn_unref(conn, vir);
    return bytes != 0;
}

gboolean
vr_dom_host_memory(VrConn *conn, guint64 *ret_bytes, GError **error)
{
    virConnectPtr vir = vr_conn_ref(conn, error);
    virNodeInfo info;
    gboolean ok;

    if (!vir)
        return FALSE;
    ok = virNodeGetInfo(vir, &info) == 0;
    if (!ok)
        vr_virerr_set(error, "cannot ask this host's memory");
    else
        *ret_bytes = (guint64) info.memory << 10;
    vr_conn_unref(conn, vir);
    return ok;
}
