/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/store_use.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "policies/error.h"
#include "qmp/domain/domain_files.h"
#include "qmp/domain/domain_mark.h"
#include "qmp/domain/domain_ops.h"
#include "storage/util/image_chain.h"

#define DEPTH_MAX 8

/* The files below a directory, as their file system knows them. */
typedef struct {
    char *real;        /* owned; the directory's path without links, ends in '/' */
    GHashTable *files; /* owned; "device:inode" -> path, both owned */
} Tree;

static void
tree_clear(Tree *tree)
{
    g_clear_pointer(&tree->real, g_free);
    g_clear_pointer(&tree->files, g_hash_table_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Tree, tree_clear)

static char *
key_of(const struct stat *st)
{
    return g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, (guint64) st->st_dev,
                           (guint64) st->st_ino);
}

static gboolean
add_files(Tree *tree, const char *path, guint depth, GError **error)
{
    g_autoptr(GDir) dir = depth < DEPTH_MAX ? g_dir_open(path, 0, NULL) : NULL;
    const char *name;

    if (dir == NULL) {
        vr_set_error(error, VR_ERROR_REFUSED, "replica-in-use",
                     "Look at the directory; remove by hand what does not belong there.",
                     "'%s' cannot be read, so it is not known whether it is in use", path);
        return FALSE;
    }
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *full = g_build_filename(path, name, NULL);
        struct stat st;

        if (lstat(full, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode) && !add_files(tree, full, depth + 1, error))
            return FALSE;
        if (S_ISREG(st.st_mode))
            g_hash_table_insert(tree->files, key_of(&st), g_steal_pointer(&full));
    }
    return TRUE;
}

static gboolean
read_tree(const char *dir, Tree *tree, GError **error)
{
    char *real = realpath(dir, NULL);

    tree->real = g_strconcat(real ? real : dir, "/", NULL);
    free(real);
    tree->files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return add_files(tree, dir, 0, error);
}

static gboolean
lies_below(const Tree *tree, const char *path)
{
    char *real = realpath(path, NULL);
    g_autofree char *full = g_strconcat(real ? real : path, "/", NULL);

    free(real);
    return g_str_has_prefix(full, tree->real);
}

/* One that is not there any more is known by its directory. */
static gboolean
holds(const Tree *tree, const char *path)
{
    g_autofree char *key = NULL;
    g_autofree char *dir = g_path_get_dirname(path);
    struct stat st;

    if (stat(path, &st) < 0)
        return lies_below(tree, dir);
    key = key_of(&st);
    return g_hash_table_contains(tree->files, key) || lies_below(tree, path);
}

/* TRUE if @file is there, or one that it is backed by. */
static gboolean
reaches(const Tree *tree, const VrDomFile *file, gboolean *ret_complete)
{
    g_autoptr(GPtrArray) chain = NULL;

    *ret_complete = file->path != NULL;
    if (file->path == NULL)
        return FALSE;
    chain = vr_image_chain(file->path, file->format, ret_complete);
    for (guint i = 0; i < chain->len; i++) {
        if (holds(tree, g_ptr_array_index(chain, i)))
            return TRUE;
    }
    return FALSE;
}

static void
refuse_domain(VrApp *app, const VrDomInfo *info, const VrDomFile *file, const char *dir,
              gboolean certain, GError **error)
{
    g_autofree char *part = file->disk ? g_strdup_printf("disk '%s'", file->disk)
                                       : g_strdup_printf("file '%s'", file->path);

    if (certain)
        vr_set_error(error, VR_ERROR_REFUSED, "replica-in-use", "Undefine that domain first.",
                     "domain '%s' of host '%s': its %s needs files in '%s'", info->name,
                     app->config->name, part, dir);
    else
        vr_set_error(error, VR_ERROR_REFUSED, "replica-in-use",
                     "Have its images back where they were, or undefine that domain first.",
                     "domain '%s' of host '%s': it cannot be told whether its %s needs files in "
                     "'%s': image '%s' or one below it cannot be read",
                     info->name, app->config->name, part, dir,
                     file->path ? file->path : file->volume);
}

/* Of the replica itself, or of one that was made of it. */
static gboolean
is_near(VrApp *app, const VrDomInfo *info, const char *uuid, gboolean *ret_near, GError **error)
{
    g_auto(VrDomMark) mark = {0};

    if (!vr_dom_mark_read(app->conn, info->uuid, &mark, error))
        return FALSE;
    *ret_near = mark.role != NULL || strcmp(info->uuid, uuid) == 0;
    return TRUE;
}

static gboolean
is_left_alone(VrApp *app, const VrDomInfo *info, const Tree *tree, const char *dir,
              const char *uuid, GError **error)
{
    g_autoptr(GPtrArray) files = vr_dom_files(app->conn, info->uuid, error);
    const VrDomFile *unread = NULL;
    gboolean near = FALSE;

    if (files == NULL || !is_near(app, info, uuid, &near, error))
        return FALSE;
    for (guint i = 0; i < files->len; i++) {
        const VrDomFile *file = g_ptr_array_index(files, i);
        gboolean complete;

        if (reaches(tree, file, &complete)) {
            refuse_domain(app, info, file, dir, TRUE, error);
            return FALSE;
        }
        if (!complete && unread == NULL)
            unread = file;
    }
    if (!near || unread == NULL)
        return TRUE;
    refuse_domain(app, info, unread, dir, FALSE, error);
    return FALSE;
}

static gboolean
is_closed(VrApp *app, const Tree *tree, GError **error)
{
    GHashTableIter iter;
    gpointer path;

    g_hash_table_iter_init(&iter, tree->files);
    while (g_hash_table_iter_next(&iter, NULL, &path)) {
        if (!vr_image_in_use(path))
            continue;
        vr_set_error(error, VR_ERROR_REFUSED, "replica-in-use", "End that program first.",
                     "a program of host '%s' (QEMU, qemu-nbd, ...) has '%s' open",
                     app->config->name, (char *) path);
        return FALSE;
    }
    return TRUE;
}

gboolean
vr_store_check_unused(VrApp *app, const char *dir, const char *uuid, GError **error)
{
    g_auto(Tree) tree = {0};
    g_autoptr(GPtrArray) domains = NULL;

    if (!read_tree(dir, &tree, error) || !is_closed(app, &tree, error))
        return FALSE;
    domains = vr_dom_list(app->conn, error);
    for (guint i = 0; domains != NULL && i < domains->len; i++) {
        g_autoptr(GError) local = NULL;

        /* One that is gone meanwhile uses nothing. */
        if (is_left_alone(app, g_ptr_array_index(domains, i), &tree, dir, uuid, &local) ||
            g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
            continue;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    return domains != NULL;
}
