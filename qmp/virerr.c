/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/virerr.h"

#include <libvirt/virterror.h>
#include <string.h>

#include "policies/error.h"

typedef struct {
    VrError code;
    const char *slug;
    const char *action;
} Meaning;

static const struct {
    int vir_code;
    Meaning meaning;
} by_code[] = {
    {VIR_ERR_NO_DOMAIN,
     {VR_ERROR_NOT_FOUND, "no-such-domain", "List domains with 'virsh list --all'."}},
    {VIR_ERR_NO_NETWORK,
     {VR_ERROR_NOT_FOUND, "no-such-network", "List networks with 'virsh net-list --all'."}},
    {VIR_ERR_NO_DOMAIN_CHECKPOINT, {VR_ERROR_NOT_FOUND, "no-such-checkpoint", NULL}},
    {VIR_ERR_CHECKPOINT_INCONSISTENT,
     {VR_ERROR_RESYNC_NEEDED, "tracking-lost", "Nothing to do: a resync runs by itself."}},
    {VIR_ERR_HOOK_SCRIPT_FAILED,
     {VR_ERROR_REFUSED, "hook-refused", "Read what the hook says and act on that."}},
    {VIR_ERR_BLOCK_COPY_ACTIVE,
     {VR_ERROR_CONFLICT, "domain-busy", "Wait for the other job to end."}},
    {VIR_ERR_OPERATION_TIMEOUT,
     {VR_ERROR_CONFLICT, "domain-busy", "Wait for the other job to end."}},
    {VIR_ERR_RESOURCE_BUSY, {VR_ERROR_CONFLICT, "domain-busy", "Wait for the other job to end."}},
    {VIR_ERR_NO_CONNECT,
     {VR_ERROR_TRANSIENT, "libvirt-unreachable", "Check that libvirtd or virtqemud runs."}},
    {VIR_ERR_RPC,
     {VR_ERROR_TRANSIENT, "libvirt-unreachable", "Check that libvirtd or virtqemud runs."}},
    {VIR_ERR_INVALID_CONN,
     {VR_ERROR_TRANSIENT, "libvirt-unreachable", "Check that libvirtd or virtqemud runs."}},
    {VIR_ERR_AGENT_UNRESPONSIVE,
     {VR_ERROR_TRANSIENT, "agent-unresponsive", "Check the guest agent inside the guest."}},
    {VIR_ERR_AGENT_UNSYNCED,
     {VR_ERROR_TRANSIENT, "agent-unresponsive", "Check the guest agent inside the guest."}},
    {VIR_ERR_AUTH_FAILED, {VR_ERROR_AUTH, "libvirt-denied", "Give the daemon access to libvirt."}},
    {VIR_ERR_AUTH_CANCELLED,
     {VR_ERROR_AUTH, "libvirt-denied", "Give the daemon access to libvirt."}},
    {VIR_ERR_AUTH_UNAVAILABLE,
     {VR_ERROR_AUTH, "libvirt-denied", "Give the daemon access to libvirt."}},
    {VIR_ERR_ACCESS_DENIED,
     {VR_ERROR_AUTH, "libvirt-denied", "Give the daemon access to libvirt."}},
    {VIR_ERR_OPERATION_DENIED,
     {VR_ERROR_AUTH, "libvirt-denied", "Give the daemon access to libvirt."}},
    {VIR_ERR_OPERATION_INVALID,
     {VR_ERROR_REFUSED, "domain-state", "Bring the domain into the state needed."}},
    {VIR_ERR_CONFIG_UNSUPPORTED,
     {VR_ERROR_REFUSED, "libvirt-refused", "Change the definition as the message says."}},
    {VIR_ERR_OPERATION_UNSUPPORTED,
     {VR_ERROR_REFUSED, "libvirt-refused", "Change the definition as the message says."}},
    {VIR_ERR_ARGUMENT_UNSUPPORTED,
     {VR_ERROR_REFUSED, "libvirt-refused", "Change the definition as the message says."}},
    {VIR_ERR_XML_ERROR,
     {VR_ERROR_REFUSED, "libvirt-refused", "Change the definition as the message says."}},
    {VIR_ERR_XML_INVALID_SCHEMA,
     {VR_ERROR_REFUSED, "libvirt-refused", "Change the definition as the message says."}},
};

