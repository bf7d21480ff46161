/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/http/http_gate.h"
#include "plugin/http/http_origins.h"

G_BEGIN_DECLS

/**
 * SECTION: a connection as the gate sees it, and which of several goes first or has to go.
 *
 * Of visits that are not known, the arrays are in the order in which they came. NULL: there is
 * none. The gate locks, and is all that includes this.
 */
typedef enum {
    VR_HTTP_STAGE_WAITING, /* the descriptor is the gate's */
    VR_HTTP_STAGE_PASSED,  /* the server has it, but has not said so */
    VR_HTTP_STAGE_SHAKING, /* the server said so */
    VR_HTTP_STAGE_KNOWN,
} VrHttpStage;

struct _VrHttpVisit {
    VrHttpStage stage;
    int fd;
    VrHttpOrigin *origin; /* borrowed: of the gate's; NULL when KNOWN */
    VrHttpPlace place;    /* when not KNOWN */
    gint64 due_us;        /* monotonic; when not KNOWN: its time is over */
    gint64 used_us;       /* monotonic; end of its last request */
    gboolean talking;     /* WAITING: bytes are there */
    gboolean used;        /* a request is going on */
    gboolean ended;       /* shut down: waits for the server to leave, counts no more */
    char *peer;           /* owned; KNOWN */
    struct sockaddr_storage address;
    socklen_t address_len;
};

/** Who makes room for one more that waits: the oldest of the origin that has most, a silent one
 * first; of a known origin that has few only if there are no others. */
VrHttpVisit *vr_http_visits_waiting_victim(const GPtrArray *visits);
/** Whose handshake makes room for another one in such a place: of the origin that has most of them,
 * the one that has had its turn for longest. */
VrHttpVisit *vr_http_visits_shaking_victim(const GPtrArray *visits, VrHttpPlace place);
/** Who is next for such a place: of the origin that has fewest of them, the oldest. */
VrHttpVisit *vr_http_visits_next(const GPtrArray *visits, VrHttpPlace place);
/** Without a request for longest; @visits: known. */
VrHttpVisit *vr_http_visits_idle(const GPtrArray *visits);
/** How many are not ended. */
guint vr_http_visits_going(const GPtrArray *visits);

G_END_DECLS
