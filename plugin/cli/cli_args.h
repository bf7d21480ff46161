/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: the words of a command line, matched against the command table.
 *
 * Values given by name, in any order, or by position. Once parsed, every required value is there
 * and every value has the form its type asks for, so the getters cannot fail. A name that is not
 * a parameter of the command is a bug of the caller.
 */
typedef struct VrCliArgs VrCliArgs;
struct VrCliCommand;

/** What stands before and beside the command. */
typedef struct {
    char *socket; /* owned, nullable: --connect */
    gboolean quiet;
    gboolean version;
    gboolean help; /* -h: of the command if there is one */
} VrCliGlobals;

/** TRUE if --json stands anywhere: it must be known before a usage error is reported. */
gboolean vr_cli_args_want_json(char **argv);

/**
 * vr_cli_args_parse:
 * @argv: NULL-terminated, argv[0] is skipped
 * @ret_globals: strings to be freed with vr_cli_globals_clear(), also after an error
 *
 * Returns: (transfer full): NULL with INVALID "usage" and a near match in the action. Without a
 * command, or with --version or --help, nothing is required and vr_cli_args_command() may be NULL.
 */
VrCliArgs *vr_cli_args_parse(char **argv, VrCliGlobals *ret_globals, GError **error);
void vr_cli_args_free(VrCliArgs *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrCliArgs, vr_cli_args_free)
void vr_cli_globals_clear(VrCliGlobals *globals);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrCliGlobals, vr_cli_globals_clear)

const struct VrCliCommand *vr_cli_args_command(const VrCliArgs *self);

/** The (last) value, or NULL if it was not given. Valid while @self lives. */
const char *vr_cli_args_text(const VrCliArgs *self, const char *name);
gboolean vr_cli_args_flag(const VrCliArgs *self, const char *name);
/** All values in order, NULL if none. (element-type utf8) (transfer none) */
const GPtrArray *vr_cli_args_list(const VrCliArgs *self, const char *name);
/** A NUMBER, or 0 if it was not given. */
gint64 vr_cli_args_number(const VrCliArgs *self, const char *name);
/** A DURATION in seconds, or -1 if it was not given. */
gint64 vr_cli_args_seconds(const VrCliArgs *self, const char *name);
/** A SIZE in bytes, or 0 if it was not given. */
guint64 vr_cli_args_bytes(const VrCliArgs *self, const char *name);
/** NETWORKS, or NULL if they were not given. (transfer full) */
char **vr_cli_args_networks(const VrCliArgs *self, const char *name);

G_END_DECLS
