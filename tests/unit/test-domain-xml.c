/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain-fixture.h"

#include <glib/gstdio.h>
#include <libxml/parser.h>

#include "policies/error.h"
#include "qmp/domain/domain_xml.h"

typedef struct {
    VrHostCaps *caps;
    VrDomainTarget target;
} Fixture;

static void
setup(Fixture *f, gconstpointer data)
{
    static const char *const targets[] = {"vda", "vdb", "hda", "sda"};

    f->caps = load_caps("kvm");
    f->target.caps = f->caps;
    f->target.disk_paths = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
    for (gsize i = 0; i < G_N_ELEMENTS(targets); i++)
        g_hash_table_insert(f->target.disk_paths, (gpointer) targets[i],
                            g_strdup_printf("/ours/%s.qcow2", targets[i]));
    f->target.networks = g_hash_table_new(g_str_hash, g_str_equal);
    g_hash_table_insert(f->target.networks, (gpointer) "prod", (gpointer) "dr");
    g_hash_table_insert(f->target.networks, (gpointer) "bridge:br0", (gpointer) "dr-lan");
    f->target.nvram_path = "/ours/nvram";
    f->target.kernel_path = "/ours/kernel";
    f->target.initrd_path = "/ours/initrd";
    f->target.dtb_path = "/ours/dtb";
    f->target.console_log_dir = "/ours/log";
    f->target.libvirt_version = 9000000;
    f->target.role = "replica";
    f->target.generation = "7";
}

static void
teardown(Fixture *f, gconstpointer data)
{
    g_hash_table_unref(f->target.disk_paths);
    g_hash_table_unref(f->target.networks);
    vr_host_caps_free(f->caps);
}

static char *
write_model(Fixture *f, const VrDomainModel *model, VrFindings *findings)
{
    g_autoptr(GError) error = NULL;
    char *xml = vr_domain_xml_for_target(model, &f->target, findings, &error);

    g_assert_no_error(error);
    return xml;
}

/* libvirt's own schema, where the program is installed. */
static void
assert_valid(const char *xml)
{
    g_autofree char *program = g_find_program_in_path("virt-xml-validate");
    g_autofree char *path = NULL;
    g_autofree char *output = NULL;
    g_autoptr(GError) error = NULL;
    const char *argv[] = {program, NULL, "domain", NULL};
    int fd, status;

    g_assert_nonnull(program); /* package libvirt-clients */
    fd = g_file_open_tmp("vr-domain-XXXXXX.xml", &path, &error);
    g_assert_no_error(error);
    g_close(fd, NULL);
    g_file_set_contents(path, xml, -1, &error);
    g_assert_no_error(error);
    argv[1] = path;
    g_spawn_sync(NULL, (char **) argv, NULL, G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, &output,
                 &status, &error);
    g_assert_no_error(error);
    g_unlink(path);
    if (status != 0)
        g_test_message("%s\n%s", output, xml);
    g_assert_cmpint(status, ==, 0);
}

/* What is written parses again, loses nothing, and is written the same again. */
static void
assert_stable(Fixture *f, const char *xml)
{
    g_autoptr(VrDomainModel) model = parse_text(xml);
    g_autofree char *again = NULL;

    g_hash_table_insert(f->target.networks, (gpointer) "dr", (gpointer) "dr");
    g_hash_table_insert(f->target.networks, (gpointer) "dr-lan", (gpointer) "dr-lan");
    for (guint i = 0; i < vr_findings_count(model->findings); i++) {
        const char *code = vr_findings_get(model->findings, i)->code;

        if (!g_str_equal(code, "console-redirected"))
            g_test_message("%s", vr_findings_get(model->findings, i)->message);
        g_assert_cmpstr(code, ==, "console-redirected");
    }
    again = write_model(f, model, NULL);
    g_assert_cmpstr(again, ==, xml);
}

