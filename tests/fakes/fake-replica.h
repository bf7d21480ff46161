/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/replica/replica.h"

G_BEGIN_DECLS

/** Commits an RP with one empty disk, "vda" of 1 MiB, on the newest one. @xml: its definition.
 * (transfer full) */
VrRecoveryPoint *fake_replica_commit(VrReplica *replica, const char *xml);

G_END_DECLS
