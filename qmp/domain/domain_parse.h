/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/domain/domain_model.h"
#include "qmp/domain/domain_node.h"
#include "qmp/domain/domain_words.h"

G_BEGIN_DECLS

/** SECTION: shared by the files that fill a VrDomainModel; not for others. */

#define VR_PARSE_TOKEN_MAX 64 /* bytes */

VrDomainModel *vr_domain_model_new(void);
void vr_domain_model_set_default_nvram(VrDomainModel *self);

/** <domain type=> and <os>. FALSE: the whole document is refused, as below. */
gboolean vr_domain_parse_os(VrDomainModel *model, xmlNode *root, GError **error);

/** <devices>. */
gboolean vr_domain_parse_devices(VrDomainModel *model, xmlNode *devices, GError **error);

/** One <disk>. */
gboolean vr_domain_parse_disk(VrDomainModel *model, xmlNode *node, GError **error);

/** A device's <address>; kind NONE if there is none, or with a finding if it is not known. */
void vr_parse_address(VrDomainModel *model, xmlNode *device, VrDomainAddress *ret_address);

/** A device's <boot order=>, or -1. */
gint64 vr_parse_boot_order(VrDomainModel *model, xmlNode *device);

/** Sets INVALID "too-many-disks" or "too-many-devices"; always FALSE. */
gboolean vr_parse_too_many(VrDomainModel *model, const char *what, guint max, GError **error);

/** The known word of an attribute; NULL if there is none, or with a finding if it is not known. */
const char *vr_parse_word(VrDomainModel *model, xmlNode *node, const char *attr, VrWords words);

/** 0 to @max, decimal or 0x; -1 if absent, or with a finding if it is none. */
gint64 vr_parse_number(VrDomainModel *model, xmlNode *node, const char *attr, gint64 max);

/** Like vr_parse_number() for an element's text. @node may be NULL. */
gint64 vr_parse_number_text(VrDomainModel *model, xmlNode *node, gint64 max);

/** A token (see VrDomainModel); NULL if absent, or with a finding. (transfer full) */
char *vr_parse_token(VrDomainModel *model, xmlNode *node, const char *attr, gsize max_bytes);

/** Printable text of an element, @node may be NULL; NULL if empty, or with a finding.
 *  @extra: characters allowed besides the printable ones. (transfer full) */
char *vr_parse_text(VrDomainModel *model, xmlNode *node, gsize max_bytes, const char *extra);

/** Like vr_parse_token() for an element's text. @node may be NULL. (transfer full) */
char *vr_parse_token_text(VrDomainModel *model, xmlNode *node);

/** Adds the finding that @value of @attr (NULL: the text of the element) is left out. */
void vr_parse_list_unknown(VrDomainModel *model, xmlNode *node, const char *attr,
                           const char *value);

gboolean vr_parse_is_token(const char *text, gsize max_bytes);
gboolean vr_parse_is_printable(const char *text, const char *extra);

/** Sets INVALID "domain-value-invalid" for @text in @node; always FALSE. */
gboolean vr_parse_refuse(xmlNode *node, const char *text, GError **error);

G_END_DECLS