static void
check_golden(Fixture *f, const char *name, VrFindings *findings)
{
    g_autofree char *input = g_strdup_printf("%s.xml", name);
    g_autofree char *output = g_strdup_printf("%s.out.xml", name);
    g_autoptr(VrDomainModel) model = parse_data(input);
    g_autofree char *xml = write_model(f, model, findings);
    g_autofree char *expected = NULL;

    if (g_getenv("VR_TEST_REGENERATE")) {
        g_autofree char *path = g_build_filename(VR_TEST_DATA, "domain", output, NULL);

        g_assert_true(g_file_set_contents(path, xml, -1, NULL));
    }
    expected = read_data(output);
    g_assert_cmpstr(xml, ==, expected);
    g_assert_null(strstr(xml, "/srv/"));
    g_assert_null(strstr(xml, "/var/lib/libvirt/"));
    assert_valid(xml);
    assert_stable(f, xml);
}

static void
test_golden(Fixture *f, gconstpointer name)
{
    g_autoptr(VrFindings) findings = vr_findings_new();

    check_golden(f, name, findings);
    g_assert_cmpuint(vr_findings_errors(findings), ==, 0);
}

static void
test_network_not_mapped(Fixture *f, gconstpointer data)
{
    g_autoptr(VrDomainModel) model = parse_data("debian-q35-uefi.xml");
    g_autoptr(VrFindings) findings = vr_findings_new();
    g_autofree char *xml = write_model(f, model, findings);

    assert_finding(findings, "network-not-mapped", VR_FINDING_WARNING);
    g_assert_null(strstr(xml, "52:54:00:aa:00:03"));
    g_assert_nonnull(strstr(xml, "52:54:00:aa:00:01"));
    g_assert_nonnull(strstr(xml, "<source network='dr-lan'/>"));
}

/* No guest's interface lowers the MTU of a bridge of the other host. */
static void
test_mtu(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *size, *finding, *written;
    } cases[] = {{"0", "value-dropped", NULL},        {"67", "value-dropped", NULL},
                 {"68", "mtu-dropped", NULL},         {"1499", "mtu-dropped", NULL},
                 {"65536", "value-dropped", NULL},    {"1500", NULL, "<mtu size='1500'/>"},
                 {"9000", NULL, "<mtu size='9000'/>"}};

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *devices =
            g_strdup_printf("<interface type='network'><mac address='52:54:00:aa:00:01'/>"
                            "<source network='prod'/><mtu size='%s'/></interface>",
                            cases[i].size);
        g_autofree char *text = small_domain("", devices, "");
        g_autoptr(VrDomainModel) model = parse_text(text);
        g_autofree char *xml = write_model(f, model, NULL);

        if (cases[i].finding)
            assert_finding(model->findings, cases[i].finding, VR_FINDING_WARNING);
        else
            g_assert_cmpuint(vr_findings_count(model->findings), ==, 0);
        g_assert_nonnull(strstr(xml, "52:54:00:aa:00:01"));
        g_assert_nonnull(strstr(xml, cases[i].written ? cases[i].written : "<interface"));
        g_assert_true(cases[i].written || !strstr(xml, "<mtu"));
    }
}

/* A test failover: another name, UUID, MACs and generation id; the same each time. */
static void
test_new_identity(Fixture *f, gconstpointer data)
{
    g_autoptr(VrDomainModel) model = parse_data("windows-pc-ide.xml");
    g_autofree char *xml = NULL, *again = NULL;

    f->target.name = "old win-test-1";
    f->target.uuid = "11111111-2222-4333-8444-555555555555";
    f->target.genid = "99999999-2222-4333-8444-555555555555";
    f->target.new_macs = TRUE;
    f->target.role = "test";
    xml = write_model(f, model, NULL);
    again = write_model(f, model, NULL);
    g_assert_cmpstr(xml, ==, again);
    g_assert_nonnull(strstr(xml, "<name>old win-test-1</name>"));
    g_assert_nonnull(strstr(xml, "<uuid>11111111-2222-4333-8444-555555555555</uuid>"));
    g_assert_nonnull(strstr(xml, "<genid>99999999-2222-4333-8444-555555555555</genid>"));
    g_assert_nonnull(strstr(xml, "role='test'"));
    g_assert_null(strstr(xml, "52:54:00:bb:00:01"));
    g_assert_nonnull(strstr(xml, "<mac address='52:54:00:"));
    assert_valid(xml);
}

