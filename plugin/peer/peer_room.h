/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/wire/cycle.h"

G_BEGIN_DECLS

/** SECTION: what a replica takes on this host's disks beside the layers of its recovery points. */

/** Now, in bytes allocated: manifests, attachments and definitions; a file with several names
 * counts once, what is not there nothing. */
guint64 vr_peer_room_held(const char *replica_dir, const char *manifest_dir);

/** What a cycle of these disks allocates before its first chunk has come, at most. */
guint64 vr_peer_room_of_begin(const VrCycleBegin *begin);

G_END_DECLS
