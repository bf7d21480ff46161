/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/fakes/qcow2-read.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CLUSTER ((guint64) 65536)
#define ENTRIES (CLUSTER / 8)
#define OFFSET_MASK G_GUINT64_CONSTANT(0x00fffffffffffe00)

static void
read_at(int fd, guint64 offset, void *data, gsize len)
{
    g_assert_cmpint(pread(fd, data, len, (off_t) offset), ==, (gssize) len);
}

static guint64
be64(const guint8 *p)
{
    guint64 value;

    memcpy(&value, p, sizeof value);
    return GUINT64_FROM_BE(value);
}

static guint32
be32(const guint8 *p)
{
    guint32 value;

    memcpy(&value, p, sizeof value);
    return GUINT32_FROM_BE(value);
}

/* The image below, or zeros; a smaller one ends in zeros. */
static void
read_below(int fd, const guint8 *header, const char *path, guint8 *data, gsize size)
{
    guint64 offset = be64(header + 8);
    guint32 len = be32(header + 16);
    g_autofree char *name = g_malloc0(len + 1);
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *below = NULL;

    memset(data, 0, size);
    if (offset == 0)
        return;
    read_at(fd, offset, name, len);
    below = g_path_is_absolute(name) ? g_strdup(name) : g_build_filename(dir, name, NULL);
    qcow2_read(below, data, size);
}

static void
read_cluster(int fd, guint64 entry, guint8 *data, gsize len)
{
    if (entry & 1)
        memset(data, 0, len);
    else if ((entry & OFFSET_MASK) != 0)
        read_at(fd, entry & OFFSET_MASK, data, len);
}

void
qcow2_read(const char *path, guint8 *data, gsize size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    g_autofree guint8 *table = g_malloc(CLUSTER);
    guint8 header[104];
    guint64 own;

    g_assert_cmpint(fd, >=, 0);
    read_at(fd, 0, header, sizeof header);
    g_assert_cmphex(be32(header), ==, 0x514649fb);
    g_assert_cmpuint(be32(header + 20), ==, 16);
    own = MIN(be64(header + 24), size);
    read_below(fd, header, path, data, size);
    for (guint64 l1 = 0; l1 * ENTRIES * CLUSTER < own; l1++) {
        guint8 l1_entry[8];
        guint64 n;

        read_at(fd, be64(header + 40) + l1 * 8, l1_entry, sizeof l1_entry);
        if ((be64(l1_entry) & OFFSET_MASK) == 0)
            continue;
        n = MIN(ENTRIES, (own + CLUSTER - 1) / CLUSTER - l1 * ENTRIES);
        read_at(fd, be64(l1_entry) & OFFSET_MASK, table, n * 8);
        for (guint64 i = 0; i < n; i++) {
            guint64 at = (l1 * ENTRIES + i) * CLUSTER;

            read_cluster(fd, be64(table + i * 8), data + at, MIN(CLUSTER, own - at));
        }
    }
    close(fd);
}
