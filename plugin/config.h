/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/window.h"

G_BEGIN_DECLS

/** SECTION: the daemon's settings: file, then command line. Immutable once threads run. */
typedef struct {
    char *config_dir; /* of the file: holds policies/ and pki/ */
    char *state_dir;
    char *runtime_dir;
    char *libvirt_uri;
    char *listen;                /* ADDR:PORT */
    char *address;               /* HOST:PORT that peers are told; NULL: found out */
    char *name;                  /* of this host */
    guint workers;               /* copy workers a transfer, 1..4 */
    guint max_transfers;         /* cycles at once of any kind, 1..64; with 1 an initial replication
                                    holds up all */
    guint peer_connections;      /* of one peer to this host at once, 8..1024 */
    guint store_reserve_percent; /* vr_store_room_set_reserve() */
    guint64 verify_rate;     /* of the background reading of layers, bytes per second; 0 no limit */
    VrWindow scrub_window;   /* when that reading goes on, in local time */
    gint64 look_interval_us; /* between two looks at the layers' files */
    guint log_level;         /* index into error, warning, message, info, debug */
} VrConfig;

void vr_config_free(VrConfig *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrConfig, vr_config_free)

#define VR_CONFIG_DEFAULT_FILE "/etc/virt-replica/virt-replicad.conf"

/**
 * vr_config_load:
 * @file: a missing default file gives the defaults; another one must be there
 *
 * Errors: INVALID naming file, line, key and what was expected; NOT_FOUND.
 */
VrConfig *vr_config_load(const char *file, GError **error);

/** RUNTIME/virt-replica.sock (transfer full) */
char *vr_config_socket_path(const VrConfig *self);

G_END_DECLS
