/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "tests/fakes/fake-guest.h"

G_BEGIN_DECLS

/** SECTION: what the files of the fake guest share. */

extern const char *const fake_disk_names[FAKE_DISKS];
/** Ends the test if there is no such disk. */
guint fake_disk_index(const char *target);

/** NULL if there is none. */
FakeCheckpoint *fake_checkpoint_find(const char *name);
/** Empty, from now on. */
void fake_checkpoint_make(const char *name);

G_END_DECLS
