/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/host_caps.h"

#include <string.h>

#include "policies/error.h"
#include "qmp/domain/domain_node.h"

#define CAPABILITIES_MAX (8 * 1024 * 1024) /* bytes */
#define SUGGESTIONS_MAX 5

typedef struct {
    char *name;
    char *canonical; /* NULL: @name is no alias */
    guint max_vcpus; /* 0: not said */
    gboolean deprecated;
} Machine;

typedef struct {
    char *name;
    char *emulator;
    GPtrArray *machines; /* Machine, owned */
    gboolean kvm, qemu;
} Arch;

struct _VrHostCaps {
    GPtrArray *archs;  /* Arch, owned */
    gboolean detailed; /* the rest is known */
    guint max_vcpus;
    gboolean efi;
    GPtrArray *loaders;     /* char *, owned: paths of this host */
    GHashTable *cpu_modes;  /* set of char *, owned: supported */
    GHashTable *cpu_models; /* char *, owned -> GUINT_TO_POINTER(usable) */
    GHashTable *values;     /* "graphics.type", owned -> set of char *, owned */
};

static void
machine_free(gpointer data)
{
    Machine *machine = data;

    g_free(machine->name);
    g_free(machine->canonical);
    g_free(machine);
}

static void
arch_free(gpointer data)
{
    Arch *arch = data;

    g_free(arch->name);
    g_free(arch->emulator);
    g_ptr_array_unref(arch->machines);
    g_free(arch);
}

static GHashTable *
new_set(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
}

static char *
child_text(xmlNode *node, const char *name)
{
    xmlNode *child = vr_node_child(node, name);

    return child ? vr_node_text(child) : NULL;
}

static gboolean
is_yes(const char *text)
{
    return g_strcmp0(text, "yes") == 0;
}

static Machine *
find_machine(const Arch *arch, const char *name)
{
    for (guint i = 0; i < arch->machines->len; i++) {
        Machine *machine = g_ptr_array_index(arch->machines, i);

        if (g_str_equal(machine->name, name))
            return machine;
    }
    return NULL;
}

static void
read_machines(Arch *arch, xmlNode *parent)
{
    xmlNode *node = vr_node_child(parent, "machine");

    for (; node; node = vr_node_next(node, "machine")) {
        g_autofree char *name = vr_node_text(node);
        const char *max = vr_node_attr(node, "maxCpus");
        Machine *machine;

        if (!*name || find_machine(arch, name))
            continue;
        machine = g_new0(Machine, 1);
        machine->name = g_steal_pointer(&name);
        machine->canonical = g_strdup(vr_node_attr(node, "canonical"));
        machine->max_vcpus = max ? (guint) g_ascii_strtoull(max, NULL, 10) : 0;
        machine->deprecated = is_yes(vr_node_attr(node, "deprecated"));
        g_ptr_array_add(arch->machines, machine);
    }
}

static void
read_guest(VrHostCaps *self, xmlNode *guest)
{
    g_autofree char *os_type = child_text(guest, "os_type");
    xmlNode *node = vr_node_child(guest, "arch");
    xmlNode *domain;
    Arch *arch;

    if (g_strcmp0(os_type, "hvm") != 0 || !node || !vr_node_attr(node, "name"))
        return;
    arch = g_new0(Arch, 1);
    arch->name = g_strdup(vr_node_attr(node, "name"));
    arch->emulator = child_text(node, "emulator");
    arch->machines = g_ptr_array_new_with_free_func(machine_free);
    read_machines(arch, node);
    for (domain = vr_node_child(node, "domain"); domain; domain = vr_node_next(domain, "domain")) {
        arch->kvm |= g_strcmp0(vr_node_attr(domain, "type"), "kvm") == 0;
        arch->qemu |= g_strcmp0(vr_node_attr(domain, "type"), "qemu") == 0;
        read_machines(arch, domain);
    }
    g_ptr_array_add(self->archs, arch);
}

