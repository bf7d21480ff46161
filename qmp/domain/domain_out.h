/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: writing indented XML. Element and attribute names are static strings of ours; values
 *  and text are escaped. Opened elements that get nothing inside are written as <name/>. */
typedef struct _VrXmlOut VrXmlOut;

VrXmlOut *vr_xml_out_new(void);
void vr_xml_out_free(VrXmlOut *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrXmlOut, vr_xml_out_free)

void vr_xml_open(VrXmlOut *self, const char *name);
void vr_xml_close(VrXmlOut *self);

/** To the element just opened; nothing if @value is NULL. */
void vr_xml_attr(VrXmlOut *self, const char *name, const char *value);

/** Nothing if @value is negative. */
void vr_xml_attr_number(VrXmlOut *self, const char *name, gint64 value);

/** <name>text</name>; nothing if @text is NULL. */
void vr_xml_text(VrXmlOut *self, const char *name, const char *text);

/** <name/> */
void vr_xml_empty(VrXmlOut *self, const char *name);

/** Closes the element just opened as <name ...>text</name>. */
void vr_xml_close_text(VrXmlOut *self, const char *text);

/** The document; every element must be closed. Leaves @self empty. (transfer full) */
char *vr_xml_out_steal(VrXmlOut *self);

G_END_DECLS
