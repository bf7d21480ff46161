/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: the pairing token and the proofs of pairing.
 *
 * "vr1." + base64url(JSON {n: name of the inviting host, f: its fingerprint, a: [addresses], s:
 * secret, e: expiry in seconds since 1970}). Whoever has it can become a peer once: it goes to
 * people only, never into argv of ours, logs or the database (which keeps vr_sha256_hex() of the
 * secret's text).
 */
typedef struct {
    char *name;
    char *fingerprint; /* 64 hex */
    char **addresses;  /* 1..8 of HOST:PORT, NULL-terminated */
    char *secret;      /* 64 hex: 32 random bytes */
    gint64 expires_us; /* wall; whole seconds */
} VrToken;

void vr_token_free(VrToken *self); /* wipes the secret */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrToken, vr_token_free)

/** New token with a random secret. (transfer full) */
VrToken *vr_token_new(const char *name, const char *fingerprint, const char *const *addresses,
                      gint64 expires_us);
/** (transfer full) */
char *vr_token_to_string(const VrToken *self);
/** White space around it is ignored; at most 4 KiB. Does not look at the expiry (the server
 * decides). Errors: INVALID "bad-token". */
VrToken *vr_token_parse(const char *text, GError **error);

/** HMAC-SHA256(secret, word || 0 || server fingerprint || 0 || client fingerprint), 64 hex. @word:
 * "join" or "joined". (transfer full) */
char *vr_token_proof(const char *secret, const char *word, const char *server_fingerprint,
                     const char *client_fingerprint);
/** Constant-time comparison. */
gboolean vr_token_proof_equal(const char *a, const char *b);

/** 64 lower-case hex digits? */
gboolean vr_fingerprint_valid(const char *fingerprint);

G_END_DECLS
