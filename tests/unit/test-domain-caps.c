/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain-fixture.h"

#include "policies/error.h"

static VrFindings *
check(const VrHostCaps *caps, const VrDomainModel *model, guint64 free_memory)
{
    VrFindings *findings = vr_findings_new();

    vr_host_caps_check(caps, model, 0, free_memory, findings);
    return findings;
}

static void
replace(char **field, const char *value)
{
    g_free(*field);
    *field = g_strdup(value);
}

static void
test_facts(void)
{
    g_autoptr(VrHostCaps) caps = load_caps("kvm");
    g_autoptr(VrDomainModel) model = parse_data("debian-q35-uefi.xml");
    g_autoptr(VrDomainModel) lab = parse_data("lab-guest.xml");

    g_assert_cmpstr(vr_host_caps_emulator(caps, "x86_64"), ==, "/usr/bin/qemu-system-x86_64");
    g_assert_null(vr_host_caps_emulator(caps, "riscv64"));
    g_assert_cmpstr(vr_host_caps_machine(caps, "x86_64", "q35"), ==, "pc-q35-7.2");
    g_assert_cmpstr(vr_host_caps_machine(caps, "x86_64", "pc-q35-6.2"), ==, "pc-q35-6.2");
    g_assert_null(vr_host_caps_machine(caps, "x86_64", "pc-q35-9.0"));
    g_assert_cmpstr(vr_host_caps_virt_type(caps, model), ==, "kvm");
    g_assert_cmpstr(vr_host_caps_virt_type(caps, lab), ==, "qemu");
    g_assert_cmpstr(vr_host_caps_loader(caps, model), ==, "/usr/share/OVMF/OVMF_CODE_4M.ms.fd");
    replace(&model->source_loader, "/usr/share/edk2/x64/OVMF_CODE_4M.fd");
    g_assert_cmpstr(vr_host_caps_loader(caps, model), ==, "/usr/share/OVMF/OVMF_CODE_4M.fd");
    g_assert_null(vr_host_caps_loader(caps, lab));
    g_assert_true(vr_host_caps_allows(caps, "graphics", "type", "vnc"));
    g_assert_false(vr_host_caps_allows(caps, "graphics", "type", "rdp"));
    g_assert_true(vr_host_caps_allows(caps, "unheard", "of", "x"));
}

static void
test_fits(void)
{
    g_autoptr(VrHostCaps) caps = load_caps("qemu");
    g_autoptr(VrDomainModel) model = parse_data("lab-guest.xml");
    g_autoptr(VrFindings) findings = check(caps, model, 1ULL << 30);

    g_assert_cmpuint(vr_findings_count(findings), ==, 0);
}

static void
test_machine(void)
{
    g_autoptr(VrHostCaps) caps = load_caps(NULL);
    g_autoptr(VrDomainModel) model = parse_data("lab-guest.xml");
    g_autoptr(VrFindings) newer = NULL;
    g_autoptr(VrFindings) arch = NULL;

    replace(&model->machine, "pc-q35-9.0");
    newer = check(caps, model, 0);
    assert_finding(newer, "machine-type-missing", VR_FINDING_ERROR);
    g_assert_nonnull(strstr(vr_findings_get(newer, 0)->message,
                            "it has pc-q35-7.2, pc-q35-7.1, pc-q35-7.0, pc-q35-6.2, pc-q35-6.1"));
    replace(&model->arch, "aarch64");
    arch = check(caps, model, 0);
    assert_finding(arch, "arch-missing", VR_FINDING_ERROR);
}

static void
test_resources(void)
{
    g_autoptr(VrHostCaps) caps = load_caps("kvm");
    g_autoptr(VrDomainModel) model = parse_data("debian-q35-uefi.xml");
    g_autoptr(VrFindings) findings = NULL;

    model->vcpus = 1000;
    findings = check(caps, model, 1 << 20);
    assert_finding(findings, "too-many-vcpus", VR_FINDING_ERROR);
    assert_finding(findings, "memory-short", VR_FINDING_WARNING);
    assert_finding(findings, "cpu-host-passthrough", VR_FINDING_WARNING);
    assert_finding(findings, "tpm-missing", VR_FINDING_ERROR);
}

