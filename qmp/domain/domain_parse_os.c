/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_parse.h"

#include <string.h>

#include "policies/error.h"

#define CMDLINE_MAX 4096 /* bytes */
#define PATH_BYTES_MAX 4095

static gboolean
parse_os_type(VrDomainModel *model, xmlNode *root, xmlNode *os, GError **error)
{
    xmlNode *type = os ? vr_node_child(os, "type") : NULL;
    g_autofree char *text = type ? vr_node_text(type) : NULL;
    const char *arch = type ? vr_node_attr(type, "arch") : NULL;
    const char *machine = type ? vr_node_attr(type, "machine") : NULL;

    model->virt_type = vr_word(vr_words_virt_type, vr_node_attr(root, "type"));
    if (!model->virt_type || g_strcmp0(text, "hvm") != 0 || !arch || !machine) {
        vr_set_error(error, VR_ERROR_INVALID, "domain-xml-unsupported",
                     "Protect full virtual machines of QEMU only.",
                     "domain '%s' is no QEMU virtual machine with a machine type", model->name);
        return FALSE;
    }
    if (!vr_parse_is_token(arch, VR_PARSE_TOKEN_MAX))
        return vr_parse_refuse(type, arch, error);
    if (!vr_parse_is_token(machine, VR_PARSE_TOKEN_MAX))
        return vr_parse_refuse(type, machine, error);
    model->arch = g_strdup(arch);
    model->machine = g_strdup(machine);
    return TRUE;
}

/* A path as a fact about the other host; FALSE if it is no absolute one. */
static gboolean
parse_path(xmlNode *node, char **ret_path, GError **error)
{
    g_autofree char *path = node ? vr_node_text(node) : NULL;

    if (!path || !*path)
        return TRUE;
    if (path[0] != '/' || strlen(path) > PATH_BYTES_MAX)
        return vr_parse_refuse(node, path, error);
    *ret_path = g_steal_pointer(&path);
    return TRUE;
}

static void
parse_firmware_features(VrDomainModel *model, xmlNode *os)
{
    xmlNode *firmware = vr_node_child(os, "firmware");
    xmlNode *node = firmware ? vr_node_child(firmware, "feature") : NULL;

    for (; node; node = vr_node_next(node, "feature")) {
        const char *name = vr_node_attr(node, "name");
        const char *enabled = vr_parse_word(model, node, "enabled", vr_words_yes_no);

        if (g_strcmp0(name, "secure-boot") == 0)
            model->secure_boot = enabled;
        else if (g_strcmp0(name, "enrolled-keys") == 0)
            model->enrolled_keys = enabled;
        else
            vr_parse_list_unknown(model, node, "name", name ? name : "");
    }
}

static gboolean
is_packaged(const char *path)
{
    return g_str_has_prefix(path, "/usr/share/") && !strstr(path, "/../");
}

/* A firmware image of a package is replaced by the other host's without a word. */
static gboolean
parse_loader(VrDomainModel *model, xmlNode *os, gboolean *ret_stateless, GError **error)
{
    xmlNode *node = vr_node_child(os, "loader");
    const char *type = node ? vr_node_attr(node, "type") : NULL;

    if (!node)
        return TRUE;
    vr_node_ignore_attr(node, "readonly");
    vr_node_ignore_attr(node, "format");
    *ret_stateless = g_strcmp0(vr_node_attr(node, "stateless"), "yes") == 0;
    model->loader_secure = g_strcmp0(vr_node_attr(node, "secure"), "yes") == 0;
    if (!parse_path(node, &model->source_loader, error))
        return FALSE;
    if (g_strcmp0(type, "pflash") == 0)
        model->firmware = VR_DOMAIN_FIRMWARE_EFI;
    if (model->source_loader &&
        (model->firmware != VR_DOMAIN_FIRMWARE_EFI || !is_packaged(model->source_loader)))
        node->_private = NULL; /* a file of the operator's own: listed */
    return TRUE;
}

static gboolean
parse_nvram(VrDomainModel *model, xmlNode *os, gboolean stateless, GError **error)
{
    xmlNode *node = vr_node_child(os, "nvram");
    const char *format = node ? vr_node_attr(node, "format") : NULL;
    const char *type = node ? vr_node_attr(node, "type") : NULL;
    const char *template = node ? vr_node_attr(node, "template") : NULL;

    model->nvram_raw = !format || g_str_equal(format, "raw");
    if (node)
        vr_node_ignore_attr(node, "templateFormat");
    if (template && !is_packaged(template))
        xmlHasProp(node, BAD_CAST "template")->_private = NULL;
    if (node && type && !g_str_equal(type, "file")) {
        node->_private = NULL;
        node = NULL;
    }
    if (!parse_path(node, &model->source_nvram, error))
        return FALSE;
    if (model->firmware != VR_DOMAIN_FIRMWARE_EFI) {
        g_clear_pointer(&model->source_nvram, g_free);
        return TRUE;
    }
    model->nvram = !stateless;
    if (model->nvram && !model->source_nvram)
        vr_domain_model_set_default_nvram(model);
    return TRUE;
}

static void
parse_boot(VrDomainModel *model, xmlNode *os)
{
    xmlNode *node = vr_node_child(os, "boot");
    xmlNode *menu = vr_node_child(os, "bootmenu");
    gsize n = 0;

    for (; node; node = vr_node_next(node, "boot")) {
        const char *dev = vr_parse_word(model, node, "dev", vr_words_boot);

        if (dev && n < G_N_ELEMENTS(model->boot))
            model->boot[n++] = dev;
    }
    if (menu) {
        model->boot_menu = vr_parse_word(model, menu, "enable", vr_words_yes_no);
        model->boot_menu_timeout = vr_parse_number(model, menu, "timeout", 65535);
    }
}

gboolean
vr_domain_parse_os(VrDomainModel *model, xmlNode *root, GError **error)
{
    xmlNode *os = vr_node_child(root, "os");
    xmlNode *cmdline;
    const char *firmware;
    gboolean stateless = FALSE;

    if (!parse_os_type(model, root, os, error))
        return FALSE;
    firmware = vr_node_attr(os, "firmware");
    if (g_strcmp0(firmware, "efi") == 0)
        model->firmware = VR_DOMAIN_FIRMWARE_EFI;
    else if (firmware && !g_str_equal(firmware, "bios"))
        return vr_parse_refuse(os, firmware, error);
    parse_firmware_features(model, os);
    parse_boot(model, os);
    if (!parse_loader(model, os, &stateless, error) || !parse_nvram(model, os, stateless, error))
        return FALSE;
    if (!parse_path(vr_node_child(os, "kernel"), &model->source_kernel, error) ||
        !parse_path(vr_node_child(os, "initrd"), &model->source_initrd, error) ||
        !parse_path(vr_node_child(os, "dtb"), &model->source_dtb, error))
        return FALSE;
    cmdline = vr_node_child(os, "cmdline");
    model->cmdline = vr_parse_text(model, cmdline, CMDLINE_MAX, "");
    if (cmdline && cmdline->children && !model->cmdline)
        return vr_parse_refuse(cmdline, "not printable or longer than 4096 bytes", error);
    return TRUE;
}