static void
assert_write_refused(Fixture *f, const VrDomainModel *model, VrError code, const char *slug)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrFindings) findings = vr_findings_new();
    g_autofree char *xml = vr_domain_xml_for_target(model, &f->target, findings, &error);

    g_assert_null(xml);
    g_assert_error(error, VR_ERROR, (gint) code);
    g_assert_cmpstr(vr_error_slug(error), ==, slug);
}

static void
test_refused(Fixture *f, gconstpointer data)
{
    g_autoptr(VrDomainModel) model = parse_data("lab-guest.xml");

    f->target.initrd_path = NULL;
    assert_write_refused(f, model, VR_ERROR_REFUSED, "attachment-missing");
    f->target.initrd_path = "relative";
    assert_write_refused(f, model, VR_ERROR_INVALID, "target-invalid");
    f->target.initrd_path = "/ours/initrd";
    f->target.name = "a/b";
    assert_write_refused(f, model, VR_ERROR_INVALID, "target-invalid");
    f->target.name = NULL;
    f->target.generation = "a b";
    assert_write_refused(f, model, VR_ERROR_INVALID, "target-invalid");
    f->target.generation = "7";
    g_free(model->machine);
    model->machine = g_strdup("pc-q35-99.0");
    assert_write_refused(f, model, VR_ERROR_REFUSED, "machine-type-missing");
    g_hash_table_remove_all(f->target.disk_paths);
    g_free(model->machine);
    model->machine = g_strdup("q35");
    assert_write_refused(f, model, VR_ERROR_REFUSED, "no-disks");
}

static void
test_firmware(Fixture *f, gconstpointer data)
{
    g_autoptr(VrDomainModel) model = parse_data("debian-q35-uefi.xml");
    g_autoptr(VrFindings) findings = vr_findings_new();
    g_autofree char *chosen = NULL, *newer = NULL;

    g_free(model->source_loader);
    model->source_loader = g_strdup("/usr/share/edk2/OVMF_OTHER.fd");
    chosen = write_model(f, model, findings);
    assert_finding(findings, "firmware-chosen-here", VR_FINDING_WARNING);
    g_assert_null(strstr(chosen, "OVMF_OTHER"));
    g_assert_nonnull(strstr(chosen, "<os firmware='efi'>"));
    assert_valid(chosen);
    f->target.libvirt_version = 11003000;
    newer = write_model(f, model, NULL);
    g_assert_nonnull(strstr(newer, "<nvram format='raw'>/ours/nvram</nvram>"));
}

/* Elements that only a known model can have made. */
static const char *const allowed[] = {
    "domain",    "name",     "uuid",          "genid",       "title",     "description",
    "metadata",  "memory",   "currentMemory", "vcpu",        "iothreads", "os",
    "type",      "loader",   "nvram",         "firmware",    "feature",   "kernel",
    "initrd",    "dtb",      "cmdline",       "boot",        "bootmenu",  "features",
    "acpi",      "apic",     "pae",           "cpu",         "model",     "vendor",
    "topology",  "clock",    "timer",         "on_poweroff", "on_reboot", "on_crash",
    "pm",        "devices",  "emulator",      "disk",        "driver",    "source",
    "target",    "readonly", "serial",        "wwn",         "product",   "controller",
    "interface", "mac",      "link",          "mtu",         "console",   "log",
    "channel",   "graphics", "video",         "input",       "sound",     "rng",
    "backend",   "rate",     "memballoon",    "stats",       "watchdog",  "tpm",
    "panic",     "address",  "blockio",       "cache",       "master",    "hyperv",
    NULL};

static void
assert_allowed(xmlNode *node)
{
    if (node->type != XML_ELEMENT_NODE)
        return;
    if (!node->ns && !g_strv_contains(allowed, (const char *) node->name))
        g_error("element <%s> in the output", node->name);
    if (node->ns)
        g_assert_cmpstr((const char *) node->ns->href, ==, VR_DOMAIN_XMLNS);
    for (xmlNode *child = node->children; child; child = child->next)
        assert_allowed(child);
}

