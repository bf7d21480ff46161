/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

#define VR_SHA256_LEN 32

/** SHA-256 of @data. Any thread; each keeps one hashing context until it ends. */
void vr_sha256(const void *data, gsize len, guint8 ret_digest[VR_SHA256_LEN]);

/** A digest over several pieces. */
typedef struct _VrSha256 VrSha256;

VrSha256 *vr_sha256_new(void);
void vr_sha256_update(VrSha256 *self, const void *data, gsize len);
/** At most once, after the last update. */
void vr_sha256_finish(VrSha256 *self, guint8 ret_digest[VR_SHA256_LEN]);
void vr_sha256_free(VrSha256 *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrSha256, vr_sha256_free)

G_END_DECLS
