/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/fence.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "plugin/hook/hook_rule.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "storage/file_util.h"

struct _VrFence {
    char *dir;
    gint active; /* atomic */
};

VrFence *
vr_fence_new(const char *state_dir)
{
    VrFence *self = g_new0(VrFence, 1);

    self->dir = g_build_filename(state_dir, "fence", NULL);
    return self;
}

void
vr_fence_free(VrFence *self)
{
    if (self == NULL)
        return;
    g_free(self->dir);
    g_free(self);
}

static char *
path_of(VrFence *self, const char *uuid)
{
    g_return_val_if_fail(vr_uuid_valid(uuid), NULL);
    return g_build_filename(self->dir, uuid, NULL);
}

gboolean
vr_fence_put(VrFence *self, const char *uuid, VrFenceRecordState state, const char *peer,
             const char *generation, GError **error)
{
    g_autofree char *path = path_of(self, uuid);
    VrFenceRecord record = {
        .state = state,
        .peer = (char *) peer,
        .since_us = g_get_real_time(),
        .generation = (char *) generation,
    };
    g_autofree char *text = vr_fence_record_to_text(&record);

    return vr_make_dir(self->dir, 0700, error) &&
           vr_write_file_atomic(path, text, strlen(text), 0600, error);
}

gboolean
vr_fence_remove(VrFence *self, const char *uuid, GError **error)
{
    g_autofree char *path = path_of(self, uuid);

    if (unlink(path) == 0)
        return vr_fsync_dir(self->dir, error);
    if (errno == ENOENT)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot remove the fence file %s", path);
    return FALSE;
}

/* Small enough that a hook that is not called costs next to nothing: it is destroyed at once. */
static const char canary_xml[] = "<domain type='%s'><name>" VR_HOOK_CANARY_NAME
                                 "</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>"
                                 "<os><type>hvm</type></os></domain>";

static void
start_canary(virConnectPtr vir)
{
    static const char *const types[] = {"kvm", "qemu"};

    for (guint i = 0; i < G_N_ELEMENTS(types); i++) {
        g_autofree char *xml = g_strdup_printf(canary_xml, types[i]);
        virDomainPtr dom =
            virDomainCreateXML(vir, xml, VIR_DOMAIN_START_PAUSED | VIR_DOMAIN_START_AUTODESTROY);

        if (dom != NULL) {
            (void) virDomainDestroy(dom);
            virDomainFree(dom);
            return;
        }
        if (virGetLastErrorCode() == VIR_ERR_HOOK_SCRIPT_FAILED)
            return;
    }
}

gboolean
vr_fence_prove(VrFence *self, VrConn *conn, GError **error)
{
    g_autofree char *nonce = vr_random_id();
    g_autofree char *request = g_build_filename(self->dir, VR_HOOK_CANARY_REQUEST, NULL);
    g_autofree char *answer = g_build_filename(self->dir, VR_HOOK_CANARY_ANSWER, NULL);
    g_autofree char *got = NULL;
    virConnectPtr vir;
    gsize len;

    if (!vr_make_dir(self->dir, 0700, error) ||
        !vr_write_file_atomic(request, nonce, strlen(nonce), 0600, error))
        return FALSE;
    vir = vr_conn_ref(conn, error);
    if (vir == NULL)
        return FALSE;
    start_canary(vir);
    vr_conn_unref(conn, vir);
    got = vr_read_file(answer, 4096, &len, NULL);
    g_atomic_int_set(&self->active, g_strcmp0(got, nonce) == 0);
    (void) unlink(request);
    (void) unlink(answer);
    return TRUE;
}

gboolean
vr_fence_active(VrFence *self)
{
    return g_atomic_int_get(&self->active) != 0;
}
