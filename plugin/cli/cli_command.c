/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_command.h"

#include "plugin/cli/cli_commands.h"

/* clang-format off */
#define END {NULL, VR_CLI_FLAG, NULL, FALSE, FALSE}
#define DOMAIN {"domain", VR_CLI_DOMAIN, "domain name or UUID", TRUE, FALSE}
#define STORE                                                                                  \
    {"store", VR_CLI_STORE, "store of the peer that keeps the replica", FALSE, FALSE}
#define EXCLUDE                                                                                \
    {"exclude-disk", VR_CLI_DISK, "leave out this disk, by target name such as vdb", FALSE, TRUE}
#define NETWORKS                                                                               \
    {"networks", VR_CLI_NETWORKS,                                                              \
     "networks of this host that replicas of the other may be attached to; - for none"}
#define TIMEOUT                                                                                \
    {"timeout", VR_CLI_DURATION, "stop waiting after this time; the job goes on", FALSE, FALSE}
#define VERBOSE {"verbose", VR_CLI_FLAG, "show progress while waiting", FALSE, FALSE}
#define WAITING                                                                                \
    {"detach", VR_CLI_FLAG, "print the job's id and do not wait for it", FALSE, FALSE}, VERBOSE, \
        TIMEOUT
/* clang-format on */

static const VrCliParam none[] = {END};
static const VrCliParam domain_arg[] = {DOMAIN, END};
static const VrCliParam peer_arg[] = {{"peer", VR_CLI_PEER, "name of the peer", TRUE}, END};
static const VrCliParam store_arg[] = {{"name", VR_CLI_STORE, "name of the store", TRUE}, END};
static const VrCliParam store_define_args[] = {
    {"name", VR_CLI_TEXT, "name of the store", TRUE},
    END,
};
static const VrCliParam policy_arg[] = {{"name", VR_CLI_POLICY, "name of the policy", TRUE}, END};
static const VrCliParam job_arg[] = {{"id", VR_CLI_NUMBER, "id of the job", TRUE}, END};

