/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_parse.h"

#include <string.h>

#include "policies/error.h"

#define MEMORY_MIN (1 * 1024 * 1024ULL)
#define MEMORY_MAX (64ULL * 1024 * 1024 * 1024 * 1024)
#define VCPUS_MAX 4096
#define IOTHREADS_MAX 64
#define CPU_FEATURES_MAX 512
#define TIMERS_MAX 16
#define TITLE_MAX 255
#define DESCRIPTION_MAX 4096

static gboolean
parse_name(VrDomainModel *model, xmlNode *root, GError **error)
{
    xmlNode *node = vr_node_child(root, "name");
    g_autofree char *name = node ? vr_node_text(node) : g_strdup("");
    g_autofree char *shown = vr_node_printable(name);
    const char *why = NULL;

    if (!*name)
        why = "is empty";
    else if (strlen(name) > VR_DOMAIN_NAME_MAX)
        why = "is longer than 255 bytes";
    else if (!vr_parse_is_printable(name, ""))
        why = "has characters that cannot be shown";
    else if (strchr(name, '/') || g_str_equal(name, ".") || g_str_equal(name, ".."))
        why = "could be taken for a path";
    else if (name[0] == '-')
        why = "could be taken for an option";
    if (why) {
        vr_set_error(error, VR_ERROR_INVALID, "domain-name-invalid",
                     "Rename the domain (virsh domrename).", "domain name '%s' %s", shown, why);
        return FALSE;
    }
    model->name = g_steal_pointer(&name);
    return TRUE;
}

/* NULL if @text is none. */
static char *
canonical_uuid(const char *text)
{
    return g_uuid_string_is_valid(text) ? g_ascii_strdown(text, -1) : NULL;
}

static gboolean
parse_uuid(VrDomainModel *model, xmlNode *root, GError **error)
{
    xmlNode *node = vr_node_child(root, "uuid");
    g_autofree char *text = node ? vr_node_text(node) : g_strdup("");
    g_autofree char *shown = vr_node_printable(text);

    model->uuid = canonical_uuid(text);
    if (model->uuid)
        return TRUE;
    vr_set_error(error, VR_ERROR_INVALID, "domain-uuid-invalid",
                 "Send the XML as libvirt prints it.", "domain '%s': UUID '%s' is none",
                 model->name, shown);
    return FALSE;
}

static guint64
unit_bytes(const char *unit)
{
    static const struct {
        const char *name;
        guint64 bytes;
    } units[] = {
        {"b", 1},           {"bytes", 1},        {"KB", 1000},     {"k", 1 << 10},
        {"KiB", 1 << 10},   {"MB", 1000000},     {"M", 1 << 20},   {"MiB", 1 << 20},
        {"GB", 1000000000}, {"G", 1 << 30},      {"GiB", 1 << 30}, {"TB", 1000000000000},
        {"T", 1ULL << 40},  {"TiB", 1ULL << 40},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(units); i++) {
        if (g_str_equal(units[i].name, unit ? unit : "KiB"))
            return units[i].bytes;
    }
    return 0;
}

/* 0 if it is no size from 1 MiB to 64 TiB. */
static guint64
parse_size(xmlNode *node)
{
    g_autofree char *text = vr_node_text(node);
    guint64 unit = unit_bytes(vr_node_attr(node, "unit"));
    guint64 number, bytes;

    if (!unit || !g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT64, &number, NULL))
        return 0;
    if (!g_uint64_checked_mul(&bytes, number, unit) || bytes < MEMORY_MIN || bytes > MEMORY_MAX)
        return 0;
    return bytes;
}

static gboolean
parse_memory(VrDomainModel *model, xmlNode *root, GError **error)
{
    xmlNode *memory = vr_node_child(root, "memory");
    xmlNode *current = vr_node_child(root, "currentMemory");
    g_autofree char *text = vr_node_text(memory ? memory : root);

    model->memory = memory ? parse_size(memory) : 0;
    if (!model->memory)
        return vr_parse_refuse(memory ? memory : root, text, error);
    model->current_memory = current ? parse_size(current) : 0;
    if (!model->current_memory || model->current_memory > model->memory)
        model->current_memory = model->memory;
    return TRUE;
}

