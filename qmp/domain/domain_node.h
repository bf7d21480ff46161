/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <libxml/tree.h>

#include "policies/finding.h"

G_BEGIN_DECLS

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)

/**
 * SECTION: reading XML that nobody vouches for.
 *
 * Every element and attribute that is asked for is marked as seen; vr_node_list_unseen() then
 * names all the others. Elements and attributes of a foreign namespace are never found by name.
 */

/**
 * vr_domain_doc_read:
 * @what: names the document in errors: "domain XML"
 * @max_bytes: limit of @len
 *
 * No DTD, entities, network, includes, or encodings other than UTF-8; VR_DOMAIN_XML_DEPTH_MAX deep.
 *
 * Errors: INVALID; slugs as for vr_domain_model_parse().
 */
xmlDoc *vr_domain_doc_read(const char *what, const char *xml, gsize len, gsize max_bytes,
                           GError **error);

/** First child element called @name, or NULL. */
xmlNode *vr_node_child(xmlNode *node, const char *name);

/** The element called @name after @sibling, or NULL. */
xmlNode *vr_node_next(xmlNode *sibling, const char *name);

/** First child element of any name and no namespace; not marked as seen. */
xmlNode *vr_node_first(xmlNode *node);
xmlNode *vr_node_after(xmlNode *sibling);

gboolean vr_node_is(const xmlNode *node, const char *name);

/** The attribute's value, or NULL. Borrowed from the document. */
const char *vr_node_attr(xmlNode *node, const char *name);

/** The element's own text without surrounding white space; never NULL. (transfer full) */
char *vr_node_text(xmlNode *node);

/** Marks an element with all that is in it, or one attribute, as not worth a word. */
void vr_node_ignore(xmlNode *node);
void vr_node_ignore_child(xmlNode *node, const char *name);
void vr_node_ignore_attr(xmlNode *node, const char *name);

/** Adds a finding for each element and attribute below @root that nobody asked for. */
void vr_node_list_unseen(xmlNode *root, VrFindings *findings);

/** Printable, at most 64 characters, the rest replaced by '?': for messages. (transfer full) */
char *vr_node_printable(const char *text);

G_END_DECLS
