/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/**
 * vr_store_check_unused:
 * @dir: STORE/<uuid>, whose files are to be deleted
 *
 * TRUE only if no domain of this host has a file there: by any path in its definition or in what
 * its images are backed by, compared as files and not as names; and no program has one of its
 * images open. A domain of that UUID or of our making whose images cannot all be read counts as one
 * that has. Worker thread. Errors: REFUSED "replica-in-use" naming domain and disk, those of
 * libvirt.
 */
gboolean vr_store_check_unused(VrApp *app, const char *dir, const char *uuid, GError **error);

G_END_DECLS
