/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain-fixture.h"

#include "policies/error.h"
#include "qmp/domain/domain_check.h"

static void
test_debian(void)
{
    g_autoptr(VrDomainModel) model = parse_data("debian-q35-uefi.xml");
    const VrDomainDisk *disk = vr_domain_model_disk(model, "vdb");
    const VrDomainInterface *interface = g_ptr_array_index(model->interfaces, 1);
    g_autoptr(GArray) attachments = vr_domain_model_attachments(model);
    const VrDomainAttachment *nvram = &g_array_index(attachments, VrDomainAttachment, 0);

    g_assert_cmpstr(model->name, ==, "web1");
    g_assert_cmpuint(model->memory, ==, 2ULL << 30);
    g_assert_cmpuint(model->vcpus, ==, 4);
    g_assert_cmpuint(model->current_vcpus, ==, 2);
    g_assert_cmpint(model->firmware, ==, VR_DOMAIN_FIRMWARE_EFI);
    g_assert_true(model->loader_secure && model->nvram && model->nvram_raw);
    g_assert_cmpstr(model->cpu.mode, ==, "host-passthrough");
    g_assert_cmpint(model->cpu.cores, ==, 4);
    g_assert_cmpuint(model->disks->len, ==, 3);
    g_assert_cmpstr(disk->cache, ==, "none");
    g_assert_cmpstr(disk->source_path, ==, "/srv/vm/web1-data.qcow2");
    g_assert_cmpint(disk->address.kind, ==, VR_DOMAIN_ADDRESS_PCI);
    g_assert_cmpint(disk->address.part[1], ==, 6);
    g_assert_cmpstr(interface->network, ==, "bridge:br0");
    g_assert_cmpuint(attachments->len, ==, 1);
    g_assert_cmpint(nvram->kind, ==, VR_ATTACHMENT_NVRAM);
    g_assert_cmpstr(nvram->source_path, ==, "/var/lib/libvirt/qemu/nvram/web1_VARS.fd");
    assert_finding(model->findings, "redirdev-dropped", VR_FINDING_WARNING);
    assert_finding(model->findings, "backing-store-dropped", VR_FINDING_WARNING);
    assert_finding(model->findings, "metadata-dropped", VR_FINDING_WARNING);
    g_assert_cmpuint(vr_findings_count(model->findings), ==, 3);
}

static void
test_windows(void)
{
    g_autoptr(VrDomainModel) model = parse_data("windows-pc-ide.xml");
    const char *const codes[] = {"hostdev-dropped", "host-tuning-dropped",
                                 "graphics-password-dropped"};

    g_assert_cmpstr(model->name, ==, "old win");
    g_assert_cmpstr(model->description, ==, "Accounting & payroll; ask \"Eva\" <first>");
    g_assert_cmpstr(model->timezone, ==, "Europe/Berlin");
    g_assert_cmpstr(model->boot[1], ==, "hd");
    g_assert_null(model->boot[2]);
    g_assert_cmpuint(model->features->len, ==, 11);
    g_assert_true(vr_domain_model_disk_uses_iothread(model, vr_domain_model_disk(model, "sda")));
    g_assert_false(vr_domain_model_disk_uses_iothread(model, vr_domain_model_disk(model, "hda")));
    for (gsize i = 0; i < G_N_ELEMENTS(codes); i++)
        assert_finding(model->findings, codes[i], VR_FINDING_WARNING);
    g_assert_cmpuint(vr_findings_errors(model->findings), ==, 0);
}

static void
test_lab(void)
{
    g_autoptr(VrDomainModel) model = parse_data("lab-guest.xml");
    g_autoptr(GArray) attachments = vr_domain_model_attachments(model);
    const VrDomainCharDevice *serial = g_ptr_array_index(model->serials, 0);

    g_assert_cmpuint(attachments->len, ==, 2);
    g_assert_cmpstr(g_array_index(attachments, VrDomainAttachment, 1).source_path, ==,
                    "/srv/lab/initrd");
    g_assert_cmpstr(model->cmdline, ==, "console=ttyS0 vr.rate=20 root=/dev/vda");
    g_assert_true(serial->logged);
    assert_finding(model->findings, "console-redirected", VR_FINDING_WARNING);
    g_assert_cmpstr(vr_attachment_kind_name(VR_ATTACHMENT_INITRD), ==, "initrd");
}

