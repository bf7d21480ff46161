/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/config.h"

G_BEGIN_DECLS

/**
 * vr_local_address:
 *
 * HOST:PORT at which peers reach this host: `address` of the configuration, else the address
 * listened on, else the first global address of an interface that is up. Errors: INVALID
 * "no-address" (transfer full)
 */
char *vr_local_address(const VrConfig *config, GError **error);

G_END_DECLS
