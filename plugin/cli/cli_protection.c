/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_commands.h"
#include "plugin/cli/cli_format.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_request.h"
#include "plugin/cli/cli_table.h"
#include "plugin/cli/cli_wait.h"

/* Runs a job of the protection of the domain in @args. *ret_job as for vr_cli_start_job(); NULL too
 * when --json printed it. */
static gboolean
run_job(VrCli *cli, const VrCliArgs *args, const char *path, JsonObject *body, JsonNode **ret_job,
        GError **error)
{
    if (!vr_cli_start_job(cli, args, path, body, ret_job, error))
        return FALSE;
    if (*ret_job && cli->json) {
        vr_cli_json_print(cli->out, *ret_job);
        g_clear_pointer(ret_job, json_node_unref);
    }
    return TRUE;
}

static char *
action_path(const VrCliArgs *args, const char *action)
{
    return vr_cli_path("protections", vr_cli_args_text(args, "domain"), action, NULL);
}

gboolean
vr_cli_protect(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *path = vr_cli_path("protections", NULL);
    JsonObject *body = vr_cli_replica_request(args);
    g_autoptr(JsonNode) job = NULL;

    vr_cli_json_set(body, "policy", vr_cli_args_text(args, "policy"));
    if (!run_job(cli, args, path, body, &job, error))
        return FALSE;
    if (job)
        vr_cli_say(cli, "Domain '%s' is protected on '%s'", vr_cli_args_text(args, "domain"),
                   vr_cli_args_text(args, "to"));
    return TRUE;
}

/* "17, 2026-11-23 02:14:17 +0100, crash"; NULL if there is no recovery point yet. */
static char *
last_rp_text(JsonObject *protection)
{
    JsonObject *rp = vr_cli_json_member(protection, "last_rp");
    g_autofree char *number = vr_cli_json_text(rp, "number");
    g_autofree char *time = vr_cli_json_time(rp, "time");
    g_autofree char *consistency = vr_cli_json_text(rp, "consistency");

    if (!rp)
        return NULL;
    return g_strdup_printf("%s, %s, %s", number ? number : "-", time ? time : "-",
                           consistency ? consistency : "-");
}

/* Names are not identities: two domains of one name are told apart by their UUIDs. */
static gboolean
has_twins(const GPtrArray *protections)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < protections->len; i++) {
        const char *name = vr_cli_json_string(g_ptr_array_index(protections, i), "name");

        if (name && !g_hash_table_add(names, (gpointer) name))
            return TRUE;
    }
    return FALSE;
}

gboolean
vr_cli_list(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *path = vr_cli_query(vr_cli_path("protections", NULL), "all",
                                         vr_cli_args_flag(args, "all") ? "1" : NULL);
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GPtrArray) protections = NULL;
    g_autoptr(VrCliTable) table = NULL;
    gboolean twins;

    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (!answer)
        return TRUE;
    protections = vr_cli_json_objects(answer);
    twins = has_twins(protections);
    table = vr_cli_table_new("Domain", "Role", "State", "Health", "Peer", "Policy", "Last RP",
                             "RPO", twins ? "UUID" : NULL, NULL);
    for (guint i = 0; i < protections->len; i++) {
        JsonObject *protection = g_ptr_array_index(protections, i);
        JsonObject *rp = vr_cli_json_member(protection, "last_rp");

        vr_cli_table_take(table, vr_cli_json_text(protection, "name"));
        vr_cli_table_take(table, vr_cli_json_text(protection, "role"));
        vr_cli_table_take(table, vr_cli_json_bool(protection, "kept")
                                     ? g_strdup("kept")
                                     : vr_cli_json_text(protection, "state"));
        vr_cli_table_take(table, vr_cli_json_text(protection, "health"));
        vr_cli_table_take(table, vr_cli_json_text(protection, "peer"));
        vr_cli_table_take(table, vr_cli_json_text(protection, "policy"));
        vr_cli_table_take(table, vr_cli_json_time(rp, "time"));
        vr_cli_table_take(table, vr_cli_json_interval(protection, "rpo_seconds"));
        if (twins)
            vr_cli_table_take(table, vr_cli_json_text(protection, "uuid"));
    }
    vr_cli_table_print(table, cli->out, cli->quiet);
    return TRUE;
}

