/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/point/checkpoint.h"

#include <glib/gstdio.h>
#include <libvirt/libvirt.h>
#include <libxml/parser.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policies/error.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/point/image_bitmap.h"
#include "qmp/point/point_backup.h"
#include "qmp/point/scratch.h"
#include "qmp/virerr.h"
#include "storage/util/run_program.h"

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

/* A libvirtd that dies under a call. */
static gpointer
accept_and_close(gpointer data)
{
    int fd = accept(GPOINTER_TO_INT(data), NULL, NULL);
    char byte;

    g_assert_cmpint(recv(fd, &byte, 1, 0), ==, 1);
    close(fd);
    return NULL;
}

static void
test_cut_off(void)
{
    g_autofree char *dir = g_dir_make_tmp("vr-cut-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "s", NULL);
    g_autofree char *uri = g_strdup_printf("qemu+unix:///system?socket=%s", path);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autoptr(GError) error = NULL;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    GThread *thread;

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(bind(listener, (struct sockaddr *) &address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(listener, 1), ==, 0);
    thread = g_thread_new("server", accept_and_close, GINT_TO_POINTER(listener));
    vr_virerr_init();
    g_assert_null(virConnectOpen(uri));
    vr_virerr_set(&error, "domain 'a'");
    g_assert_error(error, VR_ERROR, VR_ERROR_TRANSIENT);
    g_assert_cmpstr(vr_error_slug(error), ==, "libvirt-unreachable");
    g_thread_join(thread);
    close(listener);
    g_remove(path);
    g_rmdir(dir);
}

static GPid
open_image(const char *image, const char *socket_path)
{
    const char *argv[] = {"qemu-nbd", "-t", "-f", "qcow2", "-k", socket_path, "--", image, NULL};
    GPid pid = 0;
    int err = -1;

    g_assert_true(vr_start_program(argv, &pid, &err, NULL));
    close(err);
    return pid;
}

/* Looking at an image takes no lock: none that a QEMU has, thus none that keeps one from starting.
 */
static void
test_image_in_use(void)
{
    g_autofree char *dir = g_dir_make_tmp("vr-image-XXXXXX", NULL);
    g_autofree char *image = g_build_filename(dir, "i.qcow2", NULL);
    g_autofree char *socket_path = g_build_filename(dir, "s", NULL);
    const char *create[] = {"qemu-img", "create", "-q", "-f", "qcow2", image, "1M", NULL};
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) names = NULL;
    GPid pid;

    g_assert_true(vr_run_program(create, NULL, NULL, NULL));
    g_assert_true(vr_image_bitmap_add(image, "b", NULL));
    g_assert_true(vr_image_bitmap_check(image, "b", NULL));
    pid = open_image(image, socket_path);
    while (vr_image_bitmap_check(image, "b", &error))
        g_assert_cmpint(waitpid(pid, NULL, WNOHANG), ==, 0);
    g_assert_cmpstr(vr_error_slug(error), ==, "image-in-use");
    g_clear_error(&error);
    names = vr_image_bitmap_list(image, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(names[0], ==, "b");
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    g_assert_true(vr_image_bitmap_remove(image, "b", NULL));
    g_remove(socket_path);
    g_remove(image);
    g_rmdir(dir);
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
    g_test_add_func("/virerr/cut-off", test_cut_off);
    g_test_add_func("/image-bitmap/in-use", test_image_in_use);
    return g_test_run();
}
