/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_mark.h"

#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>

#include "policies/error.h"
#include "qmp/domain/domain_model.h"
#include "qmp/domain/domain_node.h"
#include "qmp/virerr.h"

#define MARK_MAX ((gsize) 4096)

void
vr_dom_mark_clear(VrDomMark *mark)
{
    g_clear_pointer(&mark->role, g_free);
    g_clear_pointer(&mark->generation, g_free);
}

/* What cannot be read is not ours. */
static void
parse(const char *text, VrDomMark *mark)
{
    g_autoptr(xmlDoc) doc = vr_domain_doc_read("our metadata", text, strlen(text), MARK_MAX, NULL);
    xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;

    if (root == NULL)
        return;
    mark->role = g_strdup(vr_node_attr(root, "role"));
    mark->generation = g_strdup(vr_node_attr(root, "generation"));
}

gboolean
vr_dom_mark_read(VrConn *conn, const char *uuid, VrDomMark *ret_mark, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrDom) dom = vr_dom_open(conn, uuid, &local);
    char *text;

    *ret_mark = (VrDomMark){0};
    if (dom == NULL && g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    if (dom == NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    ret_mark->exists = TRUE;
    text = virDomainGetMetadata(dom->dom, VIR_DOMAIN_METADATA_ELEMENT, VR_DOMAIN_XMLNS, 0);
    if (text == NULL && virGetLastErrorCode() != VIR_ERR_NO_DOMAIN_METADATA) {
        vr_virerr_set(error, "domain '%s': cannot read its metadata", dom->name);
        return FALSE;
    }
    vr_virerr_ignore();
    if (text != NULL)
        parse(text, ret_mark);
    free(text);
    return TRUE;
}
