/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/wire/token.h"

#include <openssl/crypto.h>
#include <string.h>

#include "policies/error.h"
#include "policies/ids.h"
#include "storage/util/file_util.h"
#include "storage/wire/http.h"
#include "storage/util/json_util.h"

#define TOKEN_PREFIX "vr1."
#define TOKEN_MAX 4096
#define ADDRESSES_MAX 8
#define ADDRESS_LEN_MAX 260

void
vr_token_free(VrToken *self)
{
    if (!self)
        return;
    if (self->secret)
        OPENSSL_cleanse(self->secret, strlen(self->secret));
    g_free(self->secret);
    g_free(self->name);
    g_free(self->fingerprint);
    g_strfreev(self->addresses);
    g_free(self);
}

gboolean
vr_fingerprint_valid(const char *fingerprint)
{
    return fingerprint && strlen(fingerprint) == 64 &&
           strspn(fingerprint, "0123456789abcdef") == 64;
}

VrToken *
vr_token_new(const char *name, const char *fingerprint, const char *const *addresses,
             gint64 expires_us)
{
    VrToken *self = g_new0(VrToken, 1);
    guint8 secret[32];

    vr_random_bytes(secret, sizeof(secret));
    self->name = g_strdup(name);
    self->fingerprint = g_strdup(fingerprint);
    self->addresses = g_strdupv((char **) addresses);
    self->secret = vr_hex_encode(secret, sizeof(secret));
    self->expires_us = expires_us / G_USEC_PER_SEC * G_USEC_PER_SEC;
    OPENSSL_cleanse(secret, sizeof(secret));
    return self;
}

char *
vr_token_to_string(const VrToken *self)
{
    JsonObject *object = json_object_new();
    JsonArray *addresses = json_array_new();
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    g_autofree char *text = NULL;
    g_autofree char *base64 = NULL;

    for (guint i = 0; self->addresses[i]; i++)
        json_array_add_string_element(addresses, self->addresses[i]);
    json_object_set_string_member(object, "n", self->name);
    json_object_set_string_member(object, "f", self->fingerprint);
    json_object_set_array_member(object, "a", addresses);
    json_object_set_string_member(object, "s", self->secret);
    json_object_set_int_member(object, "e", self->expires_us / G_USEC_PER_SEC);
    json_node_take_object(node, object);
    text = vr_json_to_text(node);
    base64 = g_base64_encode((const guchar *) text, strlen(text));
    g_strdelimit(g_strdelimit(base64, "+", '-'), "/", '_');
    base64[strcspn(base64, "=")] = '\0';
    return g_strconcat(TOKEN_PREFIX, base64, NULL);
}

/* base64url without padding; NULL if it is anything else. */
static guchar *
decode(const char *text, gsize *ret_len)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    gsize len = strlen(text);
    g_autofree char *base64 = NULL;

    if (strspn(text, alphabet) != len || len % 4 == 1)
        return NULL;
    base64 = g_strconcat(text, &"==="[3 - (4 - len % 4) % 4], NULL);
    g_strdelimit(g_strdelimit(base64, "-", '+'), "_", '/');
    return g_base64_decode(base64, ret_len);
}

static char **
parse_addresses(JsonObject *object)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);
    JsonNode *node = json_object_get_member(object, "a");
    JsonArray *array;

    if (!node || !JSON_NODE_HOLDS_ARRAY(node))
        return NULL;
    array = json_node_get_array(node);
    if (json_array_get_length(array) < 1 || json_array_get_length(array) > ADDRESSES_MAX)
        return NULL;
    for (guint i = 0; i < json_array_get_length(array); i++) {
        JsonNode *item = json_array_get_element(array, i);

        if (!JSON_NODE_HOLDS_VALUE(item) || json_node_get_value_type(item) != G_TYPE_STRING ||
            strlen(json_node_get_string(item)) > ADDRESS_LEN_MAX ||
            !vr_address_parse(json_node_get_string(item), FALSE, NULL, NULL, NULL))
            return NULL;
        g_ptr_array_add(list, g_strdup(json_node_get_string(item)));
    }
    g_ptr_array_add(list, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&list), FALSE);
}

static VrToken *
token_from_object(JsonObject *object)
{
    g_autoptr(VrToken) self = g_new0(VrToken, 1);
    guint64 seconds;

    self->name = g_strdup(vr_json_string(object, "n", VR_NAME_MAX, NULL));
    self->fingerprint = g_strdup(vr_json_string(object, "f", 64, NULL));
    self->secret = g_strdup(vr_json_string(object, "s", 64, NULL));
    self->addresses = parse_addresses(object);
    if (!vr_name_valid(self->name) || !vr_fingerprint_valid(self->fingerprint) ||
        !vr_fingerprint_valid(self->secret) || !self->addresses ||
        !vr_json_uint(object, "e", G_MAXINT64 / G_USEC_PER_SEC, &seconds, NULL))
        return NULL;
    self->expires_us = (gint64) seconds * G_USEC_PER_SEC;
    return g_steal_pointer(&self);
}

VrToken *
vr_token_parse(const char *text, GError **error)
{
    g_autofree char *trimmed = NULL;
    g_autofree guchar *json = NULL;
    g_autoptr(JsonNode) node = NULL;
    VrToken *self = NULL;
    gsize len = 0;

    if (strnlen(text, TOKEN_MAX + 1) <= TOKEN_MAX) {
        trimmed = g_strstrip(g_strdup(text));
        if (g_str_has_prefix(trimmed, TOKEN_PREFIX))
            json = decode(trimmed + strlen(TOKEN_PREFIX), &len);
    }
    if (json)
        node = vr_json_parse((const char *) json, len, TOKEN_MAX, NULL);
    if (node && JSON_NODE_HOLDS_OBJECT(node))
        self = token_from_object(json_node_get_object(node));
    if (json)
        OPENSSL_cleanse(json, len);
    if (!self)
        vr_set_error(error, VR_ERROR_INVALID, "bad-token",
                     "Paste the whole token that 'virt-replica peer-invite' printed.",
                     "the text is not a pairing token");
    return self;
}

char *
vr_token_proof(const char *secret, const char *word, const char *server_fingerprint,
               const char *client_fingerprint)
{
    g_autoptr(GHmac) hmac = g_hmac_new(G_CHECKSUM_SHA256, (const guchar *) secret, strlen(secret));

    g_hmac_update(hmac, (const guchar *) word, (gssize) strlen(word) + 1);
    g_hmac_update(hmac, (const guchar *) server_fingerprint,
                  (gssize) strlen(server_fingerprint) + 1);
    g_hmac_update(hmac, (const guchar *) client_fingerprint, (gssize) strlen(client_fingerprint));
    return g_strdup(g_hmac_get_string(hmac));
}

gboolean
vr_token_proof_equal(const char *a, const char *b)
{
    return strlen(a) == strlen(b) && CRYPTO_memcmp(a, b, strlen(a)) == 0;
}
