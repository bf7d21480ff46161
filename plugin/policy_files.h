/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/policy.h"

G_BEGIN_DECLS

/** SECTION: policies as files: CONFIG/policies/<name>.conf, read when asked for, so that files
 * edited by hand count as well. "default" is built in unless a file of that name is there. Blocks
 * on files; any thread. */
typedef struct _VrPolicyFiles VrPolicyFiles;

VrPolicyFiles *vr_policy_files_new(const char *config_dir);
void vr_policy_files_free(VrPolicyFiles *self);

/** NOT_FOUND "no-such-policy"; INVALID naming file and line. (transfer full) */
VrPolicy *vr_policy_files_get(VrPolicyFiles *self, const char *name, GError **error);
/** What holds for the protections that have it: the file or, while that cannot be read, the last
 * one of this run of the daemon that could. Errors: those of vr_policy_files_get() if there is
 * none. (transfer full) */
VrPolicy *vr_policy_files_in_force(VrPolicyFiles *self, const char *name, GError **error);
/** Why the file is not what is in force, or NULL. (transfer full) */
GError *vr_policy_files_problem(VrPolicyFiles *self, const char *name);
/** TRUE if the file is another one than when this was asked last. */
gboolean vr_policy_files_changed(VrPolicyFiles *self, const char *name);
/** Names, sorted, NULL-terminated, "default" always among them. (transfer full) */
char **vr_policy_files_list(VrPolicyFiles *self);
/** TRUE if the name holds also without a file. */
gboolean vr_policy_files_is_builtin(const char *name);
/** TRUE if a file stands behind the name. */
gboolean vr_policy_files_has_file(VrPolicyFiles *self, const char *name);
/** Checked, then written durably. @file: for messages. */
gboolean vr_policy_files_put(VrPolicyFiles *self, const char *name, const char *file,
                             const char *text, GError **error);
/** NOT_FOUND; REFUSED for the built-in one. */
gboolean vr_policy_files_delete(VrPolicyFiles *self, const char *name, GError **error);

G_END_DECLS
