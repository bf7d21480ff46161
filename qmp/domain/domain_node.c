/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_node.h"

#include <string.h>

#include <libxml/SAX2.h>
#include <libxml/parser.h>
#include <libxml/parserInternals.h>

#include "policies/error.h"
#include "qmp/domain/domain_model.h"

#define PRINTABLE_MAX 64 /* characters */

/* What a node's _private points to; NULL: nobody asked for it. */
static char seen, ignored;

#define SEEN (&seen)
#define IGNORED (&ignored) /* with all that is in it */

#define HOST_BOUND_ACTION "Set it up again on the replica after a failover if the guest needs it."

/* What deserves its own code and words; the path is parent/element or parent/element/@attribute. */
static const struct {
    const char *path, *code, *reason, *action;
    VrFindingSeverity severity;
} known_drops[] = {
    {"devices/hostdev", "hostdev-dropped", "is a device of this one host",
     "Plan for the guest to run without it on the other host.", VR_FINDING_WARNING},
    {"devices/filesystem", "filesystem-dropped", "is a directory of this one host",
     "Keep the data on a disk, or replicate the directory by other means.", VR_FINDING_WARNING},
    {"devices/shmem", "shmem-dropped", "is memory shared on this one host", HOST_BOUND_ACTION,
     VR_FINDING_WARNING},
    {"devices/redirdev", "redirdev-dropped", "is redirected from a client", HOST_BOUND_ACTION,
     VR_FINDING_WARNING},
    {"domain/seclabel", "seclabel-dropped", "is the other host's own choice",
     "No action is needed: the host's default label is used.", VR_FINDING_WARNING},
    {"disk/source/seclabel", "seclabel-dropped", "is the other host's own choice",
     "No action is needed: the host's default label is used.", VR_FINDING_WARNING},
    {"devices/emulator", "emulator-dropped", "is a program of this one host",
     "No action is needed: the other host's own emulator is used.", VR_FINDING_WARNING},
    {"domain/launchSecurity", "launch-security-dropped",
     "binds encrypted memory to this one host's processor",
     "Do not protect this domain: its replica would run without memory encryption.",
     VR_FINDING_ERROR},
    {"domain/cputune", "host-tuning-dropped", "depends on this host's processors",
     HOST_BOUND_ACTION, VR_FINDING_WARNING},
    {"domain/numatune", "host-tuning-dropped", "depends on this host's memory nodes",
     HOST_BOUND_ACTION, VR_FINDING_WARNING},
    {"domain/memtune", "host-tuning-dropped", "depends on this host", HOST_BOUND_ACTION,
     VR_FINDING_WARNING},
    {"domain/blkiotune", "host-tuning-dropped", "depends on this host", HOST_BOUND_ACTION,
     VR_FINDING_WARNING},
    {"domain/memoryBacking", "host-tuning-dropped", "depends on this host's memory",
     HOST_BOUND_ACTION, VR_FINDING_WARNING},
    {"domain/vcpu/@cpuset", "host-tuning-dropped", "depends on this host's processors",
     HOST_BOUND_ACTION, VR_FINDING_WARNING},
    {"domain/commandline", "qemu-commandline-dropped", "goes to QEMU unchecked",
     "Express it with libvirt's own elements.", VR_FINDING_WARNING},
    {"domain/sysinfo", "smbios-dropped", "is not carried over",
     "Set it again on the replica if the guest's licences depend on it.", VR_FINDING_WARNING},
    {"os/smbios", "smbios-dropped", "is not carried over",
     "Set it again on the replica if the guest's licences depend on it.", VR_FINDING_WARNING},
    {"disk/backingStore", "backing-store-dropped", "is a chain of files of this one host",
     "No action is needed: the replica has its own chain with the same content.",
     VR_FINDING_WARNING},
    {"interface/filterref", "nwfilter-dropped", "names a filter of this one host",
     "Define the filter on the other host and add it after a failover.", VR_FINDING_WARNING},
    {"interface/script", "interface-script-dropped", "is a program of this one host",
     HOST_BOUND_ACTION, VR_FINDING_WARNING},
    {"domain/metadata", "metadata-dropped", "belongs to other programs",
     "No action is needed unless a program relies on it on the other host.", VR_FINDING_WARNING},
    {"os/loader", "loader-dropped", "is a file of this one host",
     "Check that the other host has the firmware that the guest needs.", VR_FINDING_WARNING},
    {"os/nvram/@template", "nvram-template-dropped", "is a file of this one host",
     "No action is needed: the variables themselves are replicated.", VR_FINDING_WARNING},
};