static void
test_default_nvram(void)
{
    g_autoptr(VrDomainModel) model = parse_data("fedora-q35-efi-auto.xml");

    g_assert_true(model->nvram_path_assumed);
    g_assert_cmpstr(model->source_nvram, ==, "/var/lib/libvirt/qemu/nvram/fedora1_VARS.fd");
    g_assert_cmpstr(model->secure_boot, ==, "yes");
    g_assert_cmpstr(model->enrolled_keys, ==, "yes");
}

static void
assert_refused(const char *xml, gsize len, const char *slug)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrDomainModel) model = vr_domain_model_parse(xml, len, &error);

    g_assert_null(model);
    g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    g_assert_cmpstr(vr_error_slug(error), ==, slug);
    g_assert_nonnull(vr_error_action(error));
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
    g_assert_null(strchr(error->message, '\n'));
}

static void
test_names(void)
{
    static const char *const bad[] = {"",    " ",    ".",      "..",    "a/b",      "../dump",
                                      "-rf", "a\nb", "a&#9;b", "a\x7f", "a\u202eb", "/etc/passwd"};
    static const char *const good[] = {"a",         "old win", "w\xc3\xa4lder",
                                       "$(reboot)", "a..b",    "%s%n"};
    g_autofree char *longest = g_strnfill(VR_DOMAIN_NAME_MAX, 'n');
    g_autofree char *too_long = g_strnfill(VR_DOMAIN_NAME_MAX + 1, 'n');
    g_autofree char *xml = small_domain("", "", "");

    for (gsize i = 0; i <= G_N_ELEMENTS(bad); i++) {
        g_autoptr(GString) text = g_string_new(xml);
        g_autofree char *name =
            g_strdup_printf("<name>%s</name>", i < G_N_ELEMENTS(bad) ? bad[i] : too_long);

        g_string_replace(text, "<name>small</name>", name, 1);
        assert_refused(text->str, text->len, "domain-name-invalid");
    }
    for (gsize i = 0; i <= G_N_ELEMENTS(good); i++) {
        g_autoptr(GString) text = g_string_new(xml);
        const char *wanted = i < G_N_ELEMENTS(good) ? good[i] : longest;
        g_autofree char *name = g_strdup_printf("<name>%s</name>", wanted);
        g_autoptr(VrDomainModel) model = NULL;

        g_string_replace(text, "<name>small</name>", name, 1);
        model = parse_text(text->str);
        g_assert_cmpstr(model->name, ==, wanted);
    }
}

/* One part of a good domain replaced by a bad one. */
static void
test_bad_values(void)
{
    static const struct {
        const char *from, *to, *slug;
    } rows[] = {
        {"6a3f0d5e-8f5b-4f0e-9c55-3b1e6d0c9a09", "../../x", "domain-uuid-invalid"},
        {"6a3f0d5e-8f5b-4f0e-9c55-3b1e6d0c9a09", "6a3f0d5e8f5b4f0e9c553b1e6d0c9a09",
         "domain-uuid-invalid"},
        {"<memory unit='MiB'>64</memory>", "", "domain-value-invalid"},
        {"<memory unit='MiB'>64", "<memory unit='MiB'>-1", "domain-value-invalid"},
        {"<memory unit='MiB'>64", "<memory unit='TiB'>99999999999999", "domain-value-invalid"},
        {"<vcpu>1</vcpu>", "<vcpu>0</vcpu>", "domain-value-invalid"},
        {"<vcpu>1</vcpu>", "<vcpu>1000000</vcpu>", "domain-value-invalid"},
        {"type='qemu'", "type='xen'", "domain-xml-unsupported"},
        {"hvm", "exe", "domain-xml-unsupported"},
        {"pc-q35-7.2", "q35,dumpdtb=/tmp/x", "domain-value-invalid"},
        {"x86_64", "../x86_64", "domain-value-invalid"},
        {"dev='vda'", "dev='../vda'", "disk-target-invalid"},
        {"dev='vda'", "dev=''", "disk-target-invalid"},
        {"dev='vda'", "dev='vdabcd'", "disk-target-invalid"},
        {"bus='virtio'", "bus='xen'", "domain-value-invalid"},
        {"device='disk'", "device='tape'", "domain-value-invalid"},
        {"hvm</type>", "hvm</type><kernel>relative</kernel>", "domain-value-invalid"},
        {"hvm</type>", "hvm</type><cmdline>a&#10;b</cmdline>", "domain-value-invalid"},
        {"<domain", "<!DOCTYPE domain><domain", "domain-xml-doctype"},
        {"<domain", "<?xml version='1.0'?><!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain",
         "domain-xml-doctype"},
        {"small", "&xxe;", "domain-xml-syntax"},
        {"</domain>", "", "domain-xml-syntax"},
        {"</domain>", "</domain><domain/>", "domain-xml-syntax"},
        {"<domain type", "<domain xmlns='http://x/' type", "domain-xml-unsupported"},
        {"<vcpu>", "<vcpu x='1' x='2'>", "domain-xml-syntax"},
        {"small", "a\xff", "domain-xml-syntax"},
    };
    g_autofree char *xml = small_domain("", "", "");

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GString) text = g_string_new(xml);

        g_test_message("row %zu: %s", i, rows[i].slug);
        g_assert_cmpuint(g_string_replace(text, rows[i].from, rows[i].to, 1), ==, 1);
        assert_refused(text->str, text->len, rows[i].slug);
    }
}

