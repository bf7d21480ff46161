/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/replica/store_index.h"

G_BEGIN_DECLS

/** SECTION: a database and what the store says of the same replica: which of the two is older (a
 * database that was put back from a backup)? The index is written behind the database, so one that
 * knows more was written by a later database. Pure. */

typedef enum {
    VR_STORE_AGE_CURRENT,  /* the index says what the database says, or less */
    VR_STORE_AGE_NEWER,    /* it goes on where the database ends: its facts can be taken over */
    VR_STORE_AGE_DIVERGED, /* it knows more, but not of the database's history */
} VrStoreAge;

/** @row, @rps: (element-type VrRpRow), of the database. */
VrStoreAge vr_store_age(const VrStoreIndex *index, const VrProtection *row, const GPtrArray *rps);

/** TRUE if an index of any version, as its text, is not VR_STORE_AGE_CURRENT. @row: (nullable).
 * @newest: number of the database's newest RP, 0 if there is none. Text that cannot be read is not
 * ahead. */
gboolean vr_store_age_is_ahead(const char *text, gsize len, const VrProtection *row,
                               guint64 newest);

G_END_DECLS
