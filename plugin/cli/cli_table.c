/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_table.h"

#include "plugin/cli/cli_format.h"

struct VrCliTable {
    guint columns;
    GPtrArray *cells; /* owned strings, escaped, row by row; the first row is the headings */
};

VrCliTable *
vr_cli_table_new(const char *first, ...)
{
    VrCliTable *self = g_new0(VrCliTable, 1);
    va_list args;

    self->cells = g_ptr_array_new_with_free_func(g_free);
    va_start(args, first);
    for (const char *name = first; name; name = va_arg(args, const char *))
        vr_cli_table_add(self, name);
    va_end(args);
    self->columns = self->cells->len;
    return self;
}

void
vr_cli_table_free(VrCliTable *self)
{
    if (!self)
        return;
    g_ptr_array_unref(self->cells);
    g_free(self);
}

static char *
cell_text(const char *text)
{
    return text && *text ? vr_cli_escape(text) : g_strdup("-");
}

void
vr_cli_table_add(VrCliTable *self, const char *cell)
{
    g_ptr_array_add(self->cells, cell_text(cell));
}

void
vr_cli_table_take(VrCliTable *self, char *cell)
{
    vr_cli_table_add(self, cell);
    g_free(cell);
}

static void
print_row(const VrCliTable *self, FILE *out, guint start, const gsize *widths)
{
    for (guint i = 0; i < self->columns; i++) {
        const char *cell = g_ptr_array_index(self->cells, start + i);
        int padding = i + 1 < self->columns ? (int) (widths[i] - vr_cli_width(cell)) + 2 : 0;

        fprintf(out, " %s%*s", cell, padding, "");
    }
    fputc('\n', out);
}

void
vr_cli_table_print(const VrCliTable *self, FILE *out, gboolean bare)
{
    g_autofree gsize *widths = g_new0(gsize, self->columns);
    gsize total = 0;

    for (guint i = 0; i < self->cells->len; i++) {
        gsize width = vr_cli_width(g_ptr_array_index(self->cells, i));

        widths[i % self->columns] = MAX(widths[i % self->columns], width);
    }
    for (guint i = 0; i < self->columns; i++)
        total += widths[i] + 3;
    for (guint start = bare ? self->columns : 0; start + self->columns <= self->cells->len;
         start += self->columns) {
        print_row(self, out, start, widths);
        for (gsize i = 0; start == 0 && i < total; i++)
            fputc('-', out);
        if (start == 0)
            fputc('\n', out);
    }
    if (!bare)
        fputc('\n', out);
}

void
vr_cli_print_pair(FILE *out, const char *key, const char *value)
{
    g_autofree char *text = cell_text(value);
    g_autofree char *label = g_strconcat(key, ":", NULL);

    fprintf(out, "%-15s %s\n", label, text);
}

void
vr_cli_take_pair(FILE *out, const char *key, char *value)
{
    vr_cli_print_pair(out, key, value);
    g_free(value);
}
