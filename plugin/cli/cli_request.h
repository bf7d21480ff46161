/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/cli/cli_args.h"

#include <json-glib/json-glib.h>

G_BEGIN_DECLS

/** {domain, peer, store?, exclude[]} from a command with the arguments domain, to, store and
 *  exclude-disk: what check and protect ask alike. (transfer full) */
JsonObject *vr_cli_replica_request(const VrCliArgs *args);

G_END_DECLS
