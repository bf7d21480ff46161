/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/policy_files.h"

#include <string.h>
#include <unistd.h>

#include "policies/error.h"
#include "policies/ids.h"
#include "policies/keyfile.h"
#include "storage/util/file_util.h"

#define DEFAULT_NAME "default"

struct _VrPolicyFiles {
    char *dir;
};

VrPolicyFiles *
vr_policy_files_new(const char *config_dir)
{
    VrPolicyFiles *self = g_new0(VrPolicyFiles, 1);

    self->dir = g_build_filename(config_dir, "policies", NULL);
    return self;
}

void
vr_policy_files_free(VrPolicyFiles *self)
{
    if (self == NULL)
        return;
    g_free(self->dir);
    g_free(self);
}

static char *
path_of(VrPolicyFiles *self, const char *name)
{
    return g_strdup_printf("%s/%s.conf", self->dir, name);
}

static void
set_unknown(GError **error, const char *name)
{
    g_autofree char *shown = vr_display_name(name, VR_NAME_MAX);

    vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-policy", "See 'virt-replica policy-list'.",
                 "there is no policy '%s'", shown);
}

VrPolicy *
vr_policy_files_get(VrPolicyFiles *self, const char *name, GError **error)
{
    g_autofree char *path = NULL;
    g_autofree char *text = NULL;
    g_autoptr(GError) local = NULL;
    gsize len;

    if (!vr_name_valid(name)) {
        set_unknown(error, name);
        return NULL;
    }
    path = path_of(self, name);
    text = vr_read_file(path, VR_KEYFILE_SIZE_MAX, &len, &local);
    if (text != NULL)
        return vr_policy_parse(name, path, text, len, error);
    if (!g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    if (strcmp(name, DEFAULT_NAME) == 0)
        return vr_policy_default();
    set_unknown(error, name);
    return NULL;
}

static int
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

char **
vr_policy_files_list(VrPolicyFiles *self)
{
    g_autoptr(GDir) dir = g_dir_open(self->dir, 0, NULL);
    GPtrArray *names = g_ptr_array_new();
    const char *file;

    while (dir != NULL && (file = g_dir_read_name(dir)) != NULL) {
        g_autofree char *name = g_strndup(file, strlen(file) - MIN(strlen(file), strlen(".conf")));

        if (g_str_has_suffix(file, ".conf") && vr_name_valid(name) &&
            strcmp(name, DEFAULT_NAME) != 0)
            g_ptr_array_add(names, g_steal_pointer(&name));
    }
    g_ptr_array_add(names, g_strdup(DEFAULT_NAME));
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    return (char **) g_ptr_array_free(names, FALSE);
}

gboolean
vr_policy_files_is_builtin(const char *name)
{
    return strcmp(name, DEFAULT_NAME) == 0;
}

gboolean
vr_policy_files_has_file(VrPolicyFiles *self, const char *name)
{
    g_autofree char *path = path_of(self, name);

    return vr_name_valid(name) && g_file_test(path, G_FILE_TEST_IS_REGULAR);
}

gboolean
vr_policy_files_put(VrPolicyFiles *self, const char *name, const char *file, const char *text,
                    GError **error)
{
    g_autoptr(VrPolicy) policy = NULL;
    g_autofree char *path = NULL;

    if (!vr_name_valid(name)) {
        g_autofree char *shown = vr_display_name(name, VR_NAME_MAX);

        vr_set_error(error, VR_ERROR_INVALID, "bad-policy-name",
                     "Use letters, digits, dots and dashes, at most 63.",
                     "'%s' cannot be the name of a policy", shown);
        return FALSE;
    }
    policy = vr_policy_parse(name, file, text, strlen(text), error);
    if (policy == NULL || !vr_make_dir(self->dir, 0755, error))
        return FALSE;
    path = path_of(self, name);
    return vr_write_file_atomic(path, text, strlen(text), 0644, error);
}

gboolean
vr_policy_files_delete(VrPolicyFiles *self, const char *name, GError **error)
{
    g_autofree char *path = path_of(self, name);

    if (vr_name_valid(name) && unlink(path) == 0)
        return vr_fsync_dir(self->dir, error);
    if (strcmp(name, DEFAULT_NAME) == 0) {
        vr_set_error(error, VR_ERROR_REFUSED, "builtin-policy", NULL,
                     "policy 'default' is built in and cannot be removed");
        return FALSE;
    }
    set_unknown(error, name);
    return FALSE;
}
