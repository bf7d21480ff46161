/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/error.h"
#include "qmp/point/nbd_source.h"
#include "tests/fakes/fake-fault.h"
#include "tests/fakes/fake-guest-private.h"

/* In place of qmp/point/nbd_source.c: what the point froze, without a socket. */

struct _VrNbdGate {
    gint closed; /* atomic */
};

struct _VrNbdSource {
    VrSource source; /* first */
    guint disk;
    VrNbdGate *gate; /* borrowed */
};

struct _VrSourceReader {
    guint disk;
};

VrNbdGate *
vr_nbd_gate_new(void)
{
    return g_new0(VrNbdGate, 1);
}

void
vr_nbd_gate_unref(VrNbdGate *gate)
{
    g_free(gate);
}

void
vr_nbd_gate_close(VrNbdGate *gate)
{
    g_atomic_int_set(&gate->closed, 1);
}

gboolean
vr_nbd_gate_wait_idle(VrNbdGate *gate, guint timeout_ms)
{
    return g_atomic_int_get(&fake_guest->readers) == 0;
}

/* QEMU's or qemu-nbd's: without one of them nobody answers. */
static gboolean
is_served(void)
{
    return fake_guest->job[0] != '\0' || fake_guest->servers > 0;
}

static VrSourceReader *
reader_open(VrSource *source, GError **error)
{
    VrNbdSource *self = (VrNbdSource *) source;
    g_autofree VrSourceReader *reader = g_new0(VrSourceReader, 1);

    g_assert_true(is_served());
    g_assert_false(g_atomic_int_get(&self->gate->closed));
    if (fake_fault_before(FAKE_GUEST, error) || fake_fault_after(error))
        return NULL;
    reader->disk = self->disk;
    g_atomic_int_inc(&fake_guest->readers);
    return g_steal_pointer(&reader);
}

static gboolean
reader_read(VrSourceReader *reader, guint64 offset, gsize len, guint8 *buf, GError **error)
{
    g_assert_true(is_served());
    g_assert_cmpuint(offset + len, <=, fake_guest->size[reader->disk]);
    if (fake_fault_before(FAKE_GUEST, error))
        return FALSE;
    memcpy(buf, fake_guest->view[reader->disk] + offset, len);
    g_atomic_int_add(&fake_guest->chunks_read, (gint) vr_chunk_count(len));
    return !fake_fault_after(error);
}

static void
reader_close(VrSourceReader *reader)
{
    if (reader != NULL)
        g_atomic_int_add(&fake_guest->readers, -1);
    g_free(reader);
}

static const VrSourceOps ops = {reader_open, reader_read, reader_close};

VrNbdSource *
vr_nbd_source_new(const char *socket_path, const char *export_name, VrNbdGate *gate)
{
    VrNbdSource *self = g_new0(VrNbdSource, 1);

    self->source.ops = &ops;
    self->disk = fake_disk_index(export_name);
    self->gate = gate;
    return self;
}

void
vr_nbd_source_free(VrNbdSource *self)
{
    g_free(self);
}

VrSource *
vr_nbd_source_get(VrNbdSource *self)
{
    return &self->source;
}

VrExtents *
vr_nbd_source_probe(VrNbdSource *self, const char *bitmap, GCancellable *cancel, GError **error)
{
    g_autoptr(VrExtents) extents = vr_extents_new();
    guint64 size = fake_guest->size[self->disk];

    g_assert_true(is_served());
    if (fake_fault_before(FAKE_GUEST, error) || fake_fault_after(error))
        return NULL;
    self->source.size_bytes = size;
    for (guint64 chunk = 0; chunk < vr_chunk_count(size); chunk++) {
        guint64 offset = chunk * VR_CHUNK_SIZE;
        guint64 len = MIN(VR_CHUNK_SIZE, size - offset);
        gboolean zeros = vr_chunk_is_zero(fake_guest->view[self->disk] + offset, len);

        if (bitmap == NULL || fake_guest->changed[self->disk][chunk])
            g_assert_true(
                vr_extents_append(extents, offset, len, zeros ? VR_EXTENT_ZERO : VR_EXTENT_DATA));
    }
    if (fake_guest->busy)
        fake_guest_write(self->disk, (guint64) g_random_int_range(0, 3), FALSE);
    return g_steal_pointer(&extents);
}
