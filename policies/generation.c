/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/generation.h"

#include <string.h>

#include "policies/error.h"
#include "policies/ids.h"

#define LINE_MAX_BYTES 2300

struct _VrGeneration {
    char *id;
    char *owner;
    GPtrArray *ancestors; /* owned, char *: newest first */
};

static gboolean
owner_valid(const char *owner)
{
    if (!owner || !*owner || strnlen(owner, VR_GENERATION_OWNER_MAX + 1) > VR_GENERATION_OWNER_MAX)
        return FALSE;
    for (const char *c = owner; *c; c++) {
        if (!g_ascii_isalnum(*c) && !strchr(":+/=_.-", *c))
            return FALSE;
    }
    return TRUE;
}

VrGeneration *
vr_generation_new(const char *id, const char *owner)
{
    VrGeneration *self;

    if (!vr_cycle_id_valid(id) || !owner_valid(owner))
        return NULL;
    self = g_new(VrGeneration, 1);
    self->id = g_strdup(id);
    self->owner = g_strdup(owner);
    self->ancestors = g_ptr_array_new_with_free_func(g_free);
    return self;
}

void
vr_generation_free(VrGeneration *self)
{
    if (!self)
        return;
    g_free(self->id);
    g_free(self->owner);
    g_ptr_array_unref(self->ancestors);
    g_free(self);
}

const char *
vr_generation_id(const VrGeneration *self)
{
    return self->id;
}

const char *
vr_generation_owner(const VrGeneration *self)
{
    return self->owner;
}

guint
vr_generation_ancestors(const VrGeneration *self)
{
    return self->ancestors->len;
}

const char *
vr_generation_ancestor(const VrGeneration *self, guint i)
{
    g_return_val_if_fail(i < self->ancestors->len, NULL);
    return g_ptr_array_index(self->ancestors, i);
}

static gboolean
descends_from(const VrGeneration *self, const char *id)
{
    for (guint i = 0; i < self->ancestors->len; i++) {
        if (strcmp(vr_generation_ancestor(self, i), id) == 0)
            return TRUE;
    }
    return FALSE;
}

gboolean
vr_generation_knows(const VrGeneration *self, const char *id)
{
    return strcmp(self->id, id) == 0 || descends_from(self, id);
}

VrGeneration *
vr_generation_advance(const VrGeneration *self, const char *new_id, const char *new_owner)
{
    VrGeneration *next = vr_generation_new(new_id, new_owner);
    guint kept = MIN(self->ancestors->len, VR_GENERATION_ANCESTORS_MAX - 1);

    if (!next)
        return NULL;
    if (strcmp(new_id, self->id) == 0 || descends_from(self, new_id)) {
        vr_generation_free(next);
        return NULL;
    }
    g_ptr_array_add(next->ancestors, g_strdup(self->id));
    for (guint i = 0; i < kept; i++)
        g_ptr_array_add(next->ancestors, g_strdup(vr_generation_ancestor(self, i)));
    return next;
}

VrGenerationRelation
vr_generation_compare(const VrGeneration *mine, const VrGeneration *theirs)
{
    gboolean behind = descends_from(theirs, mine->id);
    gboolean ahead = descends_from(mine, theirs->id);

    if (strcmp(mine->id, theirs->id) == 0)
        return strcmp(mine->owner, theirs->owner) == 0 ? VR_GENERATION_SAME
                                                       : VR_GENERATION_SPLIT_BRAIN;
    /* Each the other's ancestor is no history that can be: two owners made it up. */
    if (behind && ahead)
        return VR_GENERATION_SPLIT_BRAIN;
    if (behind)
        return VR_GENERATION_BEHIND;
    if (ahead)
        return VR_GENERATION_AHEAD;
    for (guint i = 0; i < mine->ancestors->len; i++) {
        if (descends_from(theirs, vr_generation_ancestor(mine, i)))
            return VR_GENERATION_SPLIT_BRAIN;
    }
    return VR_GENERATION_UNRELATED;
}

const char *
vr_generation_relation_name(VrGenerationRelation relation)
{
    static const char *const names[VR_GENERATION_RELATION_LAST] = {
        [VR_GENERATION_SAME] = "same",           [VR_GENERATION_BEHIND] = "behind",
        [VR_GENERATION_AHEAD] = "ahead",         [VR_GENERATION_SPLIT_BRAIN] = "split-brain",
        [VR_GENERATION_UNRELATED] = "unrelated",
    };

    g_return_val_if_fail(relation < VR_GENERATION_RELATION_LAST, "?");
    return names[relation];
}

char *
vr_generation_to_line(const VrGeneration *self)
{
    GString *line = g_string_new(NULL);

    g_string_append_printf(line, "1 %s %s ", self->id, self->owner);
    for (guint i = 0; i < self->ancestors->len; i++)
        g_string_append_printf(line, "%s%s", i > 0 ? "," : "", vr_generation_ancestor(self, i));
    if (self->ancestors->len == 0)
        g_string_append_c(line, '-');
    return g_string_free(line, FALSE);
}

static gboolean
parse_ancestors(VrGeneration *self, const char *text)
{
    g_auto(GStrv) ids = NULL;

    if (strcmp(text, "-") == 0)
        return TRUE;
    ids = g_strsplit(text, ",", VR_GENERATION_ANCESTORS_MAX + 1);
    for (guint i = 0; ids[i]; i++) {
        if (i >= VR_GENERATION_ANCESTORS_MAX || !vr_cycle_id_valid(ids[i]) ||
            strcmp(ids[i], self->id) == 0 || descends_from(self, ids[i]))
            return FALSE;
        g_ptr_array_add(self->ancestors, g_strdup(ids[i]));
    }
    return self->ancestors->len > 0;
}

VrGeneration *
vr_generation_from_line(const char *line, GError **error)
{
    g_autoptr(VrGeneration) self = NULL;
    g_auto(GStrv) fields = NULL;

    if (line && strnlen(line, LINE_MAX_BYTES + 1) <= LINE_MAX_BYTES)
        fields = g_strsplit(line, " ", 5);
    if (fields && g_strv_length(fields) == 4 && strcmp(fields[0], "1") == 0)
        self = vr_generation_new(fields[1], fields[2]);
    if (!self || !parse_ancestors(self, fields[3])) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-generation", NULL,
                     "this is not a generation record");
        return NULL;
    }
    return g_steal_pointer(&self);
}