static const VrCliParam invite_options[] = {
    {"name", VR_CLI_TEXT, "call the host that joins by this name"},
    {"expires", VR_CLI_DURATION, "how long the token can be used"},
    NETWORKS,
    END,
};
static const VrCliParam join_args[] = {
    {"token", VR_CLI_TEXT, "what peer-invite printed on the other host; - reads it from stdin"},
    END,
};
static const VrCliParam join_options[] = {
    {"token-file", VR_CLI_FILE, "read the token from this file; - is stdin"},
    {"name", VR_CLI_TEXT, "call the other host by this name"},
    NETWORKS,
    END,
};
static const VrCliParam peer_set_options[] = {
    NETWORKS,
    {"quota", VR_CLI_SIZE, "bytes that its replicas may take here; 0 for no limit"},
    {"max-protections", VR_CLI_NUMBER, "number of replicas that it may have here"},
    {"delete-grace", VR_CLI_DURATION, "how long a replica is kept that the peer gave up"},
    END,
};
static const VrCliParam store_define_options[] = {
    {"path", VR_CLI_FILE, "directory that holds the replicas", TRUE},
    END,
};
static const VrCliParam store_scan_options[] = {
    {"adopt", VR_CLI_TEXT, "have the replica of this domain (name or UUID) back"},
    {"adopt-all", VR_CLI_FLAG, "have every orphaned replica back"},
    {"drop", VR_CLI_TEXT, "delete this replica (name or UUID), which no protection knows"},
    END,
};
static const VrCliParam policy_define_args[] = {
    {"file", VR_CLI_FILE, "policy file; its name without .conf is the policy's name", TRUE},
    END,
};
static const VrCliParam netmap_list_args[] = {
    {"peer", VR_CLI_PEER, "only the networks mapped to this peer"},
    END,
};
static const VrCliParam netmap_set_args[] = {
    {"peer", VR_CLI_PEER, "name of the peer", TRUE},
    {"source-net", VR_CLI_NETWORK, "libvirt network of this host", TRUE},
    {"target-net", VR_CLI_NETWORK, "libvirt network of the peer", TRUE},
    END,
};
static const VrCliParam netmap_set_options[] = {
    {"test", VR_CLI_NETWORK, "libvirt network of the peer for tests"},
    END,
};
static const VrCliParam netmap_unset_args[] = {
    {"peer", VR_CLI_PEER, "name of the peer", TRUE},
    {"source-net", VR_CLI_NETWORK, "libvirt network of this host", TRUE},
    END,
};
static const VrCliParam check_options[] = {
    {"to", VR_CLI_PEER, "peer that would hold the replica", TRUE},
    STORE,
    EXCLUDE,
    END,
};
static const VrCliParam protect_options[] = {
    {"to", VR_CLI_PEER, "peer that is to hold the replica", TRUE},
    STORE,
    {"policy", VR_CLI_POLICY, "policy to follow, if not 'default'"},
    EXCLUDE,
    WAITING,
    END,
};
static const VrCliParam list_options[] = {
    {"all", VR_CLI_FLAG, "all protections this host knows, whatever their state"},
    END,
};
static const VrCliParam sync_options[] = {
    {"quiesce", VR_CLI_FLAG, "freeze the guest's file systems through its agent"},
    WAITING,
    END,
};
static const VrCliParam verify_options[] = {
    {"rp", VR_CLI_NUMBER, "recovery point to read, if not the newest"},
    WAITING,
    END,
};
static const VrCliParam policy_set_args[] = {
    DOMAIN,
    {"policy", VR_CLI_POLICY, "name of the policy", TRUE},
    END,
};
static const VrCliParam disk_args[] = {
    DOMAIN,
    {"disk", VR_CLI_DISK, "target name such as vdb", TRUE},
    END,
};
static const VrCliParam peer_remove_options[] = {
    {"force", VR_CLI_FLAG, "it is gone for good: end what is protected there first"},
    VERBOSE,
    TIMEOUT,
    END,
};
static const VrCliParam unprotect_options[] = {
    {"keep-replica", VR_CLI_FLAG, "keep the recovery points on the peer without end"},
    {"force", VR_CLI_FLAG, "end it without the other host, in any state; says what is left there"},
    WAITING,
    END,
};
static const VrCliParam rp_info_args[] = {
    DOMAIN,
    {"number", VR_CLI_NUMBER, "number of the recovery point", TRUE},
    END,
};
static const VrCliParam failover_options[] = {
    {"planned", VR_CLI_FLAG, "shut the domain down, send the rest, start the replica", TRUE},
    {"force", VR_CLI_FLAG, "power the domain off if it does not shut down in time"},
    {"no-verify", VR_CLI_FLAG, "do not read the replica before the domain is shut down"},
    {"no-reverse", VR_CLI_FLAG, "do not protect the domain in the other direction afterwards"},
    WAITING,
    END,
};
static const VrCliParam job_list_args[] = {
    {"domain", VR_CLI_DOMAIN, "only the jobs of this domain"},
    END,
};
static const VrCliParam job_list_options[] = {
    {"all", VR_CLI_FLAG, "also jobs that have ended"},
    END,
};
static const VrCliParam job_wait_options[] = {VERBOSE, TIMEOUT, END};
static const VrCliParam help_args[] = {
    {"command", VR_CLI_COMMAND, "command or group to explain"},
    END,
};

static const VrCliGroup groups[] = {
    {"host", "This host and its peers"},
    {"store", "Stores"},
    {"policy", "Policies"},
    {"network", "Networks"},
    {"protection", "Protection"},
    {"rp", "Recovery points"},
    {"failover", "Failover"},
    {"job", "Jobs"},
    {"help", "Help"},
};

