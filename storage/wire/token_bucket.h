/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

/** SECTION: a rate that several threads keep together. At most a tenth of a second is saved up. */
typedef struct _VrTokenBucket VrTokenBucket;

/** @bytes_per_second: more than 0. */
VrTokenBucket *vr_token_bucket_new(guint64 bytes_per_second);
void vr_token_bucket_free(VrTokenBucket *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrTokenBucket, vr_token_bucket_free)

/** Blocks until @bytes (at most 1 GiB) may pass, or @cancel (then FALSE). Any thread. */
gboolean vr_token_bucket_take(VrTokenBucket *self, guint64 bytes, GCancellable *cancel);

G_END_DECLS
