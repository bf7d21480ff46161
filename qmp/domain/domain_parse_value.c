/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_parse.h"

#include <string.h>

#include "policies/error.h"

void
vr_parse_list_unknown(VrDomainModel *model, xmlNode *node, const char *attr, const char *value)
{
    g_autofree char *shown = vr_node_printable(value);
    g_autofree char *element = vr_node_printable((const char *) node->name);

    vr_findings_add(model->findings, VR_FINDING_WARNING, "value-dropped",
                    "Check that the guest runs with the default in its place.",
                    "%s%s%s='%s' is not known here and is left out", element, attr ? " " : "",
                    attr ? attr : "", shown);
}

const char *
vr_parse_word(VrDomainModel *model, xmlNode *node, const char *attr, VrWords words)
{
    const char *value = vr_node_attr(node, attr);
    const char *word = vr_word(words, value);

    if (value && !word)
        vr_parse_list_unknown(model, node, attr, value);
    return word;
}

static gboolean
to_number(const char *text, gint64 max, gint64 *ret_number)
{
    gboolean hex = g_str_has_prefix(text, "0x");
    guint64 number;

    if (!g_ascii_string_to_unsigned(hex ? text + 2 : text, hex ? 16 : 10, 0, max, &number, NULL))
        return FALSE;
    *ret_number = number;
    return TRUE;
}

gint64
vr_parse_number(VrDomainModel *model, xmlNode *node, const char *attr, gint64 max)
{
    const char *value = vr_node_attr(node, attr);
    gint64 number = -1;

    if (value && !to_number(value, max, &number))
        vr_parse_list_unknown(model, node, attr, value);
    return number;
}

gint64
vr_parse_number_text(VrDomainModel *model, xmlNode *node, gint64 max)
{
    g_autofree char *text = node ? vr_node_text(node) : NULL;
    gint64 number = -1;

    if (text && !to_number(text, max, &number))
        vr_parse_list_unknown(model, node, NULL, text);
    return number;
}

gboolean
vr_parse_is_token(const char *text, gsize max_bytes)
{
    gsize n = strspn(text, G_CSET_a_2_z G_CSET_A_2_Z "0123456789._+-");

    return n > 0 && n <= max_bytes && text[n] == 0 && text[0] != '-';
}

char *
vr_parse_token(VrDomainModel *model, xmlNode *node, const char *attr, gsize max_bytes)
{
    const char *value = vr_node_attr(node, attr);

    if (value && vr_parse_is_token(value, max_bytes))
        return g_strdup(value);
    if (value)
        vr_parse_list_unknown(model, node, attr, value);
    return NULL;
}

gboolean
vr_parse_is_printable(const char *text, const char *extra)
{
    for (; *text; text = g_utf8_next_char(text)) {
        gunichar c = g_utf8_get_char(text);

        if (!g_unichar_isprint(c) && !(c < 0x80 && strchr(extra, (int) c)))
            return FALSE;
    }
    return TRUE;
}

char *
vr_parse_text(VrDomainModel *model, xmlNode *node, gsize max_bytes, const char *extra)
{
    g_autofree char *text = node ? vr_node_text(node) : NULL;

    if (!text || !*text)
        return NULL;
    if (strlen(text) <= max_bytes && vr_parse_is_printable(text, extra))
        return g_steal_pointer(&text);
    vr_parse_list_unknown(model, node, NULL, text);
    return NULL;
}

gboolean
vr_parse_refuse(xmlNode *node, const char *text, GError **error)
{
    g_autofree char *shown = vr_node_printable(text);
    g_autofree char *element = vr_node_printable((const char *) node->name);

    vr_set_error(error, VR_ERROR_INVALID, "domain-value-invalid",
                 "Correct the domain's definition.", "domain XML: <%s>: '%s' is not accepted",
                 element, shown);
    return FALSE;
}

char *
vr_parse_token_text(VrDomainModel *model, xmlNode *node)
{
    g_autofree char *text = node ? vr_node_text(node) : NULL;

    if (!text || !*text)
        return NULL;
    if (vr_parse_is_token(text, VR_PARSE_TOKEN_MAX))
        return g_steal_pointer(&text);
    vr_parse_list_unknown(model, node, NULL, text);
    return NULL;
}

void
vr_parse_address(VrDomainModel *model, xmlNode *device, VrDomainAddress *ret_address)
{
    xmlNode *node = vr_node_child(device, "address");
    const char *type = node ? vr_node_attr(node, "type") : NULL;
    VrDomainAddress address = {VR_DOMAIN_ADDRESS_NONE, {-1, -1, -1, -1}, FALSE};

    *ret_address = address;
    if (!node)
        return;
    if (g_strcmp0(type, "isa") == 0) {
        vr_node_ignore(node);
        return;
    }
    for (guint kind = VR_DOMAIN_ADDRESS_PCI; kind <= VR_DOMAIN_ADDRESS_CCW; kind++) {
        const VrAddressLayout *layout = vr_domain_address_layout(kind);

        if (g_strcmp0(type, layout->type) != 0)
            continue;
        address.kind = kind;
        for (gsize i = 0; i < G_N_ELEMENTS(layout->attributes) && layout->attributes[i]; i++) {
            const char *name = layout->attributes[i];

            address.part[i] = vr_parse_number(model, node, name, layout->limits[i]);
            if (address.part[i] < 0 && vr_node_attr(node, name))
                return; /* listed; libvirt chooses another one */
        }
        address.multifunction = g_strcmp0(vr_node_attr(node, "multifunction"), "on") == 0;
        *ret_address = address;
        return;
    }
    node->_private = NULL; /* listed as an element */
}

gint64
vr_parse_boot_order(VrDomainModel *model, xmlNode *device)
{
    xmlNode *boot = vr_node_child(device, "boot");

    return boot ? vr_parse_number(model, boot, "order", 65535) : -1;
}

gboolean
vr_parse_too_many(VrDomainModel *model, const char *what, guint max, GError **error)
{
    vr_set_error(error, VR_ERROR_INVALID,
                 g_str_equal(what, "disk") ? "too-many-disks" : "too-many-devices",
                 "Remove devices from the domain.", "domain '%s' has more than %u <%s> devices",
                 model->name, max, what);
    return FALSE;
}