static gboolean
parse_vcpus(VrDomainModel *model, xmlNode *root, GError **error)
{
    xmlNode *node = vr_node_child(root, "vcpu");
    gint64 n = node ? vr_parse_number_text(model, node, VCPUS_MAX) : 1;
    gint64 current = node ? vr_parse_number(model, node, "current", VCPUS_MAX) : -1;

    if (n < 1) {
        g_autofree char *text = vr_node_text(node);

        return vr_parse_refuse(node, text, error);
    }
    if (node)
        vr_node_ignore_attr(node, "placement");
    model->vcpus = n;
    model->current_vcpus = current >= 1 && current <= n ? current : n;
    return TRUE;
}

static void
parse_topology(VrDomainModel *model, xmlNode *cpu)
{
    xmlNode *node = vr_node_child(cpu, "topology");
    gint64 sockets, dies, cores, threads;

    if (!node)
        return;
    sockets = vr_parse_number(model, node, "sockets", VCPUS_MAX);
    dies = vr_parse_number(model, node, "dies", VCPUS_MAX);
    cores = vr_parse_number(model, node, "cores", VCPUS_MAX);
    threads = vr_parse_number(model, node, "threads", VCPUS_MAX);
    if (sockets < 1 || cores < 1 || threads < 1 || dies == 0 ||
        sockets * ABS(dies) * cores * threads != model->vcpus) {
        vr_parse_list_unknown(model, node, NULL, "not as many threads as virtual CPUs");
        return;
    }
    model->cpu.sockets = sockets;
    model->cpu.dies = dies;
    model->cpu.cores = cores;
    model->cpu.threads = threads;
}

static void
parse_cpu_features(VrDomainModel *model, xmlNode *cpu)
{
    xmlNode *node = vr_node_child(cpu, "feature");

    for (; node; node = vr_node_next(node, "feature")) {
        VrDomainCpuFeature *feature;
        g_autofree char *name = vr_parse_token(model, node, "name", VR_PARSE_TOKEN_MAX);

        if (!name || model->cpu.features->len >= CPU_FEATURES_MAX)
            continue;
        feature = g_new0(VrDomainCpuFeature, 1);
        feature->name = g_steal_pointer(&name);
        feature->policy = vr_parse_word(model, node, "policy", vr_words_cpu_policy);
        g_ptr_array_add(model->cpu.features, feature);
    }
}

static void
parse_cpu(VrDomainModel *model, xmlNode *root)
{
    xmlNode *node = vr_node_child(root, "cpu");
    xmlNode *name, *cache;
    VrDomainCpu *cpu = &model->cpu;

    if (!node)
        return;
    cpu->mode = vr_parse_word(model, node, "mode", vr_words_cpu_mode);
    cpu->match = vr_parse_word(model, node, "match", vr_words_cpu_match);
    cpu->check = vr_parse_word(model, node, "check", vr_words_cpu_check);
    cpu->migratable = vr_parse_word(model, node, "migratable", vr_words_on_off);
    name = vr_node_child(node, "model");
    if (name) {
        cpu->fallback = vr_parse_word(model, name, "fallback", vr_words_cpu_fallback);
        cpu->model = vr_parse_token_text(model, name);
    }
    cpu->vendor = vr_parse_token_text(model, vr_node_child(node, "vendor"));
    cache = vr_node_child(node, "cache");
    if (cache) {
        cpu->cache_mode = vr_parse_word(model, cache, "mode", vr_words_cpu_cache);
        cpu->cache_level = vr_parse_number(model, cache, "level", 3);
    }
    parse_topology(model, node);
    parse_cpu_features(model, node);
}

static void
parse_feature(VrDomainModel *model, xmlNode *parent, const VrFeatureWord *known)
{
    xmlNode *node = vr_node_child(parent, known->name);
    VrDomainFeature *feature;
    xmlNode *direct;
    gint64 number;

    if (!node)
        return;
    feature = g_new0(VrDomainFeature, 1);
    feature->group = known->group;
    feature->name = known->name;
    feature->state = vr_parse_word(model, node, "state", vr_words_on_off);
    switch (known->value) {
    case VR_FEATURE_VALUE_NONE:
        break;
    case VR_FEATURE_VALUE_NUMBER:
        number = vr_parse_number(model, node, known->attribute, G_MAXUINT32);
        feature->value = number < 0 ? NULL : g_strdup_printf("%" G_GINT64_FORMAT, number);
        break;
    case VR_FEATURE_VALUE_TOKEN:
        feature->value = vr_parse_token(model, node, known->attribute, 12);
        break;
    }
    if (known->attribute && vr_node_attr(node, known->attribute) && !feature->value) {
        g_free(feature); /* listed; it is nothing without its value */
        return;
    }
    direct = vr_node_child(node, "direct");
    feature->direct = direct && g_strcmp0(vr_node_attr(direct, "state"), "on") == 0;
    g_ptr_array_add(model->features, feature);
}

