/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/local_address.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <string.h>

#include "policies/error.h"
#include "storage/wire/http.h"

static gboolean
is_candidate(const struct ifaddrs *entry, int family)
{
    return entry->ifa_addr != NULL && entry->ifa_addr->sa_family == family &&
           (entry->ifa_flags & IFF_UP) != 0 && (entry->ifa_flags & IFF_LOOPBACK) == 0;
}

/* Link-local addresses need a scope that means nothing to others. */
static gboolean
is_global(const char *host)
{
    return !g_str_has_prefix(host, "fe80:") && !g_str_has_prefix(host, "169.254.");
}

static char *
first_address(int family, guint16 port)
{
    socklen_t len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    struct ifaddrs *list = NULL;
    char *found = NULL;
    char host[NI_MAXHOST];

    if (getifaddrs(&list) < 0)
        return NULL;
    for (struct ifaddrs *entry = list; entry != NULL && found == NULL; entry = entry->ifa_next) {
        if (is_candidate(entry, family) &&
            getnameinfo(entry->ifa_addr, len, host, sizeof host, NULL, 0, NI_NUMERICHOST) == 0 &&
            is_global(host))
            found = g_strdup_printf(family == AF_INET ? "%s:%u" : "[%s]:%u", host, port);
    }
    freeifaddrs(list);
    return found;
}

char *
vr_local_address(const VrConfig *config, GError **error)
{
    g_autofree char *host = NULL;
    char *found;
    guint16 port;

    if (config->address != NULL)
        return g_strdup(config->address);
    if (!vr_address_parse(config->listen, TRUE, &host, &port, error))
        return NULL;
    if (host[0] != '\0' && strcmp(host, "0.0.0.0") != 0 && strcmp(host, "::") != 0)
        return g_strdup(config->listen);
    found = first_address(AF_INET, port);
    if (found == NULL)
        found = first_address(AF_INET6, port);
    if (found == NULL)
        vr_set_error(error, VR_ERROR_INVALID, "no-address", "Set 'address' in virt-replicad.conf.",
                     "this host has no network address that peers could reach");
    return found;
}
