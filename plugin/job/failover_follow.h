/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/job/job.h"
#include "storage/peer_client.h"
#include "storage/state_protection.h"

G_BEGIN_DECLS

/** A planned failover asked for on the target: the source does it; @job shows its steps and takes over its result. */
gboolean vr_failover_follow(VrJob *job, const VrProtection *row, VrPeerClient *peer, GError **error);

G_END_DECLS
