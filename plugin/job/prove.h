/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/**
 * vr_prove_replica:
 * @verify: layers that the target did not read within verify-interval are read now, which may take
 * long; @job shows its progress and may be cancelled
 *
 * Is the newest RP on the target whole, so that it can be failed over to? Changes nothing here; in
 * the job's thread. The result "verified" says when it was last read. Errors: CORRUPT or REFUSED
 * "replica-damaged" naming disk and chunks; those of the peer; CANCELLED.
 */
gboolean vr_prove_replica(VrJob *job, VrApp *app, const VrProtection *row, gboolean verify,
                          GError **error);

G_END_DECLS