/* <enum name='type'><value>vnc</value>... below @node */
static void
read_values(VrHostCaps *self, xmlNode *node)
{
    xmlNode *list = vr_node_child(node, "enum");

    for (; list; list = vr_node_next(list, "enum")) {
        const char *name = vr_node_attr(list, "name");
        xmlNode *value = vr_node_child(list, "value");
        GHashTable *set = new_set();

        for (; value; value = vr_node_next(value, "value"))
            g_hash_table_add(set, vr_node_text(value));
        g_hash_table_replace(self->values,
                             g_strdup_printf("%s.%s", (const char *) node->name, name ? name : ""),
                             set);
    }
}

static void
read_cpu(VrHostCaps *self, xmlNode *cpu)
{
    xmlNode *mode = vr_node_child(cpu, "mode");

    for (; mode; mode = vr_node_next(mode, "mode")) {
        const char *name = vr_node_attr(mode, "name");
        xmlNode *model = vr_node_child(mode, "model");

        if (!name || !is_yes(vr_node_attr(mode, "supported")))
            continue;
        g_hash_table_add(self->cpu_modes, g_strdup(name));
        for (; g_str_equal(name, "custom") && model; model = vr_node_next(model, "model")) {
            gboolean usable = g_strcmp0(vr_node_attr(model, "usable"), "no") != 0;

            g_hash_table_replace(self->cpu_models, vr_node_text(model), GUINT_TO_POINTER(usable));
        }
    }
}

static void
read_firmware(VrHostCaps *self, xmlNode *os)
{
    xmlNode *loader = vr_node_child(os, "loader");
    xmlNode *value = loader ? vr_node_child(loader, "value") : NULL;

    for (; value; value = vr_node_next(value, "value"))
        g_ptr_array_add(self->loaders, vr_node_text(value));
    read_values(self, os);
    self->efi = self->loaders->len > 0 || vr_host_caps_allows(self, "os", "firmware", "efi");
}

static void
read_details(VrHostCaps *self, xmlNode *root)
{
    xmlNode *vcpu = vr_node_child(root, "vcpu");
    xmlNode *os = vr_node_child(root, "os");
    xmlNode *cpu = vr_node_child(root, "cpu");
    xmlNode *devices = vr_node_child(root, "devices");
    const char *max = vcpu ? vr_node_attr(vcpu, "max") : NULL;

    self->detailed = TRUE;
    self->max_vcpus = max ? (guint) g_ascii_strtoull(max, NULL, 10) : 0;
    if (os)
        read_firmware(self, os);
    if (cpu)
        read_cpu(self, cpu);
    for (xmlNode *node = devices ? vr_node_first(devices) : NULL; node; node = vr_node_after(node))
        read_values(self, node);
}

static xmlDoc *
read_doc(const char *what, const char *root, const char *xml, GError **error)
{
    g_autoptr(xmlDoc) doc = vr_domain_doc_read(what, xml, strlen(xml), CAPABILITIES_MAX, error);

    if (!doc)
        return NULL;
    if (!vr_node_is(xmlDocGetRootElement(doc), root)) {
        vr_set_error(error, VR_ERROR_INVALID, "capabilities-invalid",
                     "Check the version of libvirt.", "%s: no <%s>", what, root);
        return NULL;
    }
    return g_steal_pointer(&doc);
}

