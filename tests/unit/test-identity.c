/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib/gstdio.h>
#include <openssl/pem.h>
#include <string.h>
#include <sys/stat.h>

#include "plugin/identity.h"
#include "policies/error.h"
#include "storage/util/file_util.h"

typedef struct {
    char *dir;
    char *pki;
} Fixture;

static void
setup(Fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("vr-identity-XXXXXX", NULL);
    f->pki = g_build_filename(f->dir, "etc", "pki", NULL);
}

static void
teardown(Fixture *f, gconstpointer data)
{
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_free(f->dir);
    g_free(f->pki);
}

static VrIdentity *
load(const char *dir)
{
    g_autoptr(GError) error = NULL;
    VrIdentity *identity = vr_identity_load(dir, "host-a", &error);

    g_assert_no_error(error);
    return identity;
}

static void
assert_bad(const char *dir)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(vr_identity_load(dir, "host-a", &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    g_assert_cmpstr(vr_error_slug(error), ==, "bad-identity");
}

static void
test_load(Fixture *f, gconstpointer data)
{
    g_autoptr(VrIdentity) first = load(f->pki);
    g_autoptr(VrIdentity) again = load(f->pki);
    g_autoptr(VrIdentity) renewed = NULL;
    struct stat st;

    g_assert_true(vr_fingerprint_valid(vr_identity_fingerprint(first)));
    g_assert_cmpstr(vr_identity_fingerprint(first), ==, vr_identity_fingerprint(again));
    g_assert_cmpstr(vr_identity_cert_pem(first), ==, vr_identity_cert_pem(again));
    g_assert_cmpint(vr_identity_expires_us(first) - g_get_real_time(), >,
                    9 * 365 * G_TIME_SPAN_DAY);
    g_assert_cmpint(stat(f->pki, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0700);
    g_assert_cmpint(stat(vr_identity_key_path(first), &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);

    /* As after a crash between the two writes. */
    g_assert_cmpint(g_unlink(vr_identity_cert_path(first)), ==, 0);
    renewed = load(f->pki);
    g_assert_cmpstr(vr_identity_fingerprint(renewed), ==, vr_identity_fingerprint(first));
}

static void
test_refused(Fixture *f, gconstpointer data)
{
    g_autoptr(VrIdentity) mine = load(f->pki);
    g_autofree char *other_dir = g_build_filename(f->dir, "other", NULL);
    g_autoptr(VrIdentity) other = load(other_dir);

    g_assert_cmpstr(vr_identity_fingerprint(mine), !=, vr_identity_fingerprint(other));
    g_assert_cmpint(g_chmod(vr_identity_key_path(mine), 0640), ==, 0);
    assert_bad(f->pki);
    g_assert_cmpint(g_chmod(vr_identity_key_path(mine), 0600), ==, 0);
    g_assert_true(vr_write_file_atomic(vr_identity_cert_path(mine), vr_identity_cert_pem(other),
                                       strlen(vr_identity_cert_pem(other)), 0644, NULL));
    assert_bad(f->pki);
    g_assert_true(vr_write_file_atomic(vr_identity_cert_path(mine), "junk", 4, 0644, NULL));
    assert_bad(f->pki);
    g_assert_true(vr_write_file_atomic(vr_identity_key_path(mine), "junk", 4, 0600, NULL));
    assert_bad(f->pki);
}

static void
test_fingerprint(Fixture *f, gconstpointer data)
{
    g_autoptr(VrIdentity) identity = load(f->pki);
    BIO *bio = BIO_new_mem_buf(vr_identity_cert_pem(identity), -1);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    g_autofree char *fingerprint = NULL;
    g_autoptr(GError) error = NULL;
    guint8 *der = NULL;
    int len = i2d_X509(cert, &der);

    fingerprint = vr_certificate_fingerprint(der, (gsize) len, &error);
    g_assert_cmpstr(fingerprint, ==, vr_identity_fingerprint(identity));
    for (gsize cut = 0; cut < (gsize) len; cut += 7) {
        g_autoptr(GError) local = NULL;

        g_assert_null(vr_certificate_fingerprint(der, cut, &local));
        g_assert_error(local, VR_ERROR, VR_ERROR_AUTH);
    }
    OPENSSL_free(der);
    X509_free(cert);
    BIO_free(bio);
}

#define FPR "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void
test_token(void)
{
    const char *const addresses[] = {"kvm2.example:16540", "[fd00::2]:16540", NULL};
    g_autoptr(VrToken) token = vr_token_new("kvm2", FPR, addresses, 1234567890123456);
    g_autofree char *text = vr_token_to_string(token);
    g_autofree char *padded = g_strdup_printf("  %s\n", text);
    g_autoptr(GError) error = NULL;
    g_autoptr(VrToken) back = vr_token_parse(padded, &error);

    g_assert_no_error(error);
    g_assert_true(g_str_has_prefix(text, "vr1."));
    g_assert_null(strpbrk(text, "+/= "));
    g_assert_cmpstr(back->name, ==, "kvm2");
    g_assert_cmpstr(back->fingerprint, ==, FPR);
    g_assert_cmpstr(back->secret, ==, token->secret);
    g_assert_cmpstr(back->addresses[1], ==, "[fd00::2]:16540");
    g_assert_null(back->addresses[2]);
    g_assert_cmpint(back->expires_us, ==, 1234567890000000);
    for (gsize cut = 0; cut < strlen(text); cut++) {
        g_autofree char *part = g_strndup(text, cut);

        g_assert_null(vr_token_parse(part, NULL));
    }
}

static void
test_bad_tokens(void)
{
    static const char *const bodies[] = {
        "",
        "{}",
        "[]",
        "{\"n\":\"a b\",\"f\":\"" FPR "\",\"a\":[\"h:1\"],\"s\":\"" FPR "\",\"e\":1}",
        "{\"n\":\"a\",\"f\":\"zz\",\"a\":[\"h:1\"],\"s\":\"" FPR "\",\"e\":1}",
        "{\"n\":\"a\",\"f\":\"" FPR "\",\"a\":[],\"s\":\"" FPR "\",\"e\":1}",
        "{\"n\":\"a\",\"f\":\"" FPR "\",\"a\":[\"h\"],\"s\":\"" FPR "\",\"e\":1}",
        "{\"n\":\"a\",\"f\":\"" FPR "\",\"a\":[\"h:0\"],\"s\":\"" FPR "\",\"e\":1}",
        "{\"n\":\"a\",\"f\":\"" FPR "\",\"a\":[\"h/x@y:1\"],\"s\":\"" FPR "\",\"e\":1}",
        "{\"n\":\"a\",\"f\":\"" FPR "\",\"a\":[7],\"s\":\"" FPR "\",\"e\":1}",
        "{\"n\":\"a\",\"f\":\"" FPR "\",\"a\":[\"h:1\"],\"s\":\"\",\"e\":1}",
        "{\"n\":\"a\",\"f\":\"" FPR "\",\"a\":[\"h:1\"],\"s\":\"" FPR "\",\"e\":-1}",
        "{\"n\":\"a\",\"f\":\"" FPR "\",\"a\":[\"h:1\"],\"s\":\"" FPR "\",\"e\":99999999999999}",
    };
    g_autofree char *big = g_strnfill(5000, 'A');

    for (gsize i = 0; i < G_N_ELEMENTS(bodies); i++) {
        g_autofree char *base64 = g_base64_encode((const guchar *) bodies[i], strlen(bodies[i]));
        g_autofree char *text = NULL;
        g_autoptr(GError) error = NULL;

        base64[strcspn(base64, "=")] = '\0';
        text = g_strconcat("vr1.", base64, NULL);
        g_assert_null(vr_token_parse(text, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
        g_assert_cmpstr(vr_error_slug(error), ==, "bad-token");
    }
    g_assert_null(vr_token_parse(big, NULL));
    g_assert_null(vr_token_parse("vr1.====", NULL));
}

static void
test_proof(void)
{
    g_autofree char *a = vr_token_proof("s", "join", "x", "y");
    g_autofree char *b = vr_token_proof("s", "joined", "x", "y");
    g_autofree char *c = vr_token_proof("s", "join", "y", "x");
    g_autofree char *d = vr_token_proof("s", "join", "x", "y");

    g_assert_true(vr_fingerprint_valid(a));
    g_assert_true(vr_token_proof_equal(a, d));
    g_assert_false(vr_token_proof_equal(a, b));
    g_assert_false(vr_token_proof_equal(a, c));
    g_assert_false(vr_token_proof_equal(a, ""));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/identity/load", Fixture, NULL, setup, test_load, teardown);
    g_test_add("/identity/refused", Fixture, NULL, setup, test_refused, teardown);
    g_test_add("/identity/fingerprint", Fixture, NULL, setup, test_fingerprint, teardown);
    g_test_add_func("/identity/token", test_token);
    g_test_add_func("/identity/bad-tokens", test_bad_tokens);
    g_test_add_func("/identity/proof", test_proof);
    return g_test_run();
}