static const VrCliCommand commands[] = {
    {"status", "host", none, none, vr_cli_status, "show the daemon and its host"},
    {"peer-invite", "host", none, invite_options, vr_cli_peer_invite,
     "make a one-time token that lets another host join"},
    {"peer-join", "host", join_args, join_options, vr_cli_peer_join,
     "pair with the host that made the token"},
    {"peer-list", "host", none, none, vr_cli_peer_list, "list the paired hosts"},
    {"peer-info", "host", peer_arg, none, vr_cli_peer_info, "show one paired host"},
    {"peer-set", "host", peer_arg, peer_set_options, vr_cli_peer_set,
     "say what a paired host may have on this one"},
    {"peer-remove", "host", peer_arg, peer_remove_options, vr_cli_peer_remove,
     "end the pairing with a host"},

    {"store-list", "store", none, none, vr_cli_store_list, "list the stores of this host"},
    {"store-define", "store", store_define_args, store_define_options, vr_cli_store_define,
     "let replicas be kept in a directory"},
    {"store-info", "store", store_arg, none, vr_cli_store_info, "show one store"},
    {"store-scan", "store", store_arg, store_scan_options, vr_cli_store_scan,
     "list what a store's directories hold; have lost replicas back"},
    {"store-undefine", "store", store_arg, none, vr_cli_store_undefine, "forget an unused store"},

    {"policy-list", "policy", none, none, vr_cli_policy_list, "list the policies"},
    {"policy-define", "policy", policy_define_args, none, vr_cli_policy_define,
     "define or replace a policy from a file"},
    {"policy-dump", "policy", policy_arg, none, vr_cli_policy_dump, "print a policy as a file"},
    {"policy-undefine", "policy", policy_arg, none, vr_cli_policy_undefine,
     "forget an unused policy"},

    {"netmap-list", "network", netmap_list_args, none, vr_cli_netmap_list,
     "list which network a replica is attached to"},
    {"netmap-set", "network", netmap_set_args, netmap_set_options, vr_cli_netmap_set,
     "map a network of this host to one of a peer"},
    {"netmap-unset", "network", netmap_unset_args, none, vr_cli_netmap_unset,
     "remove the mapping of a network"},

    {"check", "protection", domain_arg, check_options, vr_cli_check,
     "tell whether a domain can be protected, and what is in the way"},
    {"protect", "protection", domain_arg, protect_options, vr_cli_protect,
     "replicate a domain to a peer from now on"},
    {"list", "protection", none, list_options, vr_cli_list, "list the protections"},
    {"info", "protection", domain_arg, none, vr_cli_info, "show one protection and its health"},
    {"sync", "protection", domain_arg, sync_options, vr_cli_sync, "make a recovery point now"},
    {"verify", "protection", domain_arg, verify_options, vr_cli_verify,
     "read the stored replica back and compare it with what was proven"},
    {"pause", "protection", domain_arg, none, vr_cli_pause, "make no more recovery points"},
    {"resume", "protection", domain_arg, none, vr_cli_resume, "make recovery points again"},
    {"unprotect", "protection", domain_arg, unprotect_options, vr_cli_unprotect,
     "end a protection; the peer keeps the replica for its grace"},

    {"policy-set", "protection", policy_set_args, none, vr_cli_policy_set,
     "let a protection follow another policy"},
    {"disk-exclude", "protection", disk_args, none, vr_cli_disk_exclude,
     "leave a disk out from the next recovery point on"},
    {"disk-include", "protection", disk_args, none, vr_cli_disk_include,
     "replicate a disk that was left out"},
    {"rp-list", "rp", domain_arg, none, vr_cli_rp_list, "list the recovery points of a domain"},
    {"rp-info", "rp", rp_info_args, none, vr_cli_rp_info, "show one recovery point"},

    {"failover", "failover", domain_arg, failover_options, vr_cli_failover,
     "move a domain to the peer that holds its replica"},

    {"job-list", "job", job_list_args, job_list_options, vr_cli_job_list,
     "list the jobs that have not ended"},
    {"job-info", "job", job_arg, none, vr_cli_job_info, "show one job and its steps"},
    {"job-wait", "job", job_arg, job_wait_options, vr_cli_job_wait, "wait until a job has ended"},
    {"job-cancel", "job", job_arg, none, vr_cli_job_cancel, "ask a job to stop"},

    {"help", "help", help_args, none, vr_cli_help, "explain a command or a group"},
};

const VrCliCommand *
vr_cli_commands(gsize *ret_count)
{
    *ret_count = G_N_ELEMENTS(commands);
    return commands;
}

const VrCliGroup *
vr_cli_groups(gsize *ret_count)
{
    *ret_count = G_N_ELEMENTS(groups);
    return groups;
}

const VrCliCommand *
vr_cli_command_find(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (g_str_equal(commands[i].name, name))
            return &commands[i];
    }
    return NULL;
}

const VrCliGroup *
vr_cli_group_find(const char *keyword)
{
    for (gsize i = 0; i < G_N_ELEMENTS(groups); i++) {
        if (g_str_equal(groups[i].keyword, keyword))
            return &groups[i];
    }
    return NULL;
}

const char *
vr_cli_type_name(VrCliType type)
{
    switch (type) {
    case VR_CLI_FLAG:
        return "";
    case VR_CLI_TEXT:
        return "text";
    case VR_CLI_NUMBER:
        return "number";
    case VR_CLI_DURATION:
        return "duration";
    case VR_CLI_SIZE:
        return "size";
    case VR_CLI_NETWORKS:
        return "network,...";
    case VR_CLI_FILE:
        return "path";
    case VR_CLI_DOMAIN:
        return "domain";
    case VR_CLI_PEER:
        return "peer";
    case VR_CLI_STORE:
        return "store";
    case VR_CLI_POLICY:
        return "policy";
    case VR_CLI_NETWORK:
        return "network";
    case VR_CLI_DISK:
        return "disk";
    case VR_CLI_COMMAND:
        return "command";
    }
    return "";
}
