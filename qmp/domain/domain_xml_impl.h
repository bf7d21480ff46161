/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/domain/domain_out.h"
#include "qmp/domain/domain_words.h"
#include "qmp/domain/domain_xml.h"

G_BEGIN_DECLS

/** SECTION: shared by the files that write a domain's XML; not for others. */

typedef struct {
    const VrDomainModel *model;
    const VrDomainTarget *target;
    VrFindings *findings; /* or NULL */
    VrXmlOut *out;
} VrDomainWriter;

/** <devices> */
void vr_domain_write_devices(VrDomainWriter *self);

G_END_DECLS