/* The definition says how much; a host that has less cannot run it at any time. */
static void
test_memory(void)
{
    g_autoptr(VrHostCaps) caps = load_caps("qemu");
    g_autoptr(VrDomainModel) model = parse_data("lab-guest.xml");
    g_autoptr(VrFindings) same = vr_findings_new();
    g_autoptr(VrFindings) less = vr_findings_new();
    g_autoptr(VrFindings) balloon = vr_findings_new();
    g_autofree char *figures =
        g_strdup_printf("%" G_GUINT64_FORMAT " MiB of memory, this host has %" G_GUINT64_FORMAT,
                        model->memory >> 20, (model->memory >> 20) - 1);

    vr_host_caps_check(caps, model, model->memory, 1 << 20, same);
    g_assert_cmpuint(vr_findings_count(same), ==, 1);
    assert_finding(same, "memory-short", VR_FINDING_WARNING);
    vr_host_caps_check(caps, model, model->memory - (1 << 20), 1 << 20, less);
    g_assert_cmpuint(vr_findings_count(less), ==, 1);
    assert_finding(less, "memory-too-large", VR_FINDING_ERROR);
    g_assert_nonnull(strstr(vr_findings_get(less, 0)->message, figures));
    model->current_memory = model->memory / 2; /* it may never be given more */
    vr_host_caps_check(caps, model, model->memory - (1 << 20), 0, balloon);
    g_assert_cmpuint(vr_findings_count(balloon), ==, 0);
}

static void
test_cpu(void)
{
    g_autoptr(VrHostCaps) kvm = load_caps("kvm");
    g_autoptr(VrHostCaps) tcg = load_caps("qemu");
    g_autoptr(VrDomainModel) model = parse_data("windows-pc-ide.xml");
    g_autoptr(VrDomainModel) lab = parse_data("debian-q35-uefi.xml");
    g_autoptr(VrFindings) unusable = check(kvm, model, 0);
    g_autoptr(VrFindings) missing = NULL;
    g_autoptr(VrFindings) unchecked = NULL;
    g_autoptr(VrFindings) mode = NULL;

    assert_finding(unusable, "cpu-model-unusable", VR_FINDING_ERROR);
    model->cpu.check = "none";
    unchecked = check(kvm, model, 0);
    assert_finding(unchecked, "cpu-model-unusable", VR_FINDING_WARNING);
    replace(&model->cpu.model, "Zen-9");
    missing = check(kvm, model, 0);
    assert_finding(missing, "cpu-model-missing", VR_FINDING_ERROR);
    mode = check(tcg, lab, 0);
    assert_finding(mode, "cpu-mode-missing", VR_FINDING_ERROR);
}

static const char small_host[] =
    "<capabilities><guest><os_type>hvm</os_type><arch name='x86_64'>"
    "<emulator>/usr/libexec/qemu-kvm</emulator><machine>pc-q35-7.2</machine>"
    "<domain type='qemu'/></arch></guest></capabilities>";

static const char small_domain_caps[] =
    "<domainCapabilities><vcpu max='8'/><os supported='yes'><enum name='firmware'/></os>"
    "<devices><disk supported='yes'><enum name='bus'><value>scsi</value></enum></disk></devices>"
    "</domainCapabilities>";

static void
test_small_host(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrHostCaps) caps = vr_host_caps_parse(small_host, small_domain_caps, &error);
    g_autoptr(VrDomainModel) model = parse_data("fedora-q35-efi-auto.xml");
    g_autoptr(VrFindings) findings = NULL;

    g_assert_no_error(error);
    findings = check(caps, model, 0);
    assert_finding(findings, "kvm-missing", VR_FINDING_WARNING);
    assert_finding(findings, "firmware-missing", VR_FINDING_ERROR);
    assert_finding(findings, "disk-bus-missing", VR_FINDING_ERROR);
    g_assert_cmpstr(vr_host_caps_virt_type(caps, model), ==, "qemu");
}

static void
test_bad_input(void)
{
    static const char *const bad[] = {"", "<domain/>", "<capabilities>", "<!DOCTYPE a><a/>"};

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) first = NULL;
        g_autoptr(GError) second = NULL;

        g_assert_null(vr_host_caps_parse(bad[i], NULL, &first));
        g_assert_error(first, VR_ERROR, VR_ERROR_INVALID);
        g_assert_null(vr_host_caps_parse(small_host, bad[i], &second));
        g_assert_error(second, VR_ERROR, VR_ERROR_INVALID);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain-caps/facts", test_facts);
    g_test_add_func("/domain-caps/fits", test_fits);
    g_test_add_func("/domain-caps/machine", test_machine);
    g_test_add_func("/domain-caps/resources", test_resources);
    g_test_add_func("/domain-caps/memory", test_memory);
    g_test_add_func("/domain-caps/cpu", test_cpu);
    g_test_add_func("/domain-caps/small-host", test_small_host);
    g_test_add_func("/domain-caps/bad-input", test_bad_input);
    return g_test_run();
}