/* Each has "evil" in everything that must not come out. */
static const struct {
    const char *os, *devices, *more;
    gboolean quiet; /* only a fact that each host has of its own: not listed */
} evil[] = {
    {"", "<emulator>/evil/qemu</emulator>", ""},
    {"", "<emulator>/usr/bin/qemu-/../../../evil</emulator>", ""},
    {"<loader>/evil/rom</loader>", "", ""},
    {"<loader type='pflash' readonly='no'>/evil/code</loader>"
     "<nvram template='/evil/template'>/evil/vars</nvram>",
     "", ""},
    {"<loader type='pflash'>/usr/share/../evil/code</loader>", "", ""},
    {"<nvram type='network'><source protocol='nbd' name='evil'/></nvram>", "", ""},
    {"<kernel>/evil/k</kernel><initrd>/evil/i</initrd><dtb>/evil/d</dtb>", "", "", TRUE},
    {"<acpi><table type='slic'>/evil/table</table></acpi>", "", ""},
    {"<smbios mode='sysinfo'/><bios useserial='evil'/><init>/evil/init</init>", "", ""},
    {"<shim>/evil/shim</shim><bootloader>/evil</bootloader>", "", ""},
    {"", "",
     "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
     "<qemu:arg value='-evil'/><qemu:env name='evil' value='1'/></qemu:commandline>"},
    {"", "", "<bootloader>/evil/pygrub</bootloader>"},
    {"", "", "<sysinfo type='fwcfg'><entry name='opt/x' file='/evil/f'/></sysinfo>"},
    {"", "", "<seclabel type='none' model='evil'/>"},
    {"", "", "<launchSecurity type='sev'><session>evil</session></launchSecurity>"},
    {"", "", "<metadata><evil:x xmlns:evil='http://evil/'>/evil</evil:x></metadata>"},
    {"", "",
     "<metadata><vr:domain xmlns:vr='https://virt-replica.org/ns/1.0' role='evil'/>"
     "</metadata>",
     TRUE},
    {"", "", "<on_crash>coredump-restart</on_crash><on_poweroff>evil</on_poweroff>"},
    {"", "",
     "<memoryBacking><source type='file'/><hugepages/></memoryBacking>"
     "<numatune><memory nodeset='evil'/></numatune>"},
    {"", "", "<resource><partition>/evil</partition></resource>", TRUE},
    {"", "", "<clock offset='timezone' timezone=':/evil/zone'/>"},
    {"", "", "<clock offset='timezone' timezone='../../evil'/>"},
    {"", "", "<cpu mode='custom'><model>evil,x=y</model><feature name='evil,a'/></cpu>"},
    {"", "", "<features><hyperv><vendor_id state='on' value='evil,x'/></hyperv></features>"},
    {"", "", "<x:devices xmlns:x='http://evil/'><x:hostdev/></x:devices><idmap>evil</idmap>"},
    {"", "", "<keywrap><cipher name='evil'/></keywrap><perf/><evil/>"},
    {"", "<hostdev mode='subsystem' type='pci'><source><address bus='1'/></source></hostdev>", ""},
    {"", "<hostdev mode='subsystem' type='mdev'><source><address uuid='evil'/></source></hostdev>",
     ""},
    {"", "<filesystem type='mount'><source dir='/evil'/><target dir='evil'/></filesystem>", ""},
    {"", "<filesystem><driver type='virtiofs'/><binary path='/evil/virtiofsd'/></filesystem>", ""},
    {"", "<shmem name='evil'><server path='/evil/sock'/></shmem>", ""},
    {"",
     "<disk type='network'><source protocol='nbd' name='evil'/>"
     "<target dev='vdb' bus='virtio'/></disk>",
     "", TRUE},
    {"", "<disk type='dir'><source dir='/evil'/><target dev='vdb' bus='virtio'/></disk>", "", TRUE},
    {"",
     "<disk type='block'><source dev='/evil/disk' startupPolicy='optional'>"
     "<seclabel relabel='no'/></source><target dev='vdb' bus='virtio'/></disk>",
     "", TRUE},
    {"",
     "<disk type='vhostuser'><source type='unix' path='/evil/sock'/>"
     "<target dev='vdb' bus='virtio'/></disk>",
     "", TRUE},
    {"",
     "<disk type='file' device='cdrom'><source file='/evil/iso'/>"
     "<target dev='sdc' bus='sata'/></disk>",
     "", TRUE},
    {"",
     "<disk type='block' device='lun' sgio='unfiltered'><source dev='/evil/lun'/>"
     "<target dev='sdc' bus='scsi'/></disk>",
     ""},
    {"",
     "<disk type='file'><driver name='qemu' type='vmdk' cache='evil'/>"
     "<source file='json:{evil}'/><backingStore type='file'><source file='/evil/b'/>"
     "</backingStore><mirror file='/evil/m'/><target dev='vdb' bus='virtio'/>"
     "<serial>/evil,x</serial></disk>",
     ""},
    {"",
     "<interface type='bridge'><source bridge='evil0'/><script path='/evil/up'/>"
     "<downscript path='/evil/down'/></interface>",
     ""},
    {"", "<interface type='ethernet'><target dev='evil'/><script path='/evil'/></interface>", ""},
    {"",
     "<interface type='vhostuser'><source type='unix' path='/evil/s' mode='client'/>"
     "</interface>",
     ""},
    {"",
     "<interface type='network'><source network='prod' portgroup='evil'/>"
     "<mac address='evil'/><model type='evil'/><filterref filter='evil'/>"
     "<backend tap='/evil/tap' vhost='/evil/vhost'/><rom file='/evil/rom'/></interface>",
     ""},
    {"", "<interface type='user'><backend type='passt' logFile='/evil/log'/></interface>", ""},
    {"",
     "<serial type='file'><source path='/evil/out'/><target type='isa-serial' port='0'/>"
     "</serial>",
     ""},
    {"", "<serial type='pipe'><source path='/evil/pipe'/><log file='/evil/log'/></serial>", ""},
    {"", "<serial type='unix'><source mode='bind' path='/evil/sock'/></serial>", ""},
    {"", "<serial type='tcp'><source mode='bind' host='evil' service='1'/></serial>", ""},
    {"", "<serial type='dev'><source path='/evil/tty'/><target type='evil'/></serial>", ""},
    {"",
     "<console type='file'><source path='/evil/c'/><target type='virtio' port='0'/>"
     "</console>",
     ""},
    {"", "<parallel type='file'><source path='/evil/p'/></parallel>", ""},
    {"",
     "<channel type='unix'><source mode='bind' path='/evil/agent'/>"
     "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
     "", TRUE},
    {"",
     "<channel type='unix'><source mode='connect' path='/evil/c'/>"
     "<target type='virtio' name='evil'/></channel><channel/>",
     ""},
    {"", "<rng model='virtio'><backend model='random'>/evil/disk</backend></rng>", ""},
    {"",
     "<rng model='virtio'><backend model='egd' type='unix'><source path='/evil'/></backend>"
     "</rng>",
     ""},
    {"",
     "<tpm model='tpm-tis'><backend type='passthrough'><device path='/evil/tpm'/></backend>"
     "</tpm>",
     ""},
    {"",
     "<tpm model='tpm-tis'><backend type='external'><source type='unix' path='/evil'/>"
     "</backend></tpm>",
     ""},
    {"",
     "<tpm model='evil'><backend type='emulator' version='evil'>"
     "<encryption secret='evil'/></backend></tpm>",
     ""},
    {"", "<graphics type='vnc' socket='/evil/vnc' passwd='evil'/>", ""},
    {"",
     "<graphics type='spice'><gl rendernode='/evil/dri'/><listen type='socket' "
     "socket='/evil'/></graphics><graphics type='sdl' xauth='/evil'/>",
     ""},
    {"", "<graphics type='egl-headless'><gl rendernode='/evil/dri'/></graphics>", ""},
    {"", "<video><model type='evil'/></video><video><driver name='vhostuser'/></video>", ""},
    {"", "<input type='passthrough' bus='virtio'><source evdev='/evil/event'/></input>", ""},
    {"", "<input type='evdev'><source dev='/evil/event'/></input>", ""},
    {"", "<audio id='1' type='file' path='/evil/wav'/><sound model='evil'/>", ""},
    {"", "<smartcard mode='host-certificates'><database>/evil</database></smartcard>", ""},
    {"", "<memory model='nvdimm'><source><path>/evil/nv</path></source></memory>", ""},
    {"", "<redirdev bus='usb' type='tcp'><source host='evil'/></redirdev><hub type='usb'/>", ""},
    {"", "<vsock model='virtio'><cid address='3'/></vsock><crypto model='evil'/>", ""},
    {"", "<watchdog model='i6300esb' action='dump'/><lease><key>evil</key></lease>", ""},
    {"", "<controller type='evil'/><controller type='pci' model='evil' index='999'/>", ""},
    {"",
     "<memballoon model='virtio'><address type='evil' file='/evil'/>"
     "<address type='pci' bus='0x1000'/></memballoon>",
     ""},
};

