/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_wait.h"

#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_format.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_progress.h"
#include "storage/wire/error_json.h"

#include <signal.h>

#define OUTAGE_MAX_US (60 * G_USEC_PER_SEC)
#define RETRY_PAUSE_US (G_USEC_PER_SEC / 5)

/* Between two polls of a job that goes on the daemon has held the answer back for a second; should
 * it not, this keeps us from asking without end. */
#define POLL_PAUSE_US (G_USEC_PER_SEC / 20)

static volatile sig_atomic_t interrupted;

static void
on_sigint(int signum)
{
    (void) signum;
    interrupted = 1;
}

/* Once: a second SIGINT, if the first does not get us out of a call, ends the program. Ignored
 * stays ignored, as under nohup. */
static void
watch_sigint(struct sigaction *ret_old)
{
    struct sigaction action = {.sa_handler = on_sigint, .sa_flags = (int) SA_RESETHAND};

    interrupted = 0;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, ret_old);
    if (ret_old->sa_handler == SIG_IGN)
        sigaction(SIGINT, ret_old, NULL);
}

static void
set_goes_on(GError **error, const char *slug, gint64 id, const char *why)
{
    g_autofree char *goes_on = g_strdup_printf(
        "job %" G_GINT64_FORMAT " goes on: virt-replica job-info %" G_GINT64_FORMAT, id, id);

    if (why)
        vr_set_error(error, VR_ERROR_TIMEOUT, slug, goes_on, "%s", why);
    else
        vr_set_error(error, VR_ERROR_TIMEOUT, slug, NULL, "%s", goes_on);
}

/* TRUE when the job has ended; *ret_error is set then unless it completed. */
static gboolean
job_ended(JsonObject *job, gint64 id, GError **ret_error)
{
    const char *state = vr_cli_json_string(job, "state");
    JsonObject *failure = vr_cli_json_member(job, "error");

    if (g_strcmp0(state, "completed") == 0)
        return TRUE;
    if (g_strcmp0(state, "failed") != 0 && g_strcmp0(state, "cancelled") != 0)
        return FALSE;
    if (failure)
        g_propagate_error(ret_error, vr_error_from_json_object(failure));
    else if (g_str_equal(state, "cancelled"))
        vr_set_error(ret_error, VR_ERROR_CANCELLED, "job-cancelled", NULL,
                     "job %" G_GINT64_FORMAT " was cancelled", id);
    else
        vr_set_error(ret_error, VR_ERROR_INTERNAL, "job-failed", NULL,
                     "job %" G_GINT64_FORMAT " failed without saying why", id);
    return TRUE;
}

static gboolean
away(const GError *error)
{
    return g_error_matches(error, VR_ERROR, VR_ERROR_UNREACHABLE);
}

static void
nap(gint64 us, gint64 until_us)
{
    gint64 left = until_us - g_get_monotonic_time();

    if (left > 0)
        g_usleep((gulong) MIN(us, left));
}

static gboolean
poll_job(VrCli *cli, gint64 id, gint64 until_us, JsonNode **ret_job, GError **error)
{
    g_autofree char *number = g_strdup_printf("%" G_GINT64_FORMAT, id);
    gboolean last = g_get_monotonic_time() + G_USEC_PER_SEC > until_us;
    g_autofree char *path =
        vr_cli_query(vr_cli_path("jobs", number, NULL), "wait", last ? "0" : "1");

    if (!vr_cli_request(cli, "GET", path, NULL, ret_job, error))
        return FALSE;
    if (vr_cli_json_object(*ret_job))
        return TRUE;
    g_clear_pointer(ret_job, json_node_unref);
    vr_set_error(error, VR_ERROR_INTERNAL, "bad-answer", "Check the versions with --version.",
                 "the daemon's answer about job %s is not a job", number);
    return FALSE;
}

/* Why it does not go on, each reason once. @said: (transfer full) (nullable): the last one. */
static void
say_waiting(VrCli *cli, JsonObject *job, char **said)
{
    JsonObject *reason = vr_cli_json_member(job, "error");
    const char *message = vr_cli_json_string(reason, "message");
    g_autofree char *shown = NULL;
    g_autofree char *action = NULL;

    if (cli->quiet || g_strcmp0(vr_cli_json_string(job, "state"), "waiting") != 0 || !message ||
        g_strcmp0(*said, message) == 0)
        return;
    g_free(*said);
    *said = g_strdup(message);
    shown = vr_cli_escape(message);
    action = vr_cli_escape(vr_cli_json_string(reason, "action") ?: "");
    fprintf(cli->err, "waiting, it is tried again: %s\n", shown);
    if (*action)
        fprintf(cli->err, "  %s\n", action);
}