typedef struct {
    guint depth;
    gboolean too_deep;
    gboolean doctype;
} ReadState;

/* Called at "<!DOCTYPE", before any of its declarations is read. */
static void
on_doctype(void *data, const xmlChar *name G_GNUC_UNUSED, const xmlChar *external_id G_GNUC_UNUSED,
           const xmlChar *system_id G_GNUC_UNUSED)
{
    xmlParserCtxt *parser = data;
    ReadState *state = parser->_private;

    state->doctype = TRUE;
    xmlStopParser(parser);
}

static void
on_start(void *data, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri,
         int n_namespaces, const xmlChar **namespaces, int n_attributes, int n_defaulted,
         const xmlChar **attributes)
{
    xmlParserCtxt *parser = data;
    ReadState *state = parser->_private;

    if (++state->depth > VR_DOMAIN_XML_DEPTH_MAX) {
        state->too_deep = TRUE;
        xmlStopParser(parser);
        return;
    }
    xmlSAX2StartElementNs(data, name, prefix, uri, n_namespaces, namespaces, n_attributes,
                          n_defaulted, attributes);
}

static void
on_end(void *data, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
    xmlParserCtxt *parser = data;
    ReadState *state = parser->_private;

    state->depth--;
    xmlSAX2EndElementNs(data, name, prefix, uri);
}

static xmlDoc *
parse(const char *what, const char *xml, gsize len, GError **error)
{
    ReadState state = {0};
    xmlParserCtxt *parser = xmlNewParserCtxt();
    xmlDoc *doc;

    parser->_private = &state;
    parser->sax->internalSubset = on_doctype;
    parser->sax->startElementNs = on_start;
    parser->sax->endElementNs = on_end;
    doc = xmlCtxtReadMemory(parser, xml, (int) len, NULL, "UTF-8",
                            XML_PARSE_NONET | XML_PARSE_NOCDATA | XML_PARSE_NOERROR |
                                XML_PARSE_NOWARNING);
    if (state.doctype)
        vr_set_error(error, VR_ERROR_INVALID, "domain-xml-doctype",
                     "Remove the document type declaration.", "%s has a document type", what);
    else if (state.too_deep)
        vr_set_error(error, VR_ERROR_INVALID, "domain-xml-too-deep", "Send a real domain's XML.",
                     "%s is nested deeper than %d elements", what, VR_DOMAIN_XML_DEPTH_MAX);
    else if (!doc || !parser->wellFormed || !xmlDocGetRootElement(doc))
        vr_set_error(error, VR_ERROR_INVALID, "domain-xml-syntax", "Send well-formed XML.",
                     "%s is not well formed at line %d", what, parser->lastError.line);
    else {
        xmlFreeParserCtxt(parser);
        return doc;
    }
    xmlFreeDoc(doc);
    xmlFreeParserCtxt(parser);
    return NULL;
}

xmlDoc *
vr_domain_doc_read(const char *what, const char *xml, gsize len, gsize max_bytes, GError **error)
{
    if (len > max_bytes) {
        vr_set_error(error, VR_ERROR_INVALID, "domain-xml-too-large", "Send a real domain's XML.",
                     "%s has %" G_GSIZE_FORMAT " bytes, the limit is %" G_GSIZE_FORMAT, what, len,
                     max_bytes);
        return NULL;
    }
    if (len == 0 || memchr(xml, 0, len) || !g_utf8_validate(xml, len, NULL)) {
        vr_set_error(error, VR_ERROR_INVALID, "domain-xml-syntax", "Send UTF-8 text.", "%s is %s",
                     what, len == 0 ? "empty" : "not UTF-8 text");
        return NULL;
    }
    return parse(what, xml, len, error);
}

gboolean
vr_node_is(const xmlNode *node, const char *name)
{
    return !node->ns && g_str_equal((const char *) node->name, name);
}

static xmlNode *
first_element(xmlNode *node)
{
    while (node && (node->type != XML_ELEMENT_NODE || node->ns))
        node = node->next;
    return node;
}

xmlNode *
vr_node_first(xmlNode *node)
{
    return first_element(node->children);
}

xmlNode *
vr_node_after(xmlNode *sibling)
{
    return first_element(sibling->next);
}

static xmlNode *
find_named(xmlNode *node, const char *name)
{
    for (; node; node = node->next) {
        if (node->type == XML_ELEMENT_NODE && vr_node_is(node, name)) {
            if (!node->_private)
                node->_private = SEEN;
            return node;
        }
    }
    return NULL;
}