static void
parse_features(VrDomainModel *model, xmlNode *root)
{
    xmlNode *features = vr_node_child(root, "features");
    xmlNode *hyperv = features ? vr_node_child(features, "hyperv") : NULL;

    for (gsize i = 0; features && vr_feature_words[i].name; i++) {
        const char *group = vr_feature_words[i].group;
        xmlNode *parent = group ? vr_node_child(features, group) : features;

        if (parent)
            parse_feature(model, parent, &vr_feature_words[i]);
    }
    if (hyperv)
        model->hyperv_mode = vr_parse_word(model, hyperv, "mode", vr_words_hyperv_mode);
}

/* "Europe/Berlin": no more than two slashes, none at the ends, so never a path. */
static gboolean
is_timezone(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "/", 4);
    guint n = g_strv_length(parts);

    for (guint i = 0; i < n; i++) {
        if (!vr_parse_is_token(parts[i], 32) || strchr(parts[i], '.'))
            return FALSE;
    }
    return n >= 1 && n <= 3;
}

static gboolean
is_adjustment(const char *text)
{
    gint64 seconds;

    return g_str_equal(text, "reset") ||
           g_ascii_string_to_signed(text, 10, -G_MAXINT32, G_MAXINT32, &seconds, NULL);
}

static void
parse_timers(VrDomainModel *model, xmlNode *clock)
{
    xmlNode *node = vr_node_child(clock, "timer");

    for (; node && model->timers->len < TIMERS_MAX; node = vr_node_next(node, "timer")) {
        const char *name = vr_parse_word(model, node, "name", vr_words_timer);
        VrDomainTimer *timer;

        if (!name)
            continue;
        timer = g_new0(VrDomainTimer, 1);
        timer->name = name;
        timer->present = vr_parse_word(model, node, "present", vr_words_yes_no);
        timer->tickpolicy = vr_parse_word(model, node, "tickpolicy", vr_words_timer_tickpolicy);
        timer->track = vr_parse_word(model, node, "track", vr_words_timer_track);
        timer->mode = vr_parse_word(model, node, "mode", vr_words_timer_mode);
        timer->frequency = vr_parse_number(model, node, "frequency", G_MAXINT64);
        g_ptr_array_add(model->timers, timer);
    }
}

static void
parse_clock(VrDomainModel *model, xmlNode *root)
{
    xmlNode *node = vr_node_child(root, "clock");
    const char *zone, *adjustment;

    if (!node)
        return;
    model->clock_offset = vr_parse_word(model, node, "offset", vr_words_clock_offset);
    model->clock_basis = vr_parse_word(model, node, "basis", vr_words_clock_basis);
    zone = vr_node_attr(node, "timezone");
    if (zone && is_timezone(zone))
        model->timezone = g_strdup(zone);
    else if (zone)
        vr_parse_list_unknown(model, node, "timezone", zone);
    adjustment = vr_node_attr(node, "adjustment");
    if (adjustment && is_adjustment(adjustment))
        model->clock_adjustment = g_strdup(adjustment);
    else if (adjustment)
        vr_parse_list_unknown(model, node, "adjustment", adjustment);
    if (g_strcmp0(model->clock_offset, "timezone") == 0 && !model->timezone)
        model->clock_offset = vr_word(vr_words_clock_offset, "utc");
    parse_timers(model, node);
}

static const char *
parse_lifecycle(VrDomainModel *model, xmlNode *root, const char *name)
{
    xmlNode *node = vr_node_child(root, name);
    g_autofree char *text = node ? vr_node_text(node) : NULL;
    const char *word = vr_word(vr_words_lifecycle, text);

    if (text && !word)
        vr_parse_list_unknown(model, node, NULL, text);
    return word;
}