VrHostCaps *
vr_host_caps_parse(const char *capabilities, const char *domain_capabilities, GError **error)
{
    g_autoptr(VrHostCaps) self = g_new0(VrHostCaps, 1);
    g_autoptr(xmlDoc) host = NULL;
    g_autoptr(xmlDoc) domain = NULL;
    xmlNode *guest;

    self->archs = g_ptr_array_new_with_free_func(arch_free);
    self->loaders = g_ptr_array_new_with_free_func(g_free);
    self->cpu_modes = new_set();
    self->cpu_models = new_set();
    self->values =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify) g_hash_table_unref);
    host = read_doc("capabilities of this host", "capabilities", capabilities, error);
    if (!host)
        return NULL;
    guest = vr_node_child(xmlDocGetRootElement(host), "guest");
    for (; guest; guest = vr_node_next(guest, "guest"))
        read_guest(self, guest);
    if (domain_capabilities) {
        domain = read_doc("domain capabilities of this host", "domainCapabilities",
                          domain_capabilities, error);
        if (!domain)
            return NULL;
        read_details(self, xmlDocGetRootElement(domain));
    }
    return g_steal_pointer(&self);
}

void
vr_host_caps_free(VrHostCaps *self)
{
    if (!self)
        return;
    g_ptr_array_unref(self->archs);
    g_ptr_array_unref(self->loaders);
    g_hash_table_unref(self->cpu_modes);
    g_hash_table_unref(self->cpu_models);
    g_hash_table_unref(self->values);
    g_free(self);
}

static const Arch *
find_arch(const VrHostCaps *self, const char *name)
{
    for (guint i = 0; i < self->archs->len; i++) {
        const Arch *arch = g_ptr_array_index(self->archs, i);

        if (g_str_equal(arch->name, name) && arch->emulator)
            return arch;
    }
    return NULL;
}

const char *
vr_host_caps_emulator(const VrHostCaps *self, const char *name)
{
    const Arch *arch = find_arch(self, name);

    return arch ? arch->emulator : NULL;
}

const char *
vr_host_caps_virt_type(const VrHostCaps *self, const VrDomainModel *model)
{
    const Arch *arch = find_arch(self, model->arch);

    if (!arch || (!arch->kvm && !arch->qemu))
        return NULL;
    if (arch->kvm && (g_str_equal(model->virt_type, "kvm") || !arch->qemu))
        return "kvm";
    return "qemu";
}

const char *
vr_host_caps_machine(const VrHostCaps *self, const char *arch_name, const char *name)
{
    const Arch *arch = find_arch(self, arch_name);
    const Machine *machine = arch ? find_machine(arch, name) : NULL;

    if (!machine)
        return NULL;
    return machine->canonical ? machine->canonical : machine->name;
}

const char *
vr_host_caps_loader(const VrHostCaps *self, const VrDomainModel *model)
{
    g_autofree char *wanted = NULL;

    if (model->firmware != VR_DOMAIN_FIRMWARE_EFI || !model->source_loader)
        return NULL;
    for (guint i = 0; i < self->loaders->len; i++) {
        if (g_str_equal(g_ptr_array_index(self->loaders, i), model->source_loader))
            return g_ptr_array_index(self->loaders, i);
    }
    wanted = g_path_get_basename(model->source_loader);
    for (guint i = 0; i < self->loaders->len; i++) {
        g_autofree char *name = g_path_get_basename(g_ptr_array_index(self->loaders, i));

        if (g_str_equal(name, wanted))
            return g_ptr_array_index(self->loaders, i);
    }
    return NULL;
}

gboolean
vr_host_caps_allows(const VrHostCaps *self, const char *device, const char *property,
                    const char *value)
{
    g_autofree char *key = g_strdup_printf("%s.%s", device, property);
    GHashTable *set = g_hash_table_lookup(self->values, key);

    return !set || g_hash_table_contains(set, value);
}

/* "pc-q35-" of "pc-q35-9.0": what a machine type has in common with its other versions. */
static gsize
family_length(const char *machine)
{
    const char *dash = strrchr(machine, '-');

    return dash ? (gsize) (dash - machine) + 1 : strlen(machine);
}

static gint
newest_first(gconstpointer a, gconstpointer b)
{
    const char *left = *(const char *const *) a, *right = *(const char *const *) b;
    g_autofree char *left_key = g_utf8_collate_key_for_filename(left, -1);
    g_autofree char *right_key = g_utf8_collate_key_for_filename(right, -1);

    return strcmp(right_key, left_key);
}