static void
print_reasons(VrCli *cli, JsonObject *protection)
{
    g_autoptr(GPtrArray) reasons = vr_cli_json_member_objects(protection, "reasons");

    for (guint i = 0; i < reasons->len; i++) {
        JsonObject *reason = g_ptr_array_index(reasons, i);

        vr_cli_take_pair(cli->out, "Reason", vr_cli_json_text(reason, "message"));
        vr_cli_take_pair(cli->out, "  Code", vr_cli_json_text(reason, "code"));
        vr_cli_take_pair(cli->out, "  Since", vr_cli_json_time(reason, "since"));
        vr_cli_take_pair(cli->out, "  Action", vr_cli_json_text(reason, "action"));
    }
}

static double
number_of(JsonObject *object, const char *key)
{
    double value = 0;

    (void) vr_cli_json_number(object, key, &value);
    return value;
}

/* "delta, running, 45 %, started 2026-11-23 02:14:17 +0100 (3.2 s), 12 MiB read, 1 MiB sent"; NULL
 * if there is none. */
static char *
cycle_text(JsonObject *protection, const char *key)
{
    JsonObject *cycle = vr_cli_json_member(protection, key);
    g_autofree char *kind = vr_cli_json_text(cycle, "kind");
    g_autofree char *state = vr_cli_json_text(cycle, "state");
    g_autofree char *started = vr_cli_json_time(cycle, "started");
    g_autofree char *read = vr_cli_json_size(cycle, "bytes_read");
    g_autofree char *sent = vr_cli_json_size(cycle, "bytes_sent");
    const char *failure = vr_cli_json_string(vr_cli_json_member(cycle, "error"), "message");
    double seconds;
    GString *text;

    if (!cycle)
        return NULL;
    text = g_string_new(kind);
    g_string_append_printf(text, "%s%s", kind ? ", " : "", state ? state : "-");
    if (g_strcmp0(state, "running") == 0)
        g_string_append_printf(text, ", %.0f %%", CLAMP(number_of(cycle, "progress"), 0, 1) * 100);
    g_string_append_printf(text, ", started %s", started ? started : "-");
    if (vr_cli_json_number(cycle, "seconds", &seconds))
        g_string_append_printf(text, " (%.1f s)", seconds);
    if (read && sent)
        g_string_append_printf(text, ", %s read, %s sent", read, sent);
    if (failure)
        g_string_append_printf(text, ": %s", failure);
    return g_string_free(text, FALSE);
}

static void
print_protection(VrCli *cli, JsonObject *protection)
{
    JsonObject *rp = vr_cli_json_member(protection, "last_rp");
    JsonObject *failure = vr_cli_json_member(protection, "last_error");

    vr_cli_take_pair(cli->out, "Domain", vr_cli_json_text(protection, "name"));
    vr_cli_take_pair(cli->out, "UUID", vr_cli_json_text(protection, "uuid"));
    vr_cli_take_pair(cli->out, "Role", vr_cli_json_text(protection, "role"));
    vr_cli_take_pair(cli->out, "State", vr_cli_json_text(protection, "state"));
    vr_cli_take_pair(cli->out, "Health", vr_cli_json_text(protection, "health"));
    vr_cli_take_pair(cli->out, "Peer", vr_cli_json_text(protection, "peer"));
    vr_cli_take_pair(cli->out, "Store", vr_cli_json_text(protection, "store"));
    vr_cli_take_pair(cli->out, "Policy", vr_cli_json_text(protection, "policy"));
    vr_cli_take_pair(cli->out, "Generation", vr_cli_json_text(protection, "generation"));
    vr_cli_take_pair(cli->out, "RPO", vr_cli_json_interval(protection, "rpo_seconds"));
    vr_cli_take_pair(cli->out, "Last RP", last_rp_text(protection));
    vr_cli_take_pair(cli->out, "Root", vr_cli_json_text(rp, "root"));
    vr_cli_take_pair(cli->out, "Cycle", cycle_text(protection, "cycle"));
    vr_cli_take_pair(cli->out, "Last cycle", cycle_text(protection, "last_cycle"));
    vr_cli_take_pair(cli->out, "Next cycle", vr_cli_json_time(protection, "next_cycle"));
    vr_cli_take_pair(cli->out, "Job", vr_cli_json_text(protection, "job"));
    if (failure) {
        vr_cli_take_pair(cli->out, "Last error", vr_cli_json_text(failure, "message"));
        vr_cli_take_pair(cli->out, "  Time", vr_cli_json_time(failure, "time"));
        vr_cli_take_pair(cli->out, "  Action", vr_cli_json_text(failure, "action"));
    }
    print_reasons(cli, protection);
}

