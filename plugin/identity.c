/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The key is written before the certificate: a crash between the two leaves a key, for which the
 * next start makes a certificate. */
#include "plugin/identity.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "policies/error.h"
#include "storage/util/file_util.h"

#define PEM_MAX_BYTES ((gsize) 65536)
#define VALID_SECONDS (10L * 366 * 24 * 3600)

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY, EVP_PKEY_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509, X509_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIO, BIO_free_all)

struct _VrIdentity {
    char *cert_path;   /* owned */
    char *key_path;    /* owned */
    char *cert_pem;    /* owned */
    char *key_pem;     /* owned; wiped */
    char *fingerprint; /* owned */
    gint64 expires_us;
};

void
vr_identity_free(VrIdentity *self)
{
    if (!self)
        return;
    if (self->key_pem)
        OPENSSL_cleanse(self->key_pem, strlen(self->key_pem));
    g_free(self->key_pem);
    g_free(self->cert_pem);
    g_free(self->cert_path);
    g_free(self->key_path);
    g_free(self->fingerprint);
    g_free(self);
}

const char *
vr_identity_fingerprint(const VrIdentity *self)
{
    return self->fingerprint;
}

const char *
vr_identity_cert_path(const VrIdentity *self)
{
    return self->cert_path;
}

const char *
vr_identity_key_path(const VrIdentity *self)
{
    return self->key_path;
}

const char *
vr_identity_cert_pem(const VrIdentity *self)
{
    return self->cert_pem;
}

const char *
vr_identity_key_pem(const VrIdentity *self)
{
    return self->key_pem;
}

gint64
vr_identity_expires_us(const VrIdentity *self)
{
    return self->expires_us;
}

static gboolean
bad_identity(GError **error, const char *path, const char *why)
{
    ERR_clear_error();
    vr_set_error(error, VR_ERROR_INVALID, "bad-identity",
                 "Repair the file; without it the host gets a new key and must be paired again.",
                 "'%s' %s", path, why);
    return FALSE;
}

static gboolean
crypto_failed(GError **error, const char *what)
{
    char why[256];

    ERR_error_string_n(ERR_get_error(), why, sizeof(why));
    ERR_clear_error();
    vr_set_error(error, VR_ERROR_INTERNAL, "crypto-failed", NULL, "cannot %s: %s", what, why);
    return FALSE;
}

static char *
bio_text(BIO *bio)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);

    return g_strndup(data, (gsize) len);
}

static gboolean
make_key(VrIdentity *self, GError **error)
{
    g_autoptr(EVP_PKEY) key = EVP_EC_gen("P-384");
    g_autoptr(BIO) bio = BIO_new(BIO_s_secmem());

    if (!key || !bio || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        return crypto_failed(error, "make a key");
    self->key_pem = bio_text(bio);
    return vr_write_file_atomic(self->key_path, self->key_pem, strlen(self->key_pem), 0600, error);
}

static gboolean
load_key(VrIdentity *self, GError **error)
{
    g_autoptr(GError) local = NULL;
    struct stat st;

    self->key_pem = vr_read_file(self->key_path, PEM_MAX_BYTES, NULL, &local);
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return make_key(self, error);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (stat(self->key_path, &st) < 0 || (st.st_mode & 077) != 0)
        return bad_identity(error, self->key_path,
                            "can be read or written by others than its owner");
    return TRUE;
}

static gboolean
add_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    gboolean ok = extension && X509_add_ext(cert, extension, -1) == 1;

    X509_EXTENSION_free(extension);
    return ok;
}

