/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/domain/domain_model.h"
#include "qmp/domain/host_caps.h"

G_BEGIN_DECLS

/** SECTION: new libvirt XML from a model and this host's facts. */

/* What this host adds. Everything is borrowed for the call; every path is absolute and ours. */
typedef struct {
    const VrHostCaps *caps;
    GHashTable *disk_paths; /* target ("vda") -> path of a qcow2 image; a disk that is not in it is
                             * left out */
    GHashTable *networks; /* VrDomainInterface.network -> this host's libvirt network; NULL: none */
    const char *nvram_path, *kernel_path, *initrd_path, *dtb_path; /* copies of the attachments */
    const char *console_log_dir; /* as "/var/log/libvirt/qemu"; NULL: consoles are not logged */
    gulong libvirt_version;      /* virConnectGetLibVersion() */

    const char *role;       /* token, for our <metadata>: "replica", "test" */
    const char *generation; /* token, the same */

    const char *name;  /* NULL: the model's */
    const char *uuid;  /* canonical; NULL: the model's */
    const char *genid; /* canonical: replaces the model's if that has one; NULL: the model's */
    gboolean new_macs; /* derived from @uuid and the old ones: the same again for the same @uuid */
} VrDomainTarget;

/**
 * vr_domain_xml_for_target:
 * @findings: (nullable): gets what differs from the source, also if the call fails
 *
 * Drives for removable media are empty. No path of the model is in the result; the texts that only
 * people and the guest read (title, description, kernel command line) are.
 *
 * Warnings: "network-not-mapped" (the interface is left out), "disk-not-replicated", "lun-dropped",
 * "firmware-chosen-here", "nvram-new", "graphics-replaced", "video-replaced".
 *
 * Errors: REFUSED "machine-type-missing", "arch-missing" (also as findings), "no-disks",
 * "attachment-missing"; INVALID "target-invalid": a name, path or token in @target is no such.
 *
 * Returns: (transfer full): XML for virDomainDefineXML()
 */
char *vr_domain_xml_for_target(const VrDomainModel *model, const VrDomainTarget *target,
                               VrFindings *findings, GError **error);

/** Where the output of the @i-th <serial> or <console> (@element) goes if the source's went to a
 *  file: "DIR/UUID-serial0.log"; NULL without a console_log_dir. (transfer full) */
char *vr_domain_xml_console_log(const VrDomainModel *model, const VrDomainTarget *target,
                                const char *element, guint i);

G_END_DECLS