gboolean
vr_cli_info(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *path = action_path(args, NULL);
    g_autoptr(JsonNode) answer = NULL;

    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (answer)
        print_protection(cli, vr_cli_json_object(answer));
    return TRUE;
}

/* A freeze that was asked for and failed does not fail the job, so the answer names what came out.
 */
static void
say_point(VrCli *cli, const char *domain, JsonObject *job)
{
    JsonObject *result = vr_cli_json_member(job, "result");
    const char *consistency = vr_cli_json_string(result, "consistency");
    const char *why = vr_cli_json_string(result, "not_frozen");
    g_autofree char *shown = why ? vr_cli_escape(why) : NULL;

    if (shown)
        fprintf(cli->err, "warning: the guest could not be frozen: %s\n", shown);
    if (consistency)
        vr_cli_say(cli, "Domain '%s' has a new recovery point, %s-consistent", domain, consistency);
    else
        vr_cli_say(cli, "Domain '%s' has a new recovery point", domain);
}

gboolean
vr_cli_sync(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *path = action_path(args, "sync");
    JsonObject *body = json_object_new();
    g_autoptr(JsonNode) job = NULL;

    json_object_set_boolean_member(body, "quiesce", vr_cli_args_flag(args, "quiesce"));
    if (!run_job(cli, args, path, body, &job, error))
        return FALSE;
    if (job)
        say_point(cli, vr_cli_args_text(args, "domain"), vr_cli_json_object(job));
    return TRUE;
}

static gboolean
change(VrCli *cli, const VrCliArgs *args, const char *action, const char *done, GError **error)
{
    g_autofree char *path = action_path(args, action);

    if (!vr_cli_do(cli, "POST", path, json_object_new(), error))
        return FALSE;
    vr_cli_say(cli, "Protection of domain '%s' %s", vr_cli_args_text(args, "domain"), done);
    return TRUE;
}

gboolean
vr_cli_pause(VrCli *cli, const VrCliArgs *args, GError **error)
{
    return change(cli, args, "pause", "paused", error);
}

gboolean
vr_cli_resume(VrCli *cli, const VrCliArgs *args, GError **error)
{
    return change(cli, args, "resume", "resumed", error);
}

static void
say_unprotected(VrCli *cli, const char *domain, JsonObject *result)
{
    const char *until = result ? vr_cli_json_string(result, "kept_until") : NULL;
    const char *left = result ? vr_cli_json_string(result, "left") : NULL;
    g_autofree char *when = until ? vr_cli_json_time(result, "kept_until") : NULL;

    if (!until)
        vr_cli_say(cli, "Domain '%s' is no longer protected", domain);
    else if (g_str_equal(until, "forever"))
        vr_cli_say(cli, "Domain '%s' is no longer protected; the peer keeps its replica", domain);
    else
        vr_cli_say(cli, "Domain '%s' is no longer protected; the peer keeps its replica until %s",
                   domain, when);
    if (left)
        vr_cli_say(cli, "Left: %s", left);
}

gboolean
vr_cli_unprotect(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *path = action_path(args, "unprotect");
    JsonObject *body = json_object_new();
    g_autoptr(JsonNode) job = NULL;

    json_object_set_boolean_member(body, "keep_replica", vr_cli_args_flag(args, "keep-replica"));
    json_object_set_boolean_member(body, "force", vr_cli_args_flag(args, "force"));
    if (!run_job(cli, args, path, body, &job, error))
        return FALSE;
    if (job)
        say_unprotected(cli, vr_cli_args_text(args, "domain"),
                        vr_cli_json_member(vr_cli_json_object(job), "result"));
    return TRUE;
}