static void
test_evil(Fixture *f, gconstpointer data)
{
    for (gsize i = 0; i < G_N_ELEMENTS(evil); i++) {
        g_autofree char *xml = small_domain(evil[i].os, evil[i].devices, evil[i].more);
        g_autoptr(VrDomainModel) model = parse_text(xml);
        g_autoptr(VrFindings) findings = vr_findings_new();
        g_autofree char *out = write_model(f, model, findings);
        const VrFindings *dropped = model->findings;
        xmlDoc *doc = xmlReadMemory(out, (int) strlen(out), NULL, NULL, 0);

        g_test_message("%zu: %s%s%s", i, evil[i].os, evil[i].devices, evil[i].more);
        g_assert_nonnull(doc);
        if (vr_findings_count(dropped) == 0 && !evil[i].quiet)
            g_test_message("nothing was listed");
        g_assert_true(vr_findings_count(dropped) > 0 || evil[i].quiet);
        if (strstr(out, "evil"))
            g_test_message("%s", out);
        g_assert_null(strstr(out, "evil"));
        assert_allowed(xmlDocGetRootElement(doc));
        xmlFreeDoc(doc);
        assert_valid(out);
    }
}

/* Random damage: a clear refusal, or output as harmless as ever. */
static void
test_damaged(Fixture *f, gconstpointer data)
{
    g_autofree char *xml = read_data("windows-pc-ide.xml");
    gsize len = strlen(xml);

    for (guint round = 0; round < 2000; round++) {
        g_autofree char *copy = g_strdup(xml);
        g_autoptr(GError) error = NULL;
        g_autoptr(VrDomainModel) model = NULL;
        g_autofree char *out = NULL;

        for (guint i = 0; i < 3; i++)
            copy[g_test_rand_int_range(0, (gint) len)] =
                "<>/'\"&;=a0 -\x01\xc3"[g_test_rand_int_range(0, 14)];
        model = vr_domain_model_parse(copy, len, &error);
        if (!model) {
            g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
            continue;
        }
        out = vr_domain_xml_for_target(model, &f->target, NULL, NULL);
        if (out)
            g_assert_null(strstr(out, "/srv/"));
    }
}

static void
add(const char *path, void (*test)(Fixture *, gconstpointer), const char *data)
{
    g_test_add(path, Fixture, data, setup, test, teardown);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("/domain-xml/golden/debian", test_golden, "debian-q35-uefi");
    add("/domain-xml/golden/fedora", test_golden, "fedora-q35-efi-auto");
    add("/domain-xml/golden/windows", test_golden, "windows-pc-ide");
    add("/domain-xml/golden/lab", test_golden, "lab-guest");
    add("/domain-xml/network-not-mapped", test_network_not_mapped, NULL);
    add("/domain-xml/mtu", test_mtu, NULL);
    add("/domain-xml/new-identity", test_new_identity, NULL);
    add("/domain-xml/refused", test_refused, NULL);
    add("/domain-xml/firmware", test_firmware, NULL);
    add("/domain-xml/evil", test_evil, NULL);
    add("/domain-xml/damaged", test_damaged, NULL);
    return g_test_run();
}
