/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: the files besides the disks that belong to a recovery point. */

typedef enum {
    VR_ATTACHMENT_KERNEL,
    VR_ATTACHMENT_INITRD,
    VR_ATTACHMENT_DTB,
    VR_ATTACHMENT_NVRAM,
    VR_ATTACHMENT_LAST
} VrAttachmentKind;

/** "kernel", "initrd", "dtb", "nvram"; static. On the wire, and the file's name beside the domain's
 * XML of a recovery point. */
const char *vr_attachment_kind_name(VrAttachmentKind kind);
/** Whether it is one of these names. @name: (nullable). */
gboolean vr_attachment_name_known(const char *name);

G_END_DECLS
