/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "storage/util/file_util.h"
#include "storage/replica/manifest.h"

/* One line an item; the length before the name keeps any name from looking like something else:
 *   virt-replica root 1
 *   disk 3:vda 1073741824 <64 hex>
 *   attachment 5:nvram 131072 <64 hex> */
typedef struct {
    char *name; /* owned */
    char *line; /* owned */
} Item;

struct _VrRootBuilder {
    GArray *disks;       /* owned, Item */
    GArray *attachments; /* owned, Item */
};

static void
item_clear(gpointer data)
{
    Item *item = data;

    g_free(item->name);
    g_free(item->line);
}

static GArray *
items_new(void)
{
    GArray *items = g_array_new(FALSE, FALSE, sizeof(Item));

    g_array_set_clear_func(items, item_clear);
    return items;
}

VrRootBuilder *
vr_root_builder_new(void)
{
    VrRootBuilder *self = g_new(VrRootBuilder, 1);

    self->disks = items_new();
    self->attachments = items_new();
    return self;
}

void
vr_root_builder_free(VrRootBuilder *self)
{
    if (!self)
        return;
    g_array_unref(self->disks);
    g_array_unref(self->attachments);
    g_free(self);
}

static void
add(GArray *items, const char *kind, const char *name, guint64 size_bytes, const char *hex)
{
    Item item = {
        .name = g_strdup(name),
        .line = g_strdup_printf("%s %" G_GSIZE_FORMAT ":%s %" G_GUINT64_FORMAT " %s\n", kind,
                                strlen(name), name, size_bytes, hex),
    };

    g_array_append_val(items, item);
}

void
vr_root_builder_add_disk(VrRootBuilder *self, const char *name, guint64 size_bytes,
                         const guint8 root[VR_ROOT_LEN])
{
    g_autofree char *hex = vr_hex_encode(root, VR_ROOT_LEN);

    add(self->disks, "disk", name, size_bytes, hex);
}

void
vr_root_builder_add_attachment(VrRootBuilder *self, const char *name, guint64 size_bytes,
                               const char *sha256_hex)
{
    add(self->attachments, "attachment", name, size_bytes, sha256_hex);
}

static int
compare(gconstpointer a, gconstpointer b)
{
    return strcmp(((const Item *) a)->name, ((const Item *) b)->name);
}

static void
append_sorted(GString *text, GArray *items)
{
    g_array_sort(items, compare);
    for (guint i = 0; i < items->len; i++)
        g_string_append(text, g_array_index(items, Item, i).line);
}

char *
vr_root_builder_finish(VrRootBuilder *self)
{
    g_autoptr(GString) text = g_string_new("virt-replica root 1\n");

    append_sorted(text, self->disks);
    append_sorted(text, self->attachments);
    return vr_sha256_hex(text->str, text->len);
}
