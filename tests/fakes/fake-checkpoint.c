/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/error.h"
#include "qmp/point/checkpoint.h"
#include "tests/fakes/fake-fault.h"
#include "tests/fakes/fake-guest-private.h"

/* In place of qmp/point/checkpoint.c. */

FakeCheckpoint *
fake_checkpoint_find(const char *name)
{
    for (guint i = 0; i < FAKE_CHECKPOINTS; i++) {
        if (strcmp(fake_guest->checkpoints[i].name, name) == 0)
            return &fake_guest->checkpoints[i];
    }
    return NULL;
}

void
fake_checkpoint_make(const char *name)
{
    FakeCheckpoint *made = fake_checkpoint_find("");

    g_assert_nonnull(made);
    memset(made, 0, sizeof *made);
    g_strlcpy(made->name, name, sizeof made->name);
}

static void
drop(FakeCheckpoint *checkpoint)
{
    if (fake_guest_deletes != NULL)
        fake_guest_deletes(checkpoint->name);
    checkpoint->name[0] = '\0';
}

char *
vr_checkpoint_new_name(const char *uuid)
{
    return g_strdup_printf(VR_CHECKPOINT_PREFIX "%.8s.%08x", uuid, g_random_int());
}

gboolean
vr_checkpoint_delete(VrConn *conn, const char *uuid, const char *name, GError **error)
{
    FakeCheckpoint *found = fake_checkpoint_find(name);

    if (fake_fault_before(FAKE_GUEST, error))
        return FALSE;
    if (found != NULL)
        drop(found);
    return !fake_fault_after(error);
}

gboolean
vr_checkpoint_sweep(VrConn *conn, const char *uuid, const char *keep, guint *ret_deleted,
                    GError **error)
{
    if (fake_fault_before(FAKE_GUEST, error))
        return FALSE;
    for (guint i = 0; i < FAKE_CHECKPOINTS; i++) {
        FakeCheckpoint *checkpoint = &fake_guest->checkpoints[i];

        if (checkpoint->name[0] != '\0' && g_strcmp0(checkpoint->name, keep) != 0)
            drop(checkpoint);
    }
    return !fake_fault_after(error);
}
