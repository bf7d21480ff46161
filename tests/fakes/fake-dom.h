/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/error.h"
#include "qmp/domain/domain_ops.h"

G_BEGIN_DECLS

/**
 * SECTION: a libvirt in memory, in place of qmp/domain/domain_ops.c, domain_run.c and
 * domain_mark.c: linked before the library, its functions are taken instead. A connection is any
 * pointer that tells one host from another; it is never followed. Threads of both hosts may call,
 * one at a time.
 */
typedef struct {
    char *name, *uuid, *xml; /* owned */
    char *role, *generation; /* owned: our mark, NULL: somebody else's domain */
    VrDomState state;
    gboolean autostart;
    gboolean cannot_start; /* libvirt refuses, as for a network that is not active */
    guint starts;          /* how often it was started, paused or not */
    guint executed_us;     /* not 0: its guest has executed an instruction */
} FakeDom;

/** Nothing defined, no fault armed. */
void fake_dom_reset(void);
/** A domain made by somebody else. */
FakeDom *fake_dom_add(VrConn *conn, const char *uuid, const char *name, VrDomState state);
/** NULL if there is none. */
FakeDom *fake_dom_find(VrConn *conn, const char *uuid);

/** The @nth call from now on, 1 first, fails with TRANSIENT "libvirt-unreachable"; 0: none. */
void fake_dom_fail_at(guint nth);
/** The same with another code. */
void fake_dom_fail_with(guint nth, VrError code);
/** From now on no domain can be resumed, or each again. */
void fake_dom_cannot_resume(gboolean cannot);
/** Calls so far that would have resumed one. */
guint fake_dom_resumes(void);
/** TRUE if the armed fault was met. */
gboolean fake_dom_fired(void);

G_END_DECLS
