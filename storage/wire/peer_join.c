/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "policies/error.h"
#include "policies/ids.h"
#include "storage/util/json_util.h"
#include "storage/wire/peer_client.h"

#define JOIN_TIMEOUT_S 20

static JsonNode *
join_request(const VrToken *token, const char *our_name, const char *our_address,
             const char *our_fingerprint)
{
    g_autofree char *proof =
        vr_token_proof(token->secret, "join", token->fingerprint, our_fingerprint);
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "secret", token->secret);
    json_object_set_string_member(object, "name", our_name);
    json_object_set_string_member(object, "address", our_address);
    json_object_set_string_member(object, "proof", proof);
    return vr_json_node(object);
}

static char *
check_answer(const VrToken *token, JsonNode *answer, const char *our_fingerprint, GError **error)
{
    g_autofree char *expected =
        vr_token_proof(token->secret, "joined", token->fingerprint, our_fingerprint);
    JsonObject *object = vr_json_object(answer, "the answer to the join", error);
    const char *name = object ? vr_json_string(object, "name", VR_NAME_MAX, error) : NULL;
    const char *proof = name ? vr_json_string(object, "proof", 64, error) : NULL;

    if (!proof)
        return NULL;
    if (!vr_name_valid(name) || !vr_token_proof_equal(proof, expected)) {
        vr_set_error(error, VR_ERROR_AUTH, "join-proof",
                     "Make a new token on the inviting host and try again.",
                     "the other host did not prove that it made the token");
        return NULL;
    }
    return g_strdup(name);
}

static char *
join_at(const VrToken *token, const char *address, JsonNode *request, const char *our_fingerprint,
        const char *cert_path, const char *key_path, GCancellable *cancel, GError **error)
{
    g_autoptr(VrHttp) http =
        vr_http_new_peer(token->name, address, token->fingerprint, cert_path, key_path, error);
    g_autoptr(JsonNode) answer = NULL;

    if (!http || !vr_http_json(http, "POST", "/v1/peer/join", request, JOIN_TIMEOUT_S, &answer,
                               cancel, error))
        return NULL;
    return check_answer(token, answer, our_fingerprint, error);
}

/* Where nobody or another host answers, the next address may be the right one. */
static gboolean
worth_next(const GError *error)
{
    return g_str_equal(vr_error_slug(error), "peer-unreachable") ||
           g_str_equal(vr_error_slug(error), "peer-key-changed");
}

gboolean
vr_peer_join(const VrToken *token, const char *our_name, const char *our_address,
             const char *our_fingerprint, const char *cert_path, const char *key_path,
             char **ret_name, char **ret_address, GCancellable *cancel, GError **error)
{
    g_autoptr(JsonNode) request = join_request(token, our_name, our_address, our_fingerprint);
    g_autoptr(GError) last = NULL;

    for (guint i = 0; token->addresses[i]; i++) {
        char *name;

        g_clear_error(&last);
        name = join_at(token, token->addresses[i], request, our_fingerprint, cert_path, key_path,
                       cancel, &last);
        if (name) {
            *ret_name = name;
            *ret_address = g_strdup(token->addresses[i]);
            return TRUE;
        }
        if (!worth_next(last))
            break;
    }
    g_propagate_error(error, g_steal_pointer(&last));
    return FALSE;
}
