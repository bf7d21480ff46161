/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/util/sha256.h"

#include <openssl/evp.h>

/* Fetched once: an implicit fetch at every digest costs more than hashing a small message. */
static const EVP_MD *
algorithm(void)
{
    static gsize fetched;

    if (g_once_init_enter(&fetched))
        g_once_init_leave(&fetched, (gsize) EVP_MD_fetch(NULL, "SHA256", NULL));
    return (const EVP_MD *) fetched;
}

static void
context_free(gpointer context)
{
    EVP_MD_CTX_free(context);
}

/* Fails only where OpenSSL has no memory or no SHA-256: like g_malloc(), not survivable. */
static void
must(int ok)
{
    if (ok != 1)
        g_error("OpenSSL cannot compute SHA-256");
}

static EVP_MD_CTX *
context_new(void)
{
    EVP_MD_CTX *context;

    must(algorithm() != NULL);
    context = EVP_MD_CTX_new();
    must(context != NULL);
    return context;
}

void
vr_sha256(const void *data, gsize len, guint8 ret_digest[VR_SHA256_LEN])
{
    static GPrivate contexts = G_PRIVATE_INIT(context_free);
    EVP_MD_CTX *context = g_private_get(&contexts);

    if (!context) {
        context = context_new();
        g_private_set(&contexts, context);
    }
    must(EVP_DigestInit_ex(context, algorithm(), NULL));
    must(EVP_DigestUpdate(context, data, len));
    must(EVP_DigestFinal_ex(context, ret_digest, NULL));
}

struct _VrSha256 {
    EVP_MD_CTX *context; /* owned */
};

VrSha256 *
vr_sha256_new(void)
{
    VrSha256 *self = g_new(VrSha256, 1);

    self->context = context_new();
    must(EVP_DigestInit_ex(self->context, algorithm(), NULL));
    return self;
}

void
vr_sha256_update(VrSha256 *self, const void *data, gsize len)
{
    must(EVP_DigestUpdate(self->context, data, len));
}

void
vr_sha256_finish(VrSha256 *self, guint8 ret_digest[VR_SHA256_LEN])
{
    must(EVP_DigestFinal_ex(self->context, ret_digest, NULL));
}

void
vr_sha256_free(VrSha256 *self)
{
    if (!self)
        return;
    EVP_MD_CTX_free(self->context);
    g_free(self);
}