static void
test_limits(void)
{
    g_autoptr(GString) deep = g_string_new(NULL);
    g_autoptr(GString) disks = g_string_new(NULL);
    g_autoptr(GString) nics = g_string_new(NULL);
    g_autofree char *big = g_strnfill(1024 * 1024, ' ');
    g_autofree char *twice = small_domain("", "<disk><target dev='vda' bus='virtio'/></disk>", "");
    g_autofree char *with_nul = small_domain("", "", "");
    g_autofree char *deep_xml = NULL, *disks_xml = NULL, *nics_xml = NULL;

    for (guint i = 0; i < 200; i++)
        g_string_append(deep, "<backingStore>");
    for (guint i = 0; i < 200; i++)
        g_string_append(deep, "</backingStore>");
    deep_xml = small_domain("", "", deep->str);
    assert_refused(deep_xml, strlen(deep_xml), "domain-xml-too-deep");
    assert_refused(big, 1024 * 1024, "domain-xml-too-large");
    assert_refused("", 0, "domain-xml-syntax");
    assert_refused(twice, strlen(twice), "disk-target-duplicate");
    for (guint i = 0; i < VR_DOMAIN_DISKS_MAX; i++)
        g_string_append_printf(disks, "<disk><target dev='sd%c%c' bus='scsi'/></disk>",
                               'a' + i / 26, 'a' + i % 26);
    disks_xml = small_domain("", disks->str, "");
    assert_refused(disks_xml, strlen(disks_xml), "too-many-disks");
    for (guint i = 0; i < 600; i++)
        g_string_append(nics, "<interface type='user'/>");
    nics_xml = small_domain("", nics->str, "");
    assert_refused(nics_xml, strlen(nics_xml), "too-many-devices");
    with_nul[10] = 0;
    assert_refused(with_nul, 100, "domain-xml-syntax");
}

/* The declarations of entities are not even read. */
static void
test_billion_laughs(void)
{
    g_autoptr(GString) xml = g_string_new("<!DOCTYPE domain [<!ENTITY l0 'ha'>");

    for (guint i = 1; i < 30; i++)
        g_string_append_printf(xml, "<!ENTITY l%u '&l%u;&l%u;&l%u;&l%u;&l%u;'>", i, i - 1, i - 1,
                               i - 1, i - 1, i - 1);
    g_string_append(xml, "]><domain type='qemu'><name>&l29;</name></domain>");
    assert_refused(xml->str, xml->len, "domain-xml-doctype");
}

/* Every prefix of a real domain is refused or parsed, never more. */
static void
test_truncated(void)
{
    g_autofree char *xml = read_data("windows-pc-ide.xml");
    gsize len = strlen(xml);

    for (gsize n = 0; n + 2 < len; n += 7) {
        g_autofree char *part = g_memdup2(xml, MAX(n, 1));
        g_autoptr(GError) error = NULL;
        g_autoptr(VrDomainModel) model = vr_domain_model_parse(part, n, &error);

        g_assert_null(model);
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    }
}

