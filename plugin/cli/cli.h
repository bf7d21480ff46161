/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/error.h"

#include <stdio.h>

G_BEGIN_DECLS

/**
 * SECTION: one run of `virt-replica`.
 *
 * Everything a command may touch: where to print, how, and the connection to the daemon. One
 * thread. A command prints its result to @out and nothing else there; progress and errors go to
 * @err.
 */
typedef struct VrCliClient VrCliClient;

typedef struct {
    FILE *in;            /* borrowed, nullable: where the shell reads its lines */
    FILE *out;           /* borrowed */
    FILE *err;           /* borrowed */
    gboolean terminal;   /* @err is one: progress is redrawn in place */
    gboolean quiet;      /* no headings, no sentences of success */
    gboolean json;       /* one JSON value on @out */
    char *socket;        /* owned: path of the daemon's UNIX socket */
    VrCliClient *client; /* owned, made at the first request */
    int exit_status;     /* of a command that ends without a GError; 0 unless it says otherwise */
} VrCli;

/**
 * vr_cli_run:
 * @argv: NULL-terminated, argv[0] is skipped
 * @environ_socket: (nullable): value of VIRT_REPLICA_SOCKET
 * @in: (nullable): without a command, a shell reads commands there; NULL makes that a usage error
 *
 * Parses, runs one command, reports its error, and makes sure that what it printed arrived.
 * Returns: the exit status (design.md section 8).
 */
int vr_cli_run(char **argv, const char *environ_socket, FILE *in, FILE *out, FILE *err,
               gboolean terminal);

/** The same for one line of a shell: what @base has set (socket, quiet, json) holds for it too. */
int vr_cli_run_words(const VrCli *base, char **argv, FILE *in);

/** Prints a sentence of success, with a newline; nothing with -q or --json. */
void vr_cli_say(VrCli *self, const char *format, ...) G_GNUC_PRINTF(2, 3);

/** Prints "error: ..." with a newline on @err. */
void vr_cli_complain(VrCli *self, const char *format, ...) G_GNUC_PRINTF(2, 3);

G_END_DECLS
