/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_out.h"

struct _VrXmlOut {
    GString *text;
    GPtrArray *open; /* const char *, borrowed: static names */
    gboolean in_tag; /* the last start tag still lacks its '>' */
};

VrXmlOut *
vr_xml_out_new(void)
{
    VrXmlOut *self = g_new0(VrXmlOut, 1);

    self->text = g_string_new(NULL);
    self->open = g_ptr_array_new();
    return self;
}

void
vr_xml_out_free(VrXmlOut *self)
{
    if (!self)
        return;
    g_string_free(self->text, TRUE);
    g_ptr_array_unref(self->open);
    g_free(self);
}

static void
indent(VrXmlOut *self)
{
    for (guint i = 0; i < self->open->len; i++)
        g_string_append(self->text, "  ");
}

static void
append_escaped(VrXmlOut *self, const char *value)
{
    g_autofree char *escaped = g_markup_escape_text(value, -1);

    g_string_append(self->text, escaped);
}

void
vr_xml_open(VrXmlOut *self, const char *name)
{
    if (self->in_tag)
        g_string_append(self->text, ">\n");
    indent(self);
    g_string_append_printf(self->text, "<%s", name);
    g_ptr_array_add(self->open, (gpointer) name);
    self->in_tag = TRUE;
}

static const char *
pop(VrXmlOut *self)
{
    return g_ptr_array_steal_index(self->open, self->open->len - 1);
}

void
vr_xml_close(VrXmlOut *self)
{
    const char *name = pop(self);

    if (self->in_tag) {
        g_string_append(self->text, "/>\n");
    } else {
        indent(self);
        g_string_append_printf(self->text, "</%s>\n", name);
    }
    self->in_tag = FALSE;
}

void
vr_xml_attr(VrXmlOut *self, const char *name, const char *value)
{
    if (!value)
        return;
    g_string_append_printf(self->text, " %s='", name);
    append_escaped(self, value);
    g_string_append_c(self->text, '\'');
}

void
vr_xml_attr_number(VrXmlOut *self, const char *name, gint64 value)
{
    if (value >= 0)
        g_string_append_printf(self->text, " %s='%" G_GINT64_FORMAT "'", name, value);
}

void
vr_xml_close_text(VrXmlOut *self, const char *text)
{
    g_string_append_c(self->text, '>');
    append_escaped(self, text);
    g_string_append_printf(self->text, "</%s>\n", pop(self));
    self->in_tag = FALSE;
}

void
vr_xml_text(VrXmlOut *self, const char *name, const char *text)
{
    if (!text)
        return;
    vr_xml_open(self, name);
    vr_xml_close_text(self, text);
}

void
vr_xml_empty(VrXmlOut *self, const char *name)
{
    vr_xml_open(self, name);
    vr_xml_close(self);
}

char *
vr_xml_out_steal(VrXmlOut *self)
{
    char *text = g_string_free(self->text, FALSE);

    self->text = g_string_new(NULL);
    return text;
}