static char *
suggest_machines(const Arch *arch, const char *wanted)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (guint i = 0; i < arch->machines->len; i++) {
        const Machine *machine = g_ptr_array_index(arch->machines, i);

        if (!machine->canonical && !machine->deprecated &&
            strncmp(machine->name, wanted, family_length(wanted)) == 0)
            g_ptr_array_add(names, machine->name);
    }
    if (names->len == 0)
        return g_strdup("none of its kind");
    g_ptr_array_sort(names, newest_first);
    g_ptr_array_set_size(names, MIN(names->len, SUGGESTIONS_MAX) + 1);
    names->pdata[names->len - 1] = NULL;
    return g_strjoinv(", ", (char **) names->pdata);
}

static const Machine *
supported_machine(const VrHostCaps *self, const VrDomainModel *model, VrFindings *findings)
{
    const Arch *arch = find_arch(self, model->arch);
    const Machine *machine;
    g_autofree char *suggestions = NULL;

    if (!arch || !vr_host_caps_virt_type(self, model)) {
        vr_findings_add(findings, VR_FINDING_ERROR, "arch-missing",
                        "Install the emulator for this architecture on the host.",
                        "this host has no emulator for %s", model->arch);
        return NULL;
    }
    machine = find_machine(arch, model->machine);
    if (machine)
        return machine;
    suggestions = suggest_machines(arch, model->machine);
    vr_findings_add(findings, VR_FINDING_ERROR, "machine-type-missing",
                    "Install a newer QEMU on this host, or give the domain a machine type that "
                    "both hosts have.",
                    "this host's QEMU does not have machine type '%s'; it has %s", model->machine,
                    suggestions);
    return NULL;
}

gboolean
vr_host_caps_check_machine(const VrHostCaps *self, const VrDomainModel *model, VrFindings *findings)
{
    return supported_machine(self, model, findings) != NULL;
}

static void
check_vcpus(const VrHostCaps *self, const Machine *machine, const VrDomainModel *model,
            VrFindings *findings)
{
    guint max = machine->max_vcpus ? machine->max_vcpus : G_MAXUINT;

    if (self->max_vcpus)
        max = MIN(max, self->max_vcpus);
    if (model->vcpus > max)
        vr_findings_add(findings, VR_FINDING_ERROR, "too-many-vcpus",
                        "Give the domain fewer virtual CPUs.",
                        "the domain has %u virtual CPUs, machine type '%s' can have %u here",
                        model->vcpus, model->machine, max);
}

static void
check_cpu_model(const VrHostCaps *self, const VrDomainModel *model, gboolean kvm,
                VrFindings *findings)
{
    const VrDomainCpu *cpu = &model->cpu;
    gboolean enforced = kvm && g_strcmp0(cpu->check, "none") != 0;
    gpointer usable;

    if (!cpu->model || g_hash_table_size(self->cpu_models) == 0)
        return;
    if (!g_hash_table_lookup_extended(self->cpu_models, cpu->model, NULL, &usable)) {
        vr_findings_add(findings, VR_FINDING_ERROR, "cpu-model-missing",
                        "Give the domain a CPU model that both hosts know.",
                        "this host does not know CPU model '%s'", cpu->model);
        return;
    }
    if (!GPOINTER_TO_UINT(usable))
        vr_findings_add(findings, enforced ? VR_FINDING_ERROR : VR_FINDING_WARNING,
                        "cpu-model-unusable",
                        "Give the domain a CPU model that both hosts can offer in full.",
                        "this host lacks features of CPU model '%s'", cpu->model);
}

