/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/replica/replica.h"

G_BEGIN_DECLS

/**
 * SECTION: the target of a cycle without a network, in place of storage/wire/peer_client.c and
 * plugin/peer/peer_pool.c: each call goes to a real replica on this file system. Every call is
 * one of FAKE_TARGET (fake-fault.h). Whoever the peer is, it is this one.
 */
typedef enum {
    FAKE_LIE_NONE,
    FAKE_LIE_ROOT,   /* an RP is answered with another root */
    FAKE_LIE_CYCLE,  /* an RP is answered as that of another cycle and number */
    FAKE_LIE_NUMBER, /* an RP is answered as the first one */
    FAKE_LIE_SHOWN,  /* an RP is answered as one of a year to come, consistent for applications */
} FakeLie;

typedef struct {
    VrReplica *replica;
    const char *generation; /* cycles of another one are refused */
    FakeLie head, commit;  /* what is told as the newest RP and as that of a COMMIT or its status */
    guint64 bytes;         /* of bodies stored */
    void (*commits)(void); /* told before a COMMIT is carried out; NULL: nobody */
} FakeTarget;

extern FakeTarget fake_target;

G_END_DECLS
