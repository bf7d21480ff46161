/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/conn.h"

G_BEGIN_DECLS

/** SECTION: the first start of a replica, and the stop of a stale domain. All block, from worker
 * threads; @domain is a name or UUID. */

/** Starts it without letting the guest execute an instruction. Running or paused already is
 * success. REFUSED "hook-refused" carries the hook's words. */
gboolean vr_dom_start_paused(VrConn *conn, const char *domain, GError **error);

/** Lets a paused domain run. Running already is success. */
gboolean vr_dom_resume(VrConn *conn, const char *domain, GError **error);

/** Its processors stand still, nothing is lost. Paused or shut off already is success. */
gboolean vr_dom_suspend(VrConn *conn, const char *domain, GError **error);

/** Ends it at once; data not yet flushed by QEMU is lost, so only for a domain that never ran. Shut
 * off or not there is success. */
gboolean vr_dom_destroy(VrConn *conn, const char *domain, GError **error);

G_END_DECLS
