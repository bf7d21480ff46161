/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/policy_files.h"

#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "policies/ids.h"
#include "policies/keyfile.h"
#include "storage/util/file_util.h"

#define DEFAULT_NAME "default"

struct _VrPolicyFiles {
    char *dir;        /* owned */
    GMutex lock;      /* guards what follows */
    GHashTable *good; /* owned: name -> text of the last file of that name that could be read */
    GHashTable *seen; /* owned: name -> what its file was like when that was asked last */
};

VrPolicyFiles *
vr_policy_files_new(const char *config_dir)
{
    VrPolicyFiles *self = g_new0(VrPolicyFiles, 1);

    self->dir = g_build_filename(config_dir, "policies", NULL);
    g_mutex_init(&self->lock);
    self->good = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return self;
}

void
vr_policy_files_free(VrPolicyFiles *self)
{
    if (self == NULL)
        return;
    g_hash_table_unref(self->good);
    g_hash_table_unref(self->seen);
    g_mutex_clear(&self->lock);
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

/* A file that was cut to nothing is no policy: its defaults may be shorter than what it said. */
static gboolean
has_group(const char *path, const char *text, gsize len, GError **error)
{
    g_autofree char *copy = g_strndup(text, len);
    g_auto(GStrv) lines = g_strsplit(copy, "\n", -1);

    for (guint i = 0; lines[i] != NULL; i++) {
        if (strcmp(g_strstrip(lines[i]), "[policy]") == 0)
            return TRUE;
    }
    vr_set_error(error, VR_ERROR_INVALID, "bad-key-file", "Begin it with that line.",
                 "%s:1: the group [policy] is missing", path);
    return FALSE;
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
        return has_group(path, text, len, error) ? vr_policy_parse(name, path, text, len, error)
                                                 : NULL;
    if (!g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    if (strcmp(name, DEFAULT_NAME) == 0)
        return vr_policy_default();
    set_unknown(error, name);
    return NULL;
}

static void
remember(VrPolicyFiles *self, const char *name, const VrPolicy *policy)
{
    char *text = vr_policy_to_text(policy);

    g_mutex_lock(&self->lock);
    g_hash_table_replace(self->good, g_strdup(name), text);
    g_mutex_unlock(&self->lock);
}

/* (transfer full) (nullable) */
static char *
last_good(VrPolicyFiles *self, const char *name)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    return g_strdup(g_hash_table_lookup(self->good, name));
}

VrPolicy *
vr_policy_files_in_force(VrPolicyFiles *self, const char *name, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *text = NULL;
    VrPolicy *policy = vr_policy_files_get(self, name, &local);

    if (policy != NULL) {
        remember(self, name, policy);
        return policy;
    }
    text = last_good(self, name);
    if (text != NULL)
        return vr_policy_parse(name, name, text, strlen(text), error);
    g_propagate_error(error, g_steal_pointer(&local));
    return NULL;
}

GError *
vr_policy_files_problem(VrPolicyFiles *self, const char *name)
{
    g_autofree char *text = last_good(self, name);
    g_autoptr(VrPolicy) policy = NULL;
    GError *error = NULL;

    if (text != NULL)
        policy = vr_policy_files_get(self, name, &error);
    return error;
}

gboolean
vr_policy_files_changed(VrPolicyFiles *self, const char *name)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    g_autofree char *path = path_of(self, name);
    const char *before = g_hash_table_lookup(self->seen, name);
    g_autofree char *now = NULL;
    struct stat st;
    gboolean changed;

    if (stat(path, &st) == 0)
        now = g_strdup_printf("%ju %jd %jd.%09ld", (uintmax_t) st.st_ino, (intmax_t) st.st_size,
                              (intmax_t) st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    else
        now = g_strdup("none");
    changed = before != NULL && strcmp(before, now) != 0;
    g_hash_table_replace(self->seen, g_strdup(name), g_steal_pointer(&now));
    return changed;
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
    if (!has_group(file, text, strlen(text), error))
        return FALSE;
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
