/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_progress.h"

#include "plugin/cli/cli_format.h"
#include "plugin/cli/cli_json.h"

#define PLAIN_INTERVAL_US (30 * G_USEC_PER_SEC)

struct VrCliProgress {
    FILE *err; /* borrowed */
    gboolean terminal;
    gsize drawn;       /* columns of the line on the terminal */
    gint64 printed_us; /* monotonic: last plain line, 0: none yet */
    guint steps;       /* steps reported as ended */
};

VrCliProgress *
vr_cli_progress_new(FILE *err, gboolean terminal)
{
    VrCliProgress *self = g_new0(VrCliProgress, 1);

    self->err = err;
    self->terminal = terminal;
    return self;
}

void
vr_cli_progress_free(VrCliProgress *self)
{
    if (!self)
        return;
    if (self->drawn)
        fputc('\n', self->err);
    g_free(self);
}

static gboolean
step_ended(JsonObject *step)
{
    const char *state = vr_cli_json_string(step, "state");

    return g_strcmp0(state, "completed") == 0 || g_strcmp0(state, "failed") == 0;
}

/* The step under way, else the last one that ended. */
static JsonObject *
current_step(JsonObject *job)
{
    g_autoptr(GPtrArray) steps = vr_cli_json_member_objects(job, "steps");
    JsonObject *current = NULL;

    for (guint i = 0; i < steps->len; i++) {
        JsonObject *step = g_ptr_array_index(steps, i);

        if (g_strcmp0(vr_cli_json_string(step, "state"), "running") == 0)
            return step;
        if (step_ended(step))
            current = step;
    }
    return current;
}

/* 100 only once the job says so. */
static double
percent_of(JsonObject *job)
{
    double progress = 0;

    if (g_strcmp0(vr_cli_json_string(job, "state"), "completed") == 0)
        return 100;
    (void) vr_cli_json_number(job, "progress", &progress);
    return CLAMP(progress * 100, 0, 99.99);
}

char *
vr_cli_progress_line(JsonObject *job)
{
    const char *domain = vr_cli_json_string(job, "domain");
    const char *step = vr_cli_json_string(current_step(job), "name");
    gint64 total = vr_cli_json_int(job, "bytes_total", 0);
    gint64 done = CLAMP(vr_cli_json_int(job, "bytes_read", 0), 0, MAX(total, 0));
    double rate = 0;
    g_autofree char *left = vr_cli_json_interval(job, "seconds_left");
    GString *line = g_string_new(NULL);
    g_autofree char *raw = NULL;

    g_string_append_printf(line, "%s %s: [%6.2f %%]", domain ? domain : "job",
                           step ? step : "waiting", percent_of(job));
    if (total > 0) {
        g_autofree char *part = vr_cli_format_part((guint64) done, (guint64) total);

        g_string_append_printf(line, " %s", part);
    }
    if (vr_cli_json_number(job, "rate", &rate) && rate > 0) {
        g_autofree char *speed = vr_cli_format_rate(rate);

        g_string_append_printf(line, ", %s", speed);
    }
    if (left)
        g_string_append_printf(line, ", %s left", left);
    raw = g_string_free(line, FALSE);
    return vr_cli_escape(raw);
}

static void
redraw(VrCliProgress *self, JsonObject *job)
{
    g_autofree char *line = vr_cli_progress_line(job);
    gsize width = vr_cli_width(line);

    fprintf(self->err, "\r%s%*s", line, self->drawn > width ? (int) (self->drawn - width) : 0, "");
    fflush(self->err);
    self->drawn = width;
}

static void
print_steps(VrCliProgress *self, JsonObject *job)
{
    g_autoptr(GPtrArray) steps = vr_cli_json_member_objects(job, "steps");

    while (self->steps < steps->len && step_ended(g_ptr_array_index(steps, self->steps))) {
        JsonObject *step = g_ptr_array_index(steps, self->steps++);
        g_autofree char *domain = vr_cli_escape(vr_cli_json_string(job, "domain") ?: "job");
        g_autofree char *name = vr_cli_escape(vr_cli_json_string(step, "name") ?: "-");
        g_autofree char *state = vr_cli_escape(vr_cli_json_string(step, "state"));
        double seconds = 0;

        (void) vr_cli_json_number(step, "seconds", &seconds);
        fprintf(self->err, "%s %s: %s after %.1f s\n", domain, name, state, seconds);
    }
}

void
vr_cli_progress_update(VrCliProgress *self, JsonObject *job, gint64 now_us)
{
    if (self->terminal) {
        redraw(self, job);
        return;
    }
    print_steps(self, job);
    if (!self->printed_us)
        self->printed_us = now_us;
    if (now_us - self->printed_us >= PLAIN_INTERVAL_US) {
        g_autofree char *line = vr_cli_progress_line(job);

        fprintf(self->err, "%s\n", line);
        self->printed_us = now_us;
    }
}
