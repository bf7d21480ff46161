/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/replica/store_age.h"

#include <string.h>

#include "policies/generation.h"
#include "storage/util/json_util.h"

static const VrRpRow *
newest_of(const GPtrArray *rps)
{
    for (guint i = rps->len; i > 0; i--) {
        const VrRpRow *row = rps->pdata[i - 1];

        if (row->state == VR_RP_LISTED)
            return row;
    }
    return NULL;
}

/* How the database's generation is compared with the store's. */
static VrGenerationRelation
relation_of(const char *database, const char *store)
{
    g_autoptr(VrGeneration) mine = vr_generation_from_line(database, NULL);
    g_autoptr(VrGeneration) theirs = vr_generation_from_line(store, NULL);

    return mine && theirs ? vr_generation_compare(mine, theirs) : VR_GENERATION_UNRELATED;
}

/* The same number is the same recovery point; one that retention has taken from the index proves
 * nothing. */
static gboolean
goes_on_from(const VrStoreIndex *index, const VrRpRow *newest)
{
    for (guint i = 0; newest && i < index->rps->len; i++) {
        const VrRpRow *row = index->rps->pdata[i];

        if (row->rp.number == newest->rp.number)
            return strcmp(row->rp.cycle, newest->rp.cycle) == 0;
    }
    return TRUE;
}

VrStoreAge
vr_store_age(const VrStoreIndex *index, const VrProtection *row, const GPtrArray *rps)
{
    const VrRpRow *mine = newest_of(rps), *theirs = newest_of(index->rps);
    guint64 here = mine ? mine->rp.number : 0, there = theirs ? theirs->rp.number : 0;
    VrGenerationRelation relation = relation_of(row->generation, index->row->generation);

    if (there <= here && relation != VR_GENERATION_BEHIND)
        return VR_STORE_AGE_CURRENT;
    if (there >= here && goes_on_from(index, mine) &&
        (relation == VR_GENERATION_SAME || relation == VR_GENERATION_BEHIND))
        return VR_STORE_AGE_NEWER;
    return VR_STORE_AGE_DIVERGED;
}

gboolean
vr_store_age_is_ahead(const char *text, gsize len, const VrProtection *row, guint64 newest)
{
    g_autoptr(JsonNode) node = NULL;
    JsonObject *object;

    if (vr_store_index_newest(text, len) > newest)
        return TRUE;
    if (!row)
        return FALSE;
    node =
        vr_json_parse_large(text, len, VR_STORE_INDEX_MAX_BYTES, VR_STORE_INDEX_MAX_VALUES, NULL);
    object = vr_json_as_object(node);
    return object && relation_of(row->generation, vr_json_text_in(object, "generation", "")) ==
                         VR_GENERATION_BEHIND;
}
