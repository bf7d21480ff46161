/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/conn.h"

G_BEGIN_DECLS

/** SECTION: our element in a domain's <metadata>, written when the domain is defined
 * (qmp/domain/domain_xml.h): it says that we made the domain, and what for. Worker threads. */

typedef struct {
    gboolean exists;  /* there is a domain */
    char *role;       /* "replica", "test"; NULL: not of our making. Owned */
    char *generation; /* id that it was made for; owned, nullable */
} VrDomMark;

void vr_dom_mark_clear(VrDomMark *mark);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrDomMark, vr_dom_mark_clear)

/** No domain and one without the element are answers, not errors. @uuid: canonical; a name is not
 * looked for. Errors: those of the connection. */
gboolean vr_dom_mark_read(VrConn *conn, const char *uuid, VrDomMark *ret_mark, GError **error);

G_END_DECLS
