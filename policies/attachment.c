/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/attachment.h"

static const char *const names[VR_ATTACHMENT_LAST] = {
    [VR_ATTACHMENT_KERNEL] = "kernel",
    [VR_ATTACHMENT_INITRD] = "initrd",
    [VR_ATTACHMENT_DTB] = "dtb",
    [VR_ATTACHMENT_NVRAM] = "nvram",
};

const char *
vr_attachment_kind_name(VrAttachmentKind kind)
{
    g_return_val_if_fail(kind < VR_ATTACHMENT_LAST, "?");
    return names[kind];
}

gboolean
vr_attachment_name_known(const char *name)
{
    for (guint i = 0; i < VR_ATTACHMENT_LAST; i++) {
        if (g_strcmp0(names[i], name) == 0)
            return TRUE;
    }
    return FALSE;
}
