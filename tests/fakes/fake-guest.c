/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/fakes/fake-guest.h"

#include <string.h>
#include <sys/mman.h>

#include "tests/fakes/fake-fault.h"
#include "tests/fakes/fake-guest-private.h"

FakeGuest *fake_guest;
void (*fake_guest_deletes)(const char *checkpoint);
void (*fake_guest_begins)(void);

const char *const fake_disk_names[FAKE_DISKS] = {"vda", "vdb"};

static guint8 *
chunk_at(guint disk, guint64 chunk, gsize *ret_len)
{
    guint64 offset = chunk * VR_CHUNK_SIZE;

    *ret_len = MIN(VR_CHUNK_SIZE, fake_guest->size[disk] - offset);
    return fake_guest->data[disk] + offset;
}

static void
mark(guint disk, guint64 chunk)
{
    for (guint i = 0; i < FAKE_CHECKPOINTS; i++)
        fake_guest->checkpoints[i].dirty[disk][chunk] = TRUE;
}

void
fake_guest_write(guint disk, guint64 chunk, gboolean zeros)
{
    gsize len;
    guint8 *data = chunk_at(disk, chunk, &len);
    guint32 seed = g_random_int();

    memset(data, 0, len);
    for (gsize i = 0; !zeros && i + 4 <= len; i += 512) {
        seed = seed * 1664525 + 1013904223;
        memcpy(data + i, &seed, sizeof seed);
    }
    mark(disk, chunk);
    fake_guest->written++;
}

void
fake_guest_put_back(guint disk, guint64 chunk, const guint8 *content)
{
    gsize len;
    guint8 *data = chunk_at(disk, chunk, &len);

    memcpy(data, content + chunk * VR_CHUNK_SIZE, len);
    mark(disk, chunk);
    fake_guest->written++;
}

void
fake_guest_reset(const char *dir)
{
    if (fake_guest == NULL)
        fake_guest = mmap(NULL, sizeof *fake_guest, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert_true(fake_guest != MAP_FAILED);
    memset(fake_guest, 0, sizeof *fake_guest);
    g_strlcpy(fake_guest->dir, dir, sizeof fake_guest->dir);
    fake_guest->size[0] = FAKE_DISK_BYTES;
    fake_guest->size[1] = 3 * VR_CHUNK_SIZE + 3 * 512;
    for (guint disk = 0; disk < FAKE_DISKS; disk++) {
        for (guint64 chunk = 0; chunk < vr_chunk_count(fake_guest->size[disk]); chunk++) {
            if (chunk % 8 != 5)
                fake_guest_write(disk, chunk, FALSE);
        }
    }
}

void
fake_guest_daemon_died(void)
{
    fake_guest->readers = 0;
    fake_guest->servers = 0;
}

void
fake_guest_qemu_died(void)
{
    for (guint i = 0; i < FAKE_CHECKPOINTS; i++)
        fake_guest->checkpoints[i].broken = TRUE;
    fake_guest->job[0] = '\0';
    fake_guest->frozen = FALSE;
    fake_guest->loses = FALSE;
}

static void
assert_no_files(void)
{
    g_autoptr(GDir) dir = g_dir_open(fake_guest->dir, 0, NULL);

    g_assert_cmpstr(g_dir_read_name(dir), ==, NULL);
}

void
fake_guest_assert_clean(const char *checkpoint)
{
    g_assert_cmpstr(fake_guest->job, ==, "");
    g_assert_false(fake_guest->frozen);
    g_assert_cmpuint(fake_guest->servers, ==, 0);
    g_assert_cmpint(fake_guest->readers, ==, 0);
    assert_no_files();
    for (guint i = 0; i < FAKE_CHECKPOINTS; i++) {
        if (fake_guest->checkpoints[i].name[0] != '\0')
            g_assert_cmpstr(fake_guest->checkpoints[i].name, ==, checkpoint);
    }
    g_assert_true(checkpoint == NULL || fake_checkpoint_find(checkpoint) != NULL);
}

guint
fake_guest_dirty(const char *checkpoint)
{
    const FakeCheckpoint *found = fake_checkpoint_find(checkpoint);
    guint n = 0;

    g_assert_nonnull(found);
    for (guint disk = 0; disk < FAKE_DISKS; disk++) {
        for (guint chunk = 0; chunk < FAKE_CHUNKS; chunk++)
            n += found->dirty[disk][chunk] ? 1 : 0;
    }
    return n;
}

guint
fake_disk_index(const char *target)
{
    for (guint i = 0; i < FAKE_DISKS; i++) {
        if (strcmp(fake_disk_names[i], target) == 0)
            return i;
    }
    g_assert_not_reached();
}
