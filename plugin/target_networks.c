/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/target_networks.h"

#include "policies/error.h"
#include "policies/ids.h"
#include "policies/network_map.h"
#include "qmp/domain/domain_ops.h"
#include "storage/util/json_util.h"

#define NETWORK_MAX 1024

struct _VrTargetNetworks {
    char *host;          /* owned: name of this host */
    char *peer;          /* owned: name of the peer */
    char **offered;      /* owned */
    GHashTable *table;   /* owned: source network -> network here, offered */
    GHashTable *refused; /* owned: the same of those that are not */
};

void
vr_target_networks_free(VrTargetNetworks *self)
{
    if (self == NULL)
        return;
    g_free(self->host);
    g_free(self->peer);
    g_strfreev(self->offered);
    g_hash_table_unref(self->table);
    g_hash_table_unref(self->refused);
    g_free(self);
}

/* The entry of before goes, wherever it stood. */
static void
map(VrTargetNetworks *self, const char *source, const char *target)
{
    gboolean offered = g_strv_contains((const char *const *) self->offered, target);

    g_hash_table_remove(self->table, source);
    g_hash_table_remove(self->refused, source);
    g_hash_table_insert(offered ? self->table : self->refused, g_strdup(source), g_strdup(target));
}

static void
map_sent(VrTargetNetworks *self, JsonArray *sent)
{
    for (guint i = 0; sent != NULL && i < json_array_get_length(sent); i++) {
        JsonObject *entry = vr_json_object_at(sent, i);
        const char *source = vr_json_text_in(entry, "source", NULL);
        const char *target = vr_json_text_in(entry, "target", NULL);

        if (vr_network_name_valid(source) && vr_network_name_valid(target))
            map(self, source, target);
    }
}

gboolean
vr_target_networks_read(JsonObject *object, JsonArray **ret_sent, GError **error)
{
    JsonArray *sent;

    if (!vr_json_array_opt(object, "networks", VR_NETWORKS_SENT_MAX, &sent, error))
        return FALSE;
    for (guint i = 0; sent != NULL && i < json_array_get_length(sent); i++) {
        JsonObject *entry = vr_json_object(json_array_get_element(sent, i), "a network", error);

        if (entry == NULL || vr_json_string(entry, "source", NETWORK_MAX, error) == NULL ||
            vr_json_string(entry, "target", NETWORK_MAX, error) == NULL)
            return FALSE;
    }
    *ret_sent = sent;
    return TRUE;
}

VrTargetNetworks *
vr_target_networks(VrApp *app, const char *peer, JsonArray *sent, GError **error)
{
    g_autoptr(GPtrArray) own = vr_state_netmap_list(app->state, peer, error);
    g_autoptr(VrPeer) row = own ? vr_state_peer_get(app->state, peer, error) : NULL;
    char **offered = row ? vr_state_peer_networks(app->state, peer, error) : NULL;
    VrTargetNetworks *self;

    if (offered == NULL)
        return NULL;
    self = g_new0(VrTargetNetworks, 1);
    self->host = g_strdup(app->config->name);
    self->peer = g_strdup(row->name);
    self->offered = offered;
    self->table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->refused = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    map_sent(self, sent);
    for (guint i = 0; i < own->len; i++) {
        const VrNetmapRow *entry = g_ptr_array_index(own, i);

        map(self, entry->source, entry->target);
    }
    return self;
}

/* The command that offers what is offered already and all that @model needs. (transfer full) */
static char *
offer_action(const VrTargetNetworks *self, const VrDomainModel *model)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *list = NULL;
    g_autofree char *word = NULL;

    for (char **name = self->offered; *name; name++)
        g_ptr_array_add(names, *name);
    for (guint i = 0; i < model->interfaces->len; i++) {
        const VrDomainInterface *nic = g_ptr_array_index(model->interfaces, i);
        char *target = g_hash_table_lookup(self->refused, nic->network);

        if (target != NULL && !g_ptr_array_find_with_equal_func(names, target, g_str_equal, NULL))
            g_ptr_array_add(names, target);
    }
    g_ptr_array_add(names, NULL);
    list = vr_network_list_format((const char *const *) names->pdata);
    word = vr_shell_word(list);
    return g_strdup_printf("On host '%s': virt-replica peer-set %s --networks %s", self->host,
                           self->peer, word);
}

static void
add_not_mapped(const VrTargetNetworks *self, const char *source, VrFindings *findings)
{
    g_autofree char *word = vr_shell_word(source);
    g_autofree char *action =
        g_strdup_printf("On the source: virt-replica netmap-set %s %s NETWORK", self->host, word);

    vr_findings_add(findings, VR_FINDING_ERROR, "network-not-mapped", action,
                    "network '%s' of the domain is not mapped to a network of host '%s'", source,
                    self->host);
}

static void
add_not_offered(const VrTargetNetworks *self, const VrDomainModel *model, const char *source,
                const char *target, VrFindings *findings)
{
    g_autofree char *action = offer_action(self, model);

    vr_findings_add(findings, VR_FINDING_ERROR, "network-not-offered", action,
                    "network '%s' is mapped to '%s', which host '%s' does not offer to host '%s'",
                    source, target, self->host, self->peer);
}

static gboolean
check_network(const VrTargetNetworks *self, VrApp *app, const char *source, const char *target,
              VrFindings *findings, GError **error)
{
    gboolean exists, active;

    if (!vr_dom_network_exists(app->conn, target, &exists, &active, error))
        return FALSE;
    if (!exists)
        vr_findings_add(findings, VR_FINDING_ERROR, "network-missing",
                        "Define it there, or map to another network with netmap-set.",
                        "network '%s' is mapped to '%s', which host '%s' does not have", source,
                        target, self->host);
    else if (!active)
        vr_findings_add(findings, VR_FINDING_ERROR, "network-inactive",
                        "Start it there: virsh net-start.",
                        "network '%s' of host '%s' is not active", target, self->host);
    return TRUE;
}

gboolean
vr_target_networks_check(const VrTargetNetworks *self, VrApp *app, const VrDomainModel *model,
                         VrFindings *findings, GError **error)
{
    for (guint i = 0; i < model->interfaces->len; i++) {
        const VrDomainInterface *nic = g_ptr_array_index(model->interfaces, i);
        const char *target = g_hash_table_lookup(self->table, nic->network);
        const char *refused = g_hash_table_lookup(self->refused, nic->network);

        if (target != NULL) {
            if (!check_network(self, app, nic->network, target, findings, error))
                return FALSE;
        } else if (refused != NULL) {
            add_not_offered(self, model, nic->network, refused, findings);
        } else {
            add_not_mapped(self, nic->network, findings);
        }
    }
    return TRUE;
}

GHashTable *
vr_target_networks_table(const VrTargetNetworks *self, const VrDomainModel *model, GError **error)
{
    for (guint i = 0; i < model->interfaces->len; i++) {
        const VrDomainInterface *nic = g_ptr_array_index(model->interfaces, i);
        const char *target = g_hash_table_lookup(self->refused, nic->network);
        g_autofree char *action = target ? offer_action(self, model) : NULL;

        if (target == NULL)
            continue;
        vr_set_error(error, VR_ERROR_REFUSED, "network-not-offered", action,
                     "domain '%s': network '%s' is mapped to '%s', which host '%s' does not offer "
                     "to host '%s'",
                     model->name, nic->network, target, self->host, self->peer);
        return NULL;
    }
    return self->table;
}
