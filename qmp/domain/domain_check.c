/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_check.h"

/* First QEMU that survives a client leaving the NBD export of a disk with an I/O thread. */
#define QEMU_IOTHREAD_SAFE 9000000

#define EXCLUDE_ACTION "Leave the disk out with --exclude-disk, or change it as the domain allows."

static gboolean
is_excluded(const char *const *exclude, const char *target)
{
    return exclude && g_strv_contains(exclude, target);
}

GPtrArray *
vr_domain_replicated_disks(const VrDomainModel *model, const char *const *exclude)
{
    GPtrArray *list = g_ptr_array_new();

    for (guint i = 0; i < model->disks->len; i++) {
        VrDomainDisk *disk = g_ptr_array_index(model->disks, i);

        if (!g_str_equal(disk->device, "cdrom") && !g_str_equal(disk->device, "floppy") &&
            !is_excluded(exclude, disk->target))
            g_ptr_array_add(list, disk);
    }
    return list;
}

/* TRUE if its kind can be replicated at all. */
static gboolean
check_disk_kind(const VrDomainDisk *disk, VrFindings *findings)
{
    gboolean local =
        g_strcmp0(disk->source_type, "file") == 0 || g_strcmp0(disk->source_type, "block") == 0;

    if (!vr_domain_disk_is_data(disk)) {
        vr_findings_add(findings, VR_FINDING_ERROR, "disk-lun", EXCLUDE_ACTION,
                        "disk '%s' is a SCSI device passed through", disk->target);
        return FALSE;
    }
    if (!local) {
        vr_findings_add(findings, VR_FINDING_ERROR, "disk-network", EXCLUDE_ACTION,
                        "disk '%s' is of type '%s'; only files and block devices can be replicated",
                        disk->target, disk->source_type ? disk->source_type : "unknown");
        return FALSE;
    }
    if (!disk->source_path) {
        vr_findings_add(findings, VR_FINDING_ERROR, "disk-empty", "Remove the disk.",
                        "disk '%s' has no file or device", disk->target);
        return FALSE;
    }
    return TRUE;
}

static void
check_disk(const VrDomainModel *model, const VrDomainDisk *disk, gulong qemu_version,
           VrFindings *findings)
{
    if (!check_disk_kind(disk, findings))
        return;
    if (g_strcmp0(disk->source_format, "qcow2") != 0)
        vr_findings_add(findings, VR_FINDING_ERROR, "disk-not-qcow2",
                        "Convert the disk to qcow2, or leave it out with --exclude-disk.",
                        "disk '%s' is %s and cannot hold a dirty bitmap; the snapshot engine that "
                        "does without one is not there yet",
                        disk->target, disk->source_format ? disk->source_format : "raw");
    if (qemu_version < QEMU_IOTHREAD_SAFE && vr_domain_model_disk_uses_iothread(model, disk))
        vr_findings_add(findings, VR_FINDING_ERROR, "disk-iothread",
                        "Update QEMU to 9.0 or newer, or remove the disk's I/O thread.",
                        "disk '%s' uses an I/O thread; reading its backup would crash this QEMU "
                        "(%lu.%lu.%lu)",
                        disk->target, qemu_version / 1000000, qemu_version / 1000 % 1000,
                        qemu_version % 1000);
    if (disk->read_only)
        vr_findings_add(findings, VR_FINDING_ERROR, "disk-read-only", EXCLUDE_ACTION,
                        "disk '%s' is read-only and cannot hold a dirty bitmap", disk->target);
    if (disk->shareable)
        vr_findings_add(findings, VR_FINDING_ERROR, "disk-shareable", EXCLUDE_ACTION,
                        "disk '%s' can be written by other domains, unseen by this one's bitmap",
                        disk->target);
    if (disk->transient)
        vr_findings_add(findings, VR_FINDING_ERROR, "disk-transient", EXCLUDE_ACTION,
                        "disk '%s' is transient: what the guest writes is thrown away",
                        disk->target);
    if (disk->encrypted)
        vr_findings_add(findings, VR_FINDING_ERROR, "disk-encrypted", EXCLUDE_ACTION,
                        "disk '%s' is encrypted by QEMU; its replica would be in plain text",
                        disk->target);
}

static void
check_exclude(const VrDomainModel *model, const char *const *exclude, VrFindings *findings)
{
    for (gsize i = 0; exclude && exclude[i]; i++) {
        if (!vr_domain_model_disk(model, exclude[i]))
            vr_findings_add(findings, VR_FINDING_ERROR, "exclude-unknown",
                            "Name disks by their targets as virsh domblklist shows them.",
                            "domain '%s' has no disk '%s' to leave out", model->name, exclude[i]);
        else
            vr_findings_add(findings, VR_FINDING_WARNING, "disk-excluded",
                            "Check that the guest boots without it.",
                            "disk '%s' is left out; the replica will not have it", exclude[i]);
    }
}

static void
check_media(const VrDomainModel *model, VrFindings *findings)
{
    for (guint i = 0; i < model->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(model->disks, i);

        if (disk->source_path && !vr_domain_disk_is_data(disk) && !g_str_equal(disk->device, "lun"))
            vr_findings_add(findings, VR_FINDING_WARNING, "media-ejected",
                            "Check that the guest runs without the medium.",
                            "the medium in %s '%s' is not replicated; the drive will be empty",
                            disk->device, disk->target);
    }
}

void
vr_domain_check_protectable(const VrDomainModel *model, const char *const *exclude,
                            gulong qemu_version, VrFindings *findings)
{
    g_autoptr(GPtrArray) disks = vr_domain_replicated_disks(model, exclude);

    check_exclude(model, exclude, findings);
    if (disks->len == 0)
        vr_findings_add(findings, VR_FINDING_ERROR, "no-disks",
                        "Protect a domain that has a hard disk.",
                        "domain '%s' has no disk to replicate", model->name);
    for (guint i = 0; i < disks->len; i++)
        check_disk(model, g_ptr_array_index(disks, i), qemu_version, findings);
    check_media(model, findings);
    if (model->nvram && !model->nvram_raw)
        vr_findings_add(findings, VR_FINDING_ERROR, "nvram-format",
                        "Convert the firmware's variables to raw.",
                        "the file of the firmware's variables is an image with a header; only a "
                        "raw one is safe to carry to another host");
    if (model->tpm_model)
        vr_findings_add(findings, VR_FINDING_WARNING, "tpm-state-not-replicated",
                        "Keep the recovery keys of disks that are sealed to the TPM.",
                        "the state of the domain's TPM is not replicated; the replica's TPM will "
                        "be new");
}
