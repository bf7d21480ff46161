/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_commands.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_table.h"
#include "plugin/cli/cli_wait.h"

static char *
job_path(const VrCliArgs *args, const char *action)
{
    g_autofree char *id = g_strdup_printf("%" G_GINT64_FORMAT, vr_cli_args_number(args, "id"));

    return vr_cli_path("jobs", id, action, NULL);
}

static char *
percent_text(JsonObject *job)
{
    double progress = 0;

    if (!vr_cli_json_number(job, "progress", &progress))
        return NULL;
    return g_strdup_printf("%.0f %%", CLAMP(progress, 0, 1) * 100);
}

gboolean
vr_cli_job_list(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *domain = vr_cli_args_text(args, "domain");
    g_autofree char *path = vr_cli_query(vr_cli_path("jobs", NULL), "domain", domain);
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GPtrArray) jobs = NULL;
    g_autoptr(VrCliTable) table = NULL;

    path = vr_cli_query(g_steal_pointer(&path), "all", vr_cli_args_flag(args, "all") ? "1" : NULL);
    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (!answer)
        return TRUE;
    jobs = vr_cli_json_objects(answer);
    table = vr_cli_table_new("Id", "Kind", "Domain", "State", "Progress", "Started", "Ended", NULL);
    for (guint i = 0; i < jobs->len; i++) {
        JsonObject *job = g_ptr_array_index(jobs, i);

        vr_cli_table_take(table, vr_cli_json_text(job, "id"));
        vr_cli_table_take(table, vr_cli_json_text(job, "kind"));
        vr_cli_table_take(table, vr_cli_json_text(job, "domain"));
        vr_cli_table_take(table, vr_cli_json_text(job, "state"));
        vr_cli_table_take(table, percent_text(job));
        vr_cli_table_take(table, vr_cli_json_time(job, "started"));
        vr_cli_table_take(table, vr_cli_json_time(job, "ended"));
    }
    vr_cli_table_print(table, cli->out, cli->quiet);
    if (domain)
        vr_cli_say(cli, "Scheduled cycles are no jobs: see 'virt-replica info %s'", domain);
    return TRUE;
}

static void
print_steps(VrCli *cli, JsonObject *job)
{
    g_autoptr(GPtrArray) steps = vr_cli_json_member_objects(job, "steps");
    g_autoptr(VrCliTable) table = vr_cli_table_new("Step", "State", "Seconds", NULL);

    if (!steps->len)
        return;
    for (guint i = 0; i < steps->len; i++) {
        JsonObject *step = g_ptr_array_index(steps, i);
        double seconds = 0;
        gboolean timed = vr_cli_json_number(step, "seconds", &seconds);

        vr_cli_table_take(table, vr_cli_json_text(step, "name"));
        vr_cli_table_take(table, vr_cli_json_text(step, "state"));
        vr_cli_table_take(table, timed ? g_strdup_printf("%.1f", seconds) : NULL);
    }
    fputc('\n', cli->out);
    vr_cli_table_print(table, cli->out, cli->quiet);
}

gboolean
vr_cli_job_info(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *path = job_path(args, NULL);
    g_autoptr(JsonNode) answer = NULL;
    JsonObject *job = NULL;
    JsonObject *failure = NULL;

    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (!answer)
        return TRUE;
    job = vr_cli_json_object(answer);
    failure = vr_cli_json_member(job, "error");
    vr_cli_take_pair(cli->out, "Id", vr_cli_json_text(job, "id"));
    vr_cli_take_pair(cli->out, "Kind", vr_cli_json_text(job, "kind"));
    vr_cli_take_pair(cli->out, "Domain", vr_cli_json_text(job, "domain"));
    vr_cli_take_pair(cli->out, "State", vr_cli_json_text(job, "state"));
    vr_cli_take_pair(cli->out, "Progress", percent_text(job));
    vr_cli_take_pair(cli->out, "Read", vr_cli_json_size(job, "bytes_read"));
    vr_cli_take_pair(cli->out, "Sent", vr_cli_json_size(job, "bytes_sent"));
    vr_cli_take_pair(cli->out, "Started", vr_cli_json_time(job, "started"));
    vr_cli_take_pair(cli->out, "Ended", vr_cli_json_time(job, "ended"));
    if (failure) {
        vr_cli_take_pair(cli->out, "Error", vr_cli_json_text(failure, "message"));
        vr_cli_take_pair(cli->out, "  Code", vr_cli_json_text(failure, "code"));
        vr_cli_take_pair(cli->out, "  Action", vr_cli_json_text(failure, "action"));
    }
    print_steps(cli, job);
    return TRUE;
}

gboolean
vr_cli_job_wait(VrCli *cli, const VrCliArgs *args, GError **error)
{
    gint64 id = vr_cli_args_number(args, "id");
    g_autoptr(JsonNode) job = NULL;

    if (!vr_cli_wait_job(cli, args, id, &job, error))
        return FALSE;
    if (cli->json)
        vr_cli_json_print(cli->out, job);
    vr_cli_say(cli, "Job %" G_GINT64_FORMAT " completed", id);
    return TRUE;
}

gboolean
vr_cli_job_cancel(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *path = job_path(args, "cancel");

    if (!vr_cli_do(cli, "POST", path, json_object_new(), error))
        return FALSE;
    vr_cli_say(cli, "Job %" G_GINT64_FORMAT " is asked to stop", vr_cli_args_number(args, "id"));
    return TRUE;
}