/* libvirt gives these the codes of quite different things, so the words decide; asked first. */
static const struct {
    const char *words;
    Meaning meaning;
} by_words[] = {
    {"missing or broken bitmap",
     {VR_ERROR_RESYNC_NEEDED, "tracking-lost", "Nothing to do: a resync runs by itself."}},
    {"not found in backing chain of",
     {VR_ERROR_RESYNC_NEEDED, "tracking-lost", "Nothing to do: a resync runs by itself."}},
    {"for incremental backup of disk",
     {VR_ERROR_RESYNC_NEEDED, "tracking-lost", "Nothing to do: a resync runs by itself."}},
    {"Bitmaps are of different sizes",
     {VR_ERROR_RESYNC_NEEDED, "tracking-lost", "Nothing to do: a resync runs by itself."}},
    {"is inconsistent and cannot be used",
     {VR_ERROR_RESYNC_NEEDED, "tracking-lost", "Nothing to do: a resync runs by itself."}},
    {"already in active block job",
     {VR_ERROR_CONFLICT, "domain-busy", "Wait for the other job to end."}},
    {"another job", {VR_ERROR_CONFLICT, "domain-busy", "Wait for the other job to end."}},
    {"state change lock", {VR_ERROR_CONFLICT, "domain-busy", "Wait for the other job to end."}},
    {"No space left on device", {VR_ERROR_NO_SPACE, "host-no-space", "Free space on this host."}},
    {"client socket is closed",
     {VR_ERROR_TRANSIENT, "libvirt-unreachable", "Check that libvirtd or virtqemud runs."}},
    {"keepalive timeout",
     {VR_ERROR_TRANSIENT, "libvirt-unreachable", "Check that libvirtd or virtqemud runs."}},
    {"guest agent is not",
     {VR_ERROR_TRANSIENT, "agent-unresponsive", "Check the guest agent inside the guest."}},
    {"Failed to connect socket",
     {VR_ERROR_TRANSIENT, "libvirt-unreachable", "Check that libvirtd or virtqemud runs."}},
};

static const Meaning cut_off = {VR_ERROR_TRANSIENT, "libvirt-unreachable",
                                "Check that libvirtd or virtqemud runs."};
static const Meaning other = {VR_ERROR_INTERNAL, "libvirt-error",
                              "Read libvirt's log on this host."};

/* libvirtd died in the middle of the call: the system's word for it comes from the socket. */
static const Meaning *
meaning_of(int vir_code, int vir_domain, const char *message)
{
    if (vir_domain == VIR_FROM_RPC && vir_code == VIR_ERR_SYSTEM_ERROR)
        return &cut_off;
    for (gsize i = 0; i < G_N_ELEMENTS(by_words); i++) {
        if (strstr(message, by_words[i].words))
            return &by_words[i].meaning;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(by_code); i++) {
        if (by_code[i].vir_code == vir_code)
            return &by_code[i].meaning;
    }
    return &other;
}

void
vr_virerr_set(GError **error, const char *format, ...)
{
    const virError *vir = virGetLastError();
    const char *message = vir && vir->message ? vir->message : "no message from libvirt";
    const Meaning *meaning = meaning_of(vir ? vir->code : VIR_ERR_INTERNAL_ERROR,
                                        vir ? vir->domain : VIR_FROM_NONE, message);
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    vr_set_error(error, meaning->code, meaning->slug, meaning->action, "%s: %s", what, message);
    virResetLastError();
}

void
vr_virerr_ignore(void)
{
    virResetLastError();
}

static void
say_nothing(void *user_data G_GNUC_UNUSED, virErrorPtr error G_GNUC_UNUSED)
{
}

void
vr_virerr_init(void)
{
    virSetErrorFunc(NULL, say_nothing);
}
