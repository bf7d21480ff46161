/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/http/http_visit.h"

static gboolean
is_spared(const VrHttpVisit *visit)
{
    return visit->origin->known &&
           visit->origin->count[VR_HTTP_PLACE_WAITING] <= VR_HTTP_GATE_SPARED;
}

/* Is it rather @a than @b that has to make room for who comes? */
static gboolean
goes_first(const VrHttpVisit *a, const VrHttpVisit *b)
{
    guint of_a = a->origin->count[VR_HTTP_PLACE_WAITING];
    guint of_b = b->origin->count[VR_HTTP_PLACE_WAITING];

    if (is_spared(a) != is_spared(b))
        return is_spared(b);
    return of_a > of_b || (of_a == of_b && !a->talking && b->talking);
}

VrHttpVisit *
vr_http_visits_waiting_victim(const GPtrArray *visits)
{
    VrHttpVisit *victim = NULL;

    for (guint i = 0; i < visits->len; i++) {
        VrHttpVisit *visit = visits->pdata[i];

        if (visit->stage == VR_HTTP_STAGE_WAITING && (!victim || goes_first(visit, victim)))
            victim = visit;
    }
    return victim;
}

VrHttpVisit *
vr_http_visits_shaking_victim(const GPtrArray *visits, VrHttpPlace place)
{
    VrHttpVisit *victim = NULL;

    for (guint i = 0; i < visits->len; i++) {
        VrHttpVisit *visit = visits->pdata[i];

        if (visit->place != place || visit->ended)
            continue;
        if (!victim || visit->origin->count[place] > victim->origin->count[place] ||
            (visit->origin->count[place] == victim->origin->count[place] &&
             visit->due_us < victim->due_us))
            victim = visit;
    }
    return victim;
}

VrHttpVisit *
vr_http_visits_next(const GPtrArray *visits, VrHttpPlace place)
{
    VrHttpVisit *next = NULL;

    for (guint i = 0; i < visits->len; i++) {
        VrHttpVisit *visit = visits->pdata[i];

        if (visit->stage == VR_HTTP_STAGE_WAITING && visit->talking &&
            (place != VR_HTTP_PLACE_RESERVED || visit->origin->known) &&
            (!next || visit->origin->count[place] < next->origin->count[place]))
            next = visit;
    }
    return next;
}

VrHttpVisit *
vr_http_visits_idle(const GPtrArray *visits)
{
    VrHttpVisit *oldest = NULL;

    for (guint i = 0; i < visits->len; i++) {
        VrHttpVisit *visit = visits->pdata[i];

        if (!visit->used && !visit->ended && (!oldest || visit->used_us < oldest->used_us))
            oldest = visit;
    }
    return oldest;
}

guint
vr_http_visits_going(const GPtrArray *visits)
{
    guint n = 0;

    for (guint i = 0; i < visits->len; i++)
        n += ((const VrHttpVisit *) visits->pdata[i])->ended ? 0 : 1;
    return n;
}