static void
test_protectable(void)
{
    static const struct {
        const char *devices, *code;
    } rows[] = {
        {"<disk type='file'><driver type='raw'/><source file='/x'/>"
         "<target dev='vdb' bus='virtio'/></disk>",
         "disk-not-qcow2"},
        {"<disk type='file'><driver type='qcow2'/><source file='/x'/>"
         "<target dev='vdb' bus='virtio'/><readonly/></disk>",
         "disk-read-only"},
        {"<disk type='file'><driver type='qcow2'/><source file='/x'/>"
         "<target dev='vdb' bus='virtio'/><shareable/></disk>",
         "disk-shareable"},
        {"<disk type='file'><driver type='qcow2'/><source file='/x'/>"
         "<target dev='vdb' bus='virtio'/><transient/></disk>",
         "disk-transient"},
        {"<disk type='file'><driver type='qcow2'/><source file='/x'><encryption format='luks'/>"
         "</source><target dev='vdb' bus='virtio'/></disk>",
         "disk-encrypted"},
        {"<disk type='file'><driver type='qcow2' iothread='1'/><source file='/x'/>"
         "<target dev='vdb' bus='virtio'/></disk>",
         "disk-iothread"},
        {"<disk type='file'><driver type='qcow2'/><source file='/x'/>"
         "<target dev='sda' bus='scsi'/></disk><controller type='scsi' index='0' "
         "model='virtio-scsi'><driver iothread='1'/></controller>",
         "disk-iothread"},
        {"<disk type='block' device='lun'><source dev='/dev/sdz'/>"
         "<target dev='sda' bus='scsi'/></disk>",
         "disk-lun"},
        {"<disk type='network'><driver type='qcow2'/><source protocol='rbd' name='p/i'/>"
         "<target dev='vdb' bus='virtio'/></disk>",
         "disk-network"},
        {"<disk type='file'><target dev='vdb' bus='virtio'/></disk>", "disk-empty"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        const char *const exclude[] = {"vdb", "sda", NULL};
        g_autofree char *xml = small_domain("", rows[i].devices, "<iothreads>1</iothreads>");
        g_autoptr(VrDomainModel) model = parse_text(xml);
        g_autoptr(VrFindings) findings = vr_findings_new();
        g_autoptr(VrFindings) excluded = vr_findings_new();
        g_autoptr(GPtrArray) disks = vr_domain_replicated_disks(model, exclude);

        vr_domain_check_protectable(model, NULL, 7002022, findings);
        g_assert_cmpuint(vr_findings_errors(findings), ==, 1);
        assert_finding(findings, rows[i].code, VR_FINDING_ERROR);
        g_assert_cmpuint(disks->len, ==, 1);
        vr_domain_check_protectable(model, exclude, 7002022, excluded);
        assert_finding(excluded, "disk-excluded", VR_FINDING_WARNING);
        g_assert_null(find_finding(excluded, rows[i].code));
    }
}

static void
test_protectable_domain(void)
{
    const char *const all[] = {"vda", NULL}, *const typo[] = {"vdq", NULL};
    g_autofree char *xml = small_domain("",
                                        "<disk type='file'><driver type='qcow2' iothread='1'/>"
                                        "<source file='/x'/><target dev='vdb' bus='virtio'/></disk>"
                                        "<disk device='cdrom' type='file'><source file='/iso'/>"
                                        "<target dev='sda' bus='sata'/></disk>",
                                        "<iothreads>1</iothreads>");
    g_autofree char *one = small_domain("", "", "");
    g_autoptr(VrDomainModel) model = parse_text(xml);
    g_autoptr(VrDomainModel) single = parse_text(one);
    g_autoptr(VrFindings) findings = vr_findings_new();
    g_autoptr(VrFindings) none = vr_findings_new();
    g_autoptr(VrFindings) unknown = vr_findings_new();

    vr_domain_check_protectable(model, NULL, 9000000, findings);
    g_assert_cmpuint(vr_findings_errors(findings), ==, 0);
    assert_finding(findings, "media-ejected", VR_FINDING_WARNING);
    vr_domain_check_protectable(single, all, 9000000, none);
    assert_finding(none, "no-disks", VR_FINDING_ERROR);
    vr_domain_check_protectable(single, typo, 9000000, unknown);
    assert_finding(unknown, "exclude-unknown", VR_FINDING_ERROR);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain-model/debian", test_debian);
    g_test_add_func("/domain-model/windows", test_windows);
    g_test_add_func("/domain-model/lab", test_lab);
    g_test_add_func("/domain-model/default-nvram", test_default_nvram);
    g_test_add_func("/domain-model/names", test_names);
    g_test_add_func("/domain-model/bad-values", test_bad_values);
    g_test_add_func("/domain-model/limits", test_limits);
    g_test_add_func("/domain-model/billion-laughs", test_billion_laughs);
    g_test_add_func("/domain-model/truncated", test_truncated);
    g_test_add_func("/domain-model/protectable", test_protectable);
    g_test_add_func("/domain-model/protectable-domain", test_protectable_domain);
    return g_test_run();
}
