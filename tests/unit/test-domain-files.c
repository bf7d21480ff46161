/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/error.h"
#include "qmp/domain/domain_files.h"

/* The first file of that path, or with that volume. */
static const VrDomFile *
find(GPtrArray *files, const char *what)
{
    for (guint i = 0; i < files->len; i++) {
        const VrDomFile *file = files->pdata[i];

        if (g_strcmp0(file->path, what) == 0 || g_strcmp0(file->volume, what) == 0)
            return file;
    }
    g_test_message("'%s' was not found", what);
    return NULL;
}

static GPtrArray *
files_of(const char *xml)
{
    g_autoptr(GError) error = NULL;
    GPtrArray *files = vr_dom_files_from_xml(xml, &error);

    g_assert_no_error(error);
    return files;
}

static void
test_all_kinds(void)
{
    static const struct {
        const char *what, *disk, *format;
    } rows[] = {
        {"/a/top.qcow2", "vda", "qcow2"},   {"/a/middle.qcow2", "vda", "qcow2"},
        {"/a/base.raw", "vda", "raw"},      {"/a/mirror.qcow2", "vda", "qcow2"},
        {"/dev/vg/lv", "vdb", "raw"},       {"image", "vdc", "qcow2"},
        {"/a/cd.iso", "sda", NULL},         {"/a/VARS.fd", NULL, NULL},
        {"/usr/share/CODE.fd", NULL, NULL}, {"/boot/vmlinuz", NULL, NULL},
        {"/var/log/console", NULL, NULL},   {"/usr/bin/qemu", NULL, NULL},
    };
    g_autoptr(GPtrArray) files = files_of(
        "<domain><os><loader type='pflash'>/usr/share/CODE.fd</loader>"
        "<nvram> /a/VARS.fd </nvram><kernel>/boot/vmlinuz</kernel></os><devices>"
        "<emulator>/usr/bin/qemu</emulator>"
        "<disk type='file'><driver name='qemu' type='qcow2'/><source file='/a/top.qcow2'/>"
        "<backingStore type='file'><format type='qcow2'/><source file='/a/middle.qcow2'/>"
        "<backingStore type='file'><format type='raw'/><source file='/a/base.raw'/><backingStore/>"
        "</backingStore></backingStore>"
        "<mirror type='file' job='copy'><format type='qcow2'/><source file='/a/mirror.qcow2'/>"
        "</mirror><target dev='vda'/></disk>"
        "<disk type='block'><driver type='raw'/><source dev='/dev/vg/lv'/><target "
        "dev='vdb'/></disk>"
        "<disk type='volume'><driver type='qcow2'/><source pool='p' volume='image'/>"
        "<target dev='vdc'/></disk>"
        "<disk type='file' device='cdrom'><source file='/a/cd.iso'/><target dev='sda'/></disk>"
        "<disk type='network'><source protocol='nbd' name='/x'><host name='h'/></source>"
        "<target dev='vdd'/></disk>"
        "<serial type='file'><source path='/var/log/console'/></serial></devices></domain>");

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        const VrDomFile *file = find(files, rows[i].what);

        g_assert_nonnull(file);
        g_assert_cmpstr(file->disk, ==, rows[i].disk);
        g_assert_cmpstr(file->format, ==, rows[i].format);
    }
    g_assert_cmpstr(find(files, "image")->pool, ==, "p");
    g_assert_null(find(files, "/x"));
}

/* Each image is one level deeper. */
static void
test_deep(void)
{
    GString *xml = g_string_new("<domain><devices><disk type='file'><driver type='qcow2'/>"
                                "<source file='/a/0'/><target dev='vda'/>");
    g_autoptr(GPtrArray) files = NULL;

    for (guint i = 1; i <= 200; i++)
        g_string_append_printf(
            xml, "<backingStore type='file'><format type='qcow2'/><source file='/a/%u'/>", i);
    for (guint i = 1; i <= 200; i++)
        g_string_append(xml, "</backingStore>");
    g_string_append(xml, "</disk></devices></domain>");
    files = files_of(xml->str);
    g_assert_cmpstr(find(files, "/a/200")->disk, ==, "vda");
    g_string_free(xml, TRUE);
}

static void
test_garbage(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(vr_dom_files_from_xml("<domain><devices>", &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_INTERNAL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain-files/all-kinds", test_all_kinds);
    g_test_add_func("/domain-files/deep", test_deep);
    g_test_add_func("/domain-files/garbage", test_garbage);
    return g_test_run();
}
