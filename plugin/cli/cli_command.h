/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/cli/cli.h"
#include "plugin/cli/cli_args.h"

G_BEGIN_DECLS

/**
 * SECTION: the command table.
 *
 * One row a command. The parser, `help` and everything else that must know the commands read
 * these rows and nothing else.
 */
typedef enum {
    VR_CLI_FLAG, /* takes no value */
    VR_CLI_TEXT,
    VR_CLI_NUMBER,   /* 1 to 2^63-1 */
    VR_CLI_DURATION, /* "90", "30s", "5min", "1h", "2d": seconds */
    VR_CLI_SIZE,     /* "0", "4096", "500GiB": bytes */
    VR_CLI_NETWORKS, /* a list for vr_network_list_parse(), "-" for none */
    VR_CLI_FILE,
    VR_CLI_DOMAIN,
    VR_CLI_PEER,
    VR_CLI_STORE,
    VR_CLI_POLICY,
    VR_CLI_NETWORK,
    VR_CLI_DISK,
    VR_CLI_COMMAND,
} VrCliType;

/** A positional argument, which can also be given as --name VALUE, or an option. */
typedef struct {
    const char *name; /* NULL ends a list */
    VrCliType type;
    const char *help;
    gboolean required;
    gboolean repeatable; /* options only */
} VrCliParam;

typedef struct VrCliCommand VrCliCommand;
struct VrCliCommand {
    const char *name;
    const char *group;         /* keyword of a VrCliGroup */
    const VrCliParam *args;    /* in order, required ones first */
    const VrCliParam *options; /* in the order help shows them */
    gboolean (*run)(VrCli *cli, const VrCliArgs *args, GError **error);
    const char *help; /* one phrase, lower case, no full stop */
};

typedef struct {
    const char *keyword;
    const char *title;
} VrCliGroup;

const VrCliCommand *vr_cli_commands(gsize *ret_count);
const VrCliGroup *vr_cli_groups(gsize *ret_count);

/** NULL if there is none of that exact name. */
const VrCliCommand *vr_cli_command_find(const char *name);
const VrCliGroup *vr_cli_group_find(const char *keyword);

/** What stands for a value of @type in help: "domain", "seconds", ... */
const char *vr_cli_type_name(VrCliType type);

G_END_DECLS