xmlNode *
vr_node_child(xmlNode *node, const char *name)
{
    return find_named(node->children, name);
}

xmlNode *
vr_node_next(xmlNode *sibling, const char *name)
{
    return find_named(sibling->next, name);
}

const char *
vr_node_attr(xmlNode *node, const char *name)
{
    for (xmlAttr *attr = node->properties; attr; attr = attr->next) {
        if (attr->ns || !g_str_equal((const char *) attr->name, name))
            continue;
        attr->_private = SEEN;
        return attr->children && attr->children->content ? (const char *) attr->children->content
                                                         : "";
    }
    return NULL;
}

char *
vr_node_text(xmlNode *node)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (xmlNode *child = node->children; child; child = child->next) {
        if (child->type == XML_TEXT_NODE && child->content)
            g_string_append(text, (const char *) child->content);
    }
    return g_strstrip(g_string_free(g_steal_pointer(&text), FALSE));
}

void
vr_node_ignore(xmlNode *node)
{
    node->_private = IGNORED;
}

void
vr_node_ignore_child(xmlNode *node, const char *name)
{
    for (xmlNode *child = vr_node_child(node, name); child; child = vr_node_next(child, name))
        vr_node_ignore(child);
}

void
vr_node_ignore_attr(xmlNode *node, const char *name)
{
    (void) vr_node_attr(node, name);
}

char *
vr_node_printable(const char *text)
{
    GString *out = g_string_new(NULL);
    glong n = 0;

    for (; *text && n < PRINTABLE_MAX; text = g_utf8_next_char(text), n++) {
        gunichar c = g_utf8_get_char(text);

        if (g_unichar_isprint(c))
            g_string_append_unichar(out, c);
        else
            g_string_append_c(out, '?');
    }
    return g_string_free(out, FALSE);
}

static gboolean
path_ends_with(const char *path, const char *end)
{
    gsize n = strlen(path), m = strlen(end);

    return n >= m && g_str_equal(path + n - m, end) && (n == m || path[n - m - 1] == '/');
}

/* @path is shown; @bare is the same without namespace prefixes, to look the reason up. */
static void
list_drop(const char *path, const char *bare, gboolean is_attribute, VrFindings *findings)
{
    for (gsize i = 0; i < G_N_ELEMENTS(known_drops); i++) {
        if (!path_ends_with(bare, known_drops[i].path))
            continue;
        vr_findings_add(findings, known_drops[i].severity, known_drops[i].code,
                        known_drops[i].action, "%s %s and is left out", path,
                        known_drops[i].reason);
        return;
    }
    vr_findings_add(findings, VR_FINDING_WARNING,
                    is_attribute ? "attribute-dropped" : "element-dropped", HOST_BOUND_ACTION,
                    "%s is not carried over to the replica", path);
}

static void
list_unseen(xmlNode *node, const char *path, const char *bare, VrFindings *findings)
{
    if (node->_private == IGNORED)
        return;
    for (xmlAttr *attr = node->properties; attr; attr = attr->next) {
        g_autofree char *name = vr_node_printable((const char *) attr->name);
        g_autofree char *attr_path = g_strdup_printf("%s/@%s", path, name);
        g_autofree char *attr_bare = g_strdup_printf("%s/@%s", bare, name);

        if (!attr->_private)
            list_drop(attr_path, attr_bare, TRUE, findings);
    }
    for (xmlNode *child = node->children; child; child = child->next) {
        g_autofree char *name = NULL, *child_path = NULL, *child_bare = NULL;
        g_autofree char *prefix = NULL;

        if (child->type != XML_ELEMENT_NODE)
            continue;
        name = vr_node_printable((const char *) child->name);
        if (child->ns)
            prefix = vr_node_printable(child->ns->prefix ? (const char *) child->ns->prefix : "");
        child_path =
            g_strdup_printf("%s/%s%s%s", path, prefix ? prefix : "", prefix ? ":" : "", name);
        child_bare = g_strdup_printf("%s/%s", bare, name);
        if (!child->_private)
            list_drop(child_path, child_bare, FALSE, findings);
        else
            list_unseen(child, child_path, child_bare, findings);
    }
}

void
vr_node_list_unseen(xmlNode *root, VrFindings *findings)
{
    const char *name = (const char *) root->name;

    list_unseen(root, name, name, findings);
}
