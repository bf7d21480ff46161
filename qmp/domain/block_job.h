/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/conn.h"

G_BEGIN_DECLS

/** TRUE if no disk of the domain has a block job (commit, copy, pull): libvirt takes no backup
 * beside one. One that is shut off has none. Blocks. Errors: CONFLICT "block-job-running" naming
 * the disk and the kind, those of libvirt. */
gboolean vr_dom_check_no_block_job(VrConn *conn, const char *uuid, GError **error);

G_END_DECLS
