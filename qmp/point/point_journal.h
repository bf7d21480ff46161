/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/point/point_impl.h"

G_BEGIN_DECLS

/** SECTION: the line of JSON that finds again what a point may leave behind. */

/** (transfer full) */
char *vr_point_journal_write(const VrPoint *self);

G_END_DECLS