static void
check_cpu(const VrHostCaps *self, const VrDomainModel *model, VrFindings *findings)
{
    const char *mode = model->cpu.mode ? model->cpu.mode : "custom";
    gboolean kvm = g_str_equal(vr_host_caps_virt_type(self, model), "kvm");

    if (g_str_equal(mode, "host-passthrough"))
        vr_findings_add(findings, VR_FINDING_WARNING, "cpu-host-passthrough",
                        "Give the domain a named CPU model if its software is particular.",
                        "the guest sees this host's CPU after a failover, not the one it had");
    if (g_str_equal(mode, "host-model"))
        vr_findings_add(findings, VR_FINDING_WARNING, "cpu-host-model",
                        "Give the domain a named CPU model if its software is particular.",
                        "the guest sees a CPU model chosen for this host after a failover");
    if (self->detailed && model->cpu.mode && !g_hash_table_contains(self->cpu_modes, mode)) {
        vr_findings_add(findings, VR_FINDING_ERROR, "cpu-mode-missing",
                        "Give the domain a named CPU model that both hosts know.",
                        "this host cannot offer CPU mode '%s' to a domain of type '%s'", mode,
                        kvm ? "kvm" : "qemu");
        return;
    }
    if (g_str_equal(mode, "custom"))
        check_cpu_model(self, model, kvm, findings);
}

static void
check_devices(const VrHostCaps *self, const VrDomainModel *model, VrFindings *findings)
{
    for (guint i = 0; i < model->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(model->disks, i);

        if (!vr_host_caps_allows(self, "disk", "bus", disk->bus))
            vr_findings_add(findings, VR_FINDING_ERROR, "disk-bus-missing",
                            "Put the disk on a bus that both hosts have, as virtio.",
                            "this host's QEMU cannot attach disk '%s' to bus '%s'", disk->target,
                            disk->bus);
    }
    if (model->tpm_model && !vr_host_caps_allows(self, "tpm", "backendModel", "emulator"))
        vr_findings_add(findings, VR_FINDING_ERROR, "tpm-missing",
                        "Install swtpm on this host and restart libvirt.",
                        "this host cannot emulate the domain's TPM");
    if (self->detailed && model->firmware == VR_DOMAIN_FIRMWARE_EFI && !self->efi)
        vr_findings_add(findings, VR_FINDING_ERROR, "firmware-missing",
                        "Install UEFI firmware (package ovmf or edk2-ovmf) on this host.",
                        "this host has no UEFI firmware for machine type '%s'", model->machine);
}

static void
check_memory(const VrDomainModel *model, guint64 memory, guint64 free_memory, VrFindings *findings)
{
    if (memory && model->current_memory > memory) /* up to its maximum only if it is given more */
        vr_findings_add(findings, VR_FINDING_ERROR, "memory-too-large",
                        "Give the domain no more memory than both hosts have.",
                        "the domain needs %" G_GUINT64_FORMAT
                        " MiB of memory, this host has %" G_GUINT64_FORMAT " MiB in all",
                        model->current_memory >> 20, memory >> 20);
    else if (free_memory && model->memory > free_memory)
        vr_findings_add(findings, VR_FINDING_WARNING, "memory-short",
                        "Free memory on this host before a failover.",
                        "the domain needs %" G_GUINT64_FORMAT
                        " MiB of memory, this host has %" G_GUINT64_FORMAT " MiB free",
                        model->memory >> 20, free_memory >> 20);
}

void
vr_host_caps_check(const VrHostCaps *self, const VrDomainModel *model, guint64 memory,
                   guint64 free_memory, VrFindings *findings)
{
    const Machine *machine = supported_machine(self, model, findings);

    if (!machine)
        return;
    if (!g_str_equal(vr_host_caps_virt_type(self, model), model->virt_type) &&
        g_str_equal(model->virt_type, "kvm"))
        vr_findings_add(findings, VR_FINDING_WARNING, "kvm-missing",
                        "Enable virtualization on this host.",
                        "this host has no KVM: the domain would be emulated, many times slower");
    check_vcpus(self, machine, model, findings);
    check_cpu(self, model, findings);
    check_devices(self, model, findings);
    check_memory(model, memory, free_memory, findings);
}