static gboolean
fill_certificate(X509 *cert, EVP_PKEY *key, const char *name)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    guint8 bytes[16];
    BIGNUM *serial;
    gboolean ok;

    vr_random_bytes(bytes, sizeof(bytes));
    bytes[0] &= 0x7f;
    serial = BN_bin2bn(bytes, sizeof(bytes), NULL);
    ok = serial && BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert)) != NULL;
    BN_free(serial);
    /* A day back, for a peer whose clock is behind. */
    return ok && X509_set_version(cert, X509_VERSION_3) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -24L * 3600) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(cert), VALID_SECONDS) != NULL &&
           X509_set_pubkey(cert, key) == 1 &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const guchar *) name, -1, -1,
                                      0) == 1 &&
           X509_set_issuer_name(cert, subject) == 1 &&
           add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(cert, NID_key_usage, "critical,digitalSignature") &&
           add_extension(cert, NID_ext_key_usage, "serverAuth,clientAuth") &&
           X509_sign(cert, key, EVP_sha384()) > 0;
}

static gboolean
make_certificate(VrIdentity *self, EVP_PKEY *key, const char *name, GError **error)
{
    g_autofree char *common = g_strndup(name, 64);
    g_autoptr(X509) cert = X509_new();
    g_autoptr(BIO) bio = BIO_new(BIO_s_mem());

    if (!cert || !bio || !fill_certificate(cert, key, common) || PEM_write_bio_X509(bio, cert) != 1)
        return crypto_failed(error, "make a certificate");
    self->cert_pem = bio_text(bio);
    return vr_write_file_atomic(self->cert_path, self->cert_pem, strlen(self->cert_pem), 0644,
                                error);
}

static char *
fingerprint_of(X509 *cert)
{
    guint8 *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    char *fingerprint = len > 0 ? vr_sha256_hex(der, (gsize) len) : NULL;

    OPENSSL_free(der);
    return fingerprint;
}

char *
vr_certificate_fingerprint(const void *der, gsize len, GError **error)
{
    const guint8 *p = der;
    g_autoptr(X509) cert = len <= PEM_MAX_BYTES ? d2i_X509(NULL, &p, (long) len) : NULL;
    char *fingerprint = cert ? fingerprint_of(cert) : NULL;

    if (!fingerprint) {
        ERR_clear_error();
        vr_set_error(error, VR_ERROR_AUTH, "bad-certificate", NULL,
                     "the certificate cannot be read");
    }
    return fingerprint;
}

static gboolean
read_certificate(VrIdentity *self, EVP_PKEY *key, GError **error)
{
    g_autoptr(BIO) bio = BIO_new_mem_buf(self->cert_pem, -1);
    g_autoptr(X509) cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    struct tm end;

    if (!cert)
        return bad_identity(error, self->cert_path, "is not a certificate");
    if (X509_check_private_key(cert, key) != 1)
        return bad_identity(error, self->cert_path, "does not belong to the key beside it");
    if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &end) != 1)
        return bad_identity(error, self->cert_path, "has no end date");
    self->expires_us = (gint64) timegm(&end) * G_USEC_PER_SEC;
    self->fingerprint = fingerprint_of(cert);
    return self->fingerprint ? TRUE : crypto_failed(error, "digest the public key");
}

static gboolean
load_certificate(VrIdentity *self, const char *name, GError **error)
{
    g_autoptr(BIO) bio = BIO_new_mem_buf(self->key_pem, -1);
    g_autoptr(EVP_PKEY) key = PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *) "");
    g_autoptr(GError) local = NULL;

    if (!key)
        return bad_identity(error, self->key_path, "is not a private key without a password");
    self->cert_pem = vr_read_file(self->cert_path, PEM_MAX_BYTES, NULL, &local);
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        if (!make_certificate(self, key, name, error))
            return FALSE;
    } else if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    return read_certificate(self, key, error);
}

VrIdentity *
vr_identity_load(const char *dir, const char *name, GError **error)
{
    g_autoptr(VrIdentity) self = g_new0(VrIdentity, 1);

    self->cert_path = g_build_filename(dir, "host.crt", NULL);
    self->key_path = g_build_filename(dir, "host.key", NULL);
    if (!vr_make_dir(dir, 0700, error) || !load_key(self, error) ||
        !load_certificate(self, name, error))
        return NULL;
    return g_steal_pointer(&self);
}
