/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/checkpoint.h"

#include <libxml/parser.h>
#include <string.h>

#include "policies/error.h"
#include "qmp/domain_ops.h"
#include "qmp/point_backup.h"
#include "qmp/scratch.h"

#define UUID "1fca9135-0000-4000-8000-000000000001"

static void
test_names(void)
{
    g_autofree char *first = vr_checkpoint_new_name(UUID);
    g_autofree char *second = vr_checkpoint_new_name(UUID);

    g_assert_true(g_str_has_prefix(first, "virt-replica.1fca9135."));
    g_assert_cmpstr(first, !=, second);
    g_assert_true(vr_checkpoint_is_ours(first, UUID));
    g_assert_false(vr_checkpoint_is_ours(first, "2fca9135-0000-4000-8000-000000000001"));
}

static void
test_foreign_names(void)
{
    static const char *const foreign[] = {
        "",
        "virt-replica",
        "virt-replica.1fca9135",
        "virt-replica.1fca9135.",
        "virt-replica.1fca9135.1234567",
        "virt-replica.1fca9135.123456789",
        "virt-replica.1fca9135.1234567g",
        "virt-replica.1fca9135.1234567A",
        "xvirt-replica.1fca9135.12345678",
        "virtnbdbackup.0",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(foreign); i++)
        g_assert_false(vr_checkpoint_is_ours(foreign[i], UUID));
}

static void
test_xml(void)
{
    const char *tracked[] = {"vda", "v'<&db", NULL};
    const char *others[] = {"sda", NULL};
    g_autofree char *fresh = vr_checkpoint_xml("n1", tracked, others, 0);
    g_autofree char *again = vr_checkpoint_xml("n1", tracked, NULL, 1700000000);
    xmlDoc *doc = xmlReadMemory(fresh, (int) strlen(fresh), "x", NULL, XML_PARSE_NONET);

    g_assert_nonnull(doc);
    xmlFreeDoc(doc);
    g_assert_nonnull(strstr(fresh, "<disk name='vda' checkpoint='bitmap' bitmap='n1'/>"));
    g_assert_nonnull(strstr(fresh, "<disk name='sda' checkpoint='no'/>"));
    g_assert_null(strstr(fresh, "v'<"));
    g_assert_null(strstr(fresh, "creationTime"));
    g_assert_nonnull(strstr(again, "<creationTime>1700000000</creationTime>"));
}

static void
test_sockets(void)
{
    g_assert_true(vr_point_backup_socket_is_ours(
        "/var/lib/libvirt/qemu/domain-3-x/virt-replica-0123abcd.sock"));
    g_assert_false(
        vr_point_backup_socket_is_ours("/var/lib/libvirt/qemu/domain-3-x/other-0123abcd.sock"));
    g_assert_false(vr_point_backup_socket_is_ours("/tmp/virt-replica-0123abcd.sock"));
    g_assert_false(
        vr_point_backup_socket_is_ours("/var/lib/libvirt/qemu/domain-3-x/virt-replica-.sock"));
    g_assert_false(vr_point_backup_socket_is_ours(""));
}

static void
test_scratch_names(void)
{
    g_autofree char *beside = vr_scratch_path(NULL, "/images/a/vda.qcow2", UUID, "vda");
    g_autofree char *elsewhere = vr_scratch_path("/scratch", "/images/a/vda.qcow2", UUID, "vda");

    g_assert_true(g_str_has_prefix(beside, "/images/a/.virt-replica-1fca9135-vda-"));
    g_assert_true(g_str_has_prefix(elsewhere, "/scratch/.virt-replica-"));
    g_assert_true(g_str_has_suffix(beside, ".scratch.qcow2"));
    g_assert_true(vr_scratch_is_ours(beside, UUID));
    g_assert_false(vr_scratch_is_ours(beside, "2fca9135-0000-4000-8000-000000000001"));
    g_assert_false(vr_scratch_is_ours("/images/a/vda.qcow2", UUID));
    g_assert_false(vr_scratch_is_ours(".virt-replica-1fca9135-vda-00000000.scratch.qcow2", UUID));
}

static const char domain_xml[] =
    "<domain><name>x</name><devices>"
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2' iothread='1'/>"
    "<source file='/i/a.qcow2'/><target dev='vda' bus='virtio'/></disk>"
    "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/x'/>"
    "<target dev='vdb' bus='virtio'/><shareable/></disk>"
    "<disk type='file'><driver name='qemu' type='qcow2'/><source file='/i/c.qcow2'/>"
    "<target dev='sda' bus='scsi'/><address type='drive' controller='1'/><transient/></disk>"
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/i/d.qcow2'/>"
    "<target dev='sdb' bus='scsi'/><address type='drive' controller='0'/></disk>"
    "<disk type='file' device='cdrom'><target dev='hda' bus='ide'/><readonly/></disk>"
    "<controller type='scsi' index='0'/>"
    "<controller type='scsi' index='1'><driver iothread='2'/></controller>"
    "</devices></domain>";

static void
test_disks(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) disks = vr_dom_disks_from_xml(domain_xml, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(disks->len, ==, 5);
    g_assert_true(vr_dom_disk_find(disks, "vda")->iothread);
    g_assert_cmpstr(vr_dom_disk_find(disks, "vda")->path, ==, "/i/a.qcow2");
    g_assert_cmpstr(vr_dom_disk_find(disks, "vdb")->path, ==, "/dev/x");
    g_assert_true(vr_dom_disk_find(disks, "vdb")->shareable);
    g_assert_cmpstr(vr_dom_disk_find(disks, "vdb")->format, ==, "raw");
    g_assert_true(vr_dom_disk_find(disks, "sda")->iothread);
    g_assert_true(vr_dom_disk_find(disks, "sda")->transient);
    g_assert_cmpstr(vr_dom_disk_find(disks, "sda")->device, ==, "disk");
    g_assert_false(vr_dom_disk_find(disks, "sdb")->iothread);
    g_assert_null(vr_dom_disk_find(disks, "hda")->path);
    g_assert_true(vr_dom_disk_find(disks, "hda")->readonly);
    g_assert_null(vr_dom_disk_find(disks, "vdz"));
    g_assert_null(vr_dom_disks_from_xml("<nothing", &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_INTERNAL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/checkpoint/names", test_names);
    g_test_add_func("/checkpoint/foreign-names", test_foreign_names);
    g_test_add_func("/checkpoint/xml", test_xml);
    g_test_add_func("/point/sockets", test_sockets);
    g_test_add_func("/point/scratch-names", test_scratch_names);
    g_test_add_func("/domain/disks", test_disks);
    return g_test_run();
}