/* @known: the daemon has answered about this job; if not, being away is an error at once. */
static gboolean
wait_loop(VrCli *cli, gint64 id, gboolean known, gint64 until_us, VrCliProgress *progress,
          JsonNode **ret_job, GError **error)
{
    gint64 outage_us = 0; /* monotonic: since when the daemon is away, 0: it is not */
    g_autofree char *said = NULL;

    for (;;) {
        g_autoptr(JsonNode) job = NULL;
        g_autoptr(GError) local = NULL;
        gint64 now_us = 0;

        if (interrupted) {
            set_goes_on(error, "interrupted", id, NULL);
            return FALSE;
        }
        if (!poll_job(cli, id, until_us, &job, &local) && !(known && away(local))) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        known = TRUE;
        now_us = g_get_monotonic_time();
        if (job && progress)
            vr_cli_progress_update(progress, vr_cli_json_object(job), now_us);
        if (job)
            say_waiting(cli, vr_cli_json_object(job), &said);
        if (job && job_ended(vr_cli_json_object(job), id, &local)) {
            if (local) {
                g_propagate_error(error, g_steal_pointer(&local));
                return FALSE;
            }
            *ret_job = g_steal_pointer(&job);
            return TRUE;
        }
        if (interrupted)
            continue;
        if (now_us >= until_us) {
            set_goes_on(error, "wait-timeout", id, "timed out waiting");
            return FALSE;
        }
        outage_us = job ? 0 : outage_us ? outage_us : now_us;
        if (!job && now_us - outage_us >= OUTAGE_MAX_US) {
            g_propagate_prefixed_error(error, g_steal_pointer(&local),
                                       "waiting for job %" G_GINT64_FORMAT ": ", id);
            return FALSE;
        }
        nap(job ? POLL_PAUSE_US : RETRY_PAUSE_US, until_us);
    }
}

static gboolean
wait_job(VrCli *cli, const VrCliArgs *args, gint64 id, gboolean known, gint64 started_us,
         JsonNode **ret_job, GError **error)
{
    gint64 timeout = vr_cli_args_seconds(args, "timeout");
    gint64 until_us = timeout < 0 ? G_MAXINT64 : started_us + timeout * G_USEC_PER_SEC;
    g_autoptr(VrCliProgress) progress = NULL;

    if (vr_cli_args_flag(args, "verbose"))
        progress = vr_cli_progress_new(cli->err, cli->terminal);
    return wait_loop(cli, id, known, until_us, progress, ret_job, error);
}

gboolean
vr_cli_wait_job(VrCli *cli, const VrCliArgs *args, gint64 id, JsonNode **ret_job, GError **error)
{
    struct sigaction old;
    gboolean ok = FALSE;

    watch_sigint(&old);
    ok = wait_job(cli, args, id, FALSE, g_get_monotonic_time(), ret_job, error);
    sigaction(SIGINT, &old, NULL);
    return ok;
}

static gboolean
submit(VrCli *cli, const char *path, JsonObject *body, gint64 *ret_id, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;
    gint64 id = 0;

    if (!vr_cli_request(cli, "POST", path, body, &answer, error))
        return FALSE;
    id = vr_cli_json_int(vr_cli_json_object(answer), "job", 0);
    if (id <= 0) {
        vr_set_error(error, VR_ERROR_INTERNAL, "bad-answer", "Look for it with job-list.",
                     "the daemon did not say which job it started");
        return FALSE;
    }
    *ret_id = id;
    return TRUE;
}

static void
print_id(VrCli *cli, gint64 id)
{
    if (cli->json)
        fprintf(cli->out, "{\"job\":%" G_GINT64_FORMAT "}\n", id);
    else
        fprintf(cli->out, "%" G_GINT64_FORMAT "\n", id);
}

gboolean
vr_cli_start_job(VrCli *cli, const VrCliArgs *args, const char *path, JsonObject *body,
                 JsonNode **ret_job, GError **error)
{
    struct sigaction old;
    gint64 started_us = g_get_monotonic_time();
    gint64 id = 0;
    gboolean ok = FALSE;

    *ret_job = NULL;
    watch_sigint(&old);
    ok = submit(cli, path, body, &id, error);
    if (ok && vr_cli_args_flag(args, "detach"))
        print_id(cli, id);
    else if (ok)
        ok = wait_job(cli, args, id, TRUE, started_us, ret_job, error);
    sigaction(SIGINT, &old, NULL);
    return ok;
}
