/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/wire/token.h"

G_BEGIN_DECLS

/**
 * SECTION: this host's key and certificate.
 *
 * DIR/host.key (P-384, 0600) and DIR/host.crt (self-signed, 10 years), made at the first start.
 * What peers pin is the key, so a certificate renewed with the same key stays trusted.
 */
typedef struct _VrIdentity VrIdentity;

/**
 * vr_identity_load:
 * @dir: created 0700 if missing
 * @name: common name of a new certificate, for people only
 *
 * Loads, or makes and stores durably. A certificate that is missing beside its key is made again
 * with that key. Errors: INVALID "bad-identity" (files do not fit together, key readable for
 * others), NO_SPACE, INTERNAL.
 */
VrIdentity *vr_identity_load(const char *dir, const char *name, GError **error);
void vr_identity_free(VrIdentity *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrIdentity, vr_identity_free)

/* Borrowed from @self; immutable, any thread. */
const char *vr_identity_fingerprint(const VrIdentity *self); /* 64 hex */
const char *vr_identity_cert_path(const VrIdentity *self);
const char *vr_identity_key_path(const VrIdentity *self);
const char *vr_identity_cert_pem(const VrIdentity *self);
const char *vr_identity_key_pem(const VrIdentity *self);
/** End of the certificate, wall time. */
gint64 vr_identity_expires_us(const VrIdentity *self);

/** SHA-256 of the SubjectPublicKeyInfo of a DER certificate, 64 hex. Errors: AUTH
 * "bad-certificate". (transfer full) */
char *vr_certificate_fingerprint(const void *der, gsize len, GError **error);

G_END_DECLS
