/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/fence_cause.h"

#include "policies/units.h"

static char *
never_looked(const VrFenceCauseFacts *facts)
{
    g_autofree char *changed = vr_time_format(facts->hook_changed_us);
    g_autofree char *since = vr_time_format(facts->service_since_us);

    return g_strdup_printf("host '%s': %s runs since %s, the hook %s was installed or changed at "
                           "%s, and %s looks for hooks only when it starts or is reloaded",
                           facts->host, facts->service, since, facts->hook, changed,
                           facts->service);
}

void
vr_fence_cause(const VrFenceCauseFacts *facts, char **ret_message, char **ret_action)
{
    if (!facts->exists) {
        *ret_message = g_strdup_printf("host '%s': there is no hook %s, so libvirt keeps no "
                                       "replica from starting",
                                       facts->host, facts->hook);
        *ret_action =
            g_strdup_printf("Install it (meson install, or the package), then run: systemctl "
                            "reload %s",
                            facts->service);
    } else if (!facts->executable) {
        *ret_message = g_strdup_printf("host '%s': the hook %s is not executable, so libvirt does "
                                       "not call it",
                                       facts->host, facts->hook);
        *ret_action = g_strdup_printf("Run: chmod 755 %s && systemctl reload %s", facts->hook,
                                      facts->service);
    } else if (facts->refused) {
        *ret_message = g_strdup_printf(
            "host '%s': a libvirt hook refused the test domain, but %s has not answered in %s",
            facts->host, facts->hook, facts->fence_dir);
        *ret_action = g_strdup_printf("See 'journalctl -u %s' for the hook that refused, and "
                                      "whether this daemon's state directory is the hook's.",
                                      facts->service);
    } else {
        gboolean late = facts->hook_changed_us > 0 && facts->service_since_us > 0 &&
                        facts->hook_changed_us > facts->service_since_us;

        *ret_message = late ? never_looked(facts)
                            : g_strdup_printf("host '%s': libvirt does not call the hook %s",
                                              facts->host, facts->hook);
        *ret_action = g_strdup_printf("Run: systemctl reload %s", facts->service);
    }
}