static const char *
parse_suspend(VrDomainModel *model, xmlNode *pm, const char *name)
{
    xmlNode *node = pm ? vr_node_child(pm, name) : NULL;

    return node ? vr_parse_word(model, node, "enabled", vr_words_yes_no) : NULL;
}

static void
parse_genid(VrDomainModel *model, xmlNode *root)
{
    xmlNode *node = vr_node_child(root, "genid");
    g_autofree char *text = node ? vr_node_text(node) : NULL;

    if (!text)
        return;
    model->genid = canonical_uuid(text);
    if (!model->genid)
        vr_parse_list_unknown(model, node, NULL, text);
}

/* Our own element is written anew on each side; the others belong to other programs. */
static void
parse_metadata(xmlNode *root)
{
    xmlNode *metadata = vr_node_child(root, "metadata");
    gboolean foreign = FALSE;

    if (!metadata)
        return;
    for (xmlNode *node = metadata->children; node; node = node->next) {
        if (node->type == XML_ELEMENT_NODE &&
            (!node->ns || g_strcmp0((const char *) node->ns->href, VR_DOMAIN_XMLNS) != 0))
            foreign = TRUE;
    }
    if (foreign)
        metadata->_private = NULL;
    else
        vr_node_ignore(metadata);
}

static void
parse_iothreads(VrDomainModel *model, xmlNode *root)
{
    gint64 n = vr_parse_number_text(model, vr_node_child(root, "iothreads"), IOTHREADS_MAX);
    xmlNode *ids = vr_node_child(root, "iothreadids");
    xmlNode *node = ids ? vr_node_child(ids, "iothread") : NULL;

    model->iothreads = MAX(n, 0);
    for (; node; node = vr_node_next(node, "iothread")) {
        if (vr_parse_number(model, node, "id", G_MAXINT32) > n)
            vr_parse_list_unknown(model, node, "id", vr_node_attr(node, "id"));
    }
}

static void
parse_general(VrDomainModel *model, xmlNode *root)
{
    xmlNode *pm = vr_node_child(root, "pm");

    model->title = vr_parse_text(model, vr_node_child(root, "title"), TITLE_MAX, "");
    model->description =
        vr_parse_text(model, vr_node_child(root, "description"), DESCRIPTION_MAX, "\n\t");
    parse_genid(model, root);
    parse_iothreads(model, root);
    parse_cpu(model, root);
    parse_features(model, root);
    parse_clock(model, root);
    model->on_poweroff = parse_lifecycle(model, root, "on_poweroff");
    model->on_reboot = parse_lifecycle(model, root, "on_reboot");
    model->on_crash = parse_lifecycle(model, root, "on_crash");
    model->suspend_to_mem = parse_suspend(model, pm, "suspend-to-mem");
    model->suspend_to_disk = parse_suspend(model, pm, "suspend-to-disk");
    parse_metadata(root);
    vr_node_ignore_attr(root, "id");
    vr_node_ignore_child(root, "resource");
}

static gboolean
fill(VrDomainModel *model, xmlNode *root, GError **error)
{
    xmlNode *devices;

    if (!vr_node_is(root, "domain")) {
        vr_set_error(error, VR_ERROR_INVALID, "domain-xml-unsupported",
                     "Send the XML of a libvirt domain.", "the XML is not that of a domain");
        return FALSE;
    }
    if (!parse_name(model, root, error) || !parse_uuid(model, root, error) ||
        !parse_memory(model, root, error) || !parse_vcpus(model, root, error) ||
        !vr_domain_parse_os(model, root, error))
        return FALSE;
    parse_general(model, root);
    devices = vr_node_child(root, "devices");
    if (devices && !vr_domain_parse_devices(model, devices, error))
        return FALSE;
    vr_node_list_unseen(root, model->findings);
    return TRUE;
}

VrDomainModel *
vr_domain_model_parse(const char *xml, gsize len, GError **error)
{
    g_autoptr(xmlDoc) doc = vr_domain_doc_read("domain XML", xml, len, VR_DOMAIN_XML_MAX, error);
    g_autoptr(VrDomainModel) model = NULL;

    if (!doc)
        return NULL;
    model = vr_domain_model_new();
    if (!fill(model, xmlDocGetRootElement(doc), error))
        return NULL;
    return g_steal_pointer(&model);
}
