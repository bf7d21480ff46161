/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli.h"

#include "plugin/cli/cli_args.h"
#include "plugin/cli/cli_command.h"
#include "plugin/cli/cli_format.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_progress.h"
#include "plugin/cli/cli_table.h"
#include "storage/wire/http.h"

#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* --- a daemon that answers what it was told to --------------------------------------------- */

typedef struct {
    guint status;
    const char *body;
    gboolean interrupt; /* SIGINT to ourselves before the answer */
    gboolean close;     /* close the connection instead of answering */
} Answer;

typedef struct {
    char *dir;    /* owned */
    char *socket; /* owned */
    GThread *thread;
    GSocketListener *listener;
    GCancellable *stop;
    GHashTable *answers; /* "GET /v1/x" -> queue of Answer; the last one stays */
    GString *log;        /* "METHOD path body\n" a request */
    GMutex lock;         /* guards answers and log */
} Daemon;

typedef struct {
    char *out;
    gsize out_len;
    char *err;
    gsize err_len;
    int status;
} Run;

static void
run_clear(Run *run)
{
    free(run->out);
    free(run->err);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Run, run_clear)

/* Reads one request; NULL at the end of the connection. */
static char *
read_request(GDataInputStream *in, char **ret_body)
{
    g_autofree char *line = g_data_input_stream_read_line(in, NULL, NULL, NULL);
    gsize length = 0;

    if (!line)
        return NULL;
    for (;;) {
        g_autofree char *header = g_data_input_stream_read_line(in, NULL, NULL, NULL);

        if (!header || !*g_strchomp(header))
            break;
        if (g_ascii_strncasecmp(header, "content-length:", 15) == 0)
            length = (gsize) g_ascii_strtoull(header + 15, NULL, 10);
    }
    *ret_body = g_malloc0(length + 1);
    g_assert_true(g_input_stream_read_all(G_INPUT_STREAM(in), *ret_body, length, NULL, NULL, NULL));
    *strrchr(line, ' ') = '\0'; /* HTTP/1.1 */
    return g_steal_pointer(&line);
}

static Answer
next_answer(Daemon *daemon, const char *request, const char *body)
{
    static const Answer missing = {404,
                                   "{\"error\":{\"code\":\"no-route\",\"kind\":\"not-found\","
                                   "\"message\":\"no such route\",\"action\":null}}",
                                   FALSE, FALSE};
    Answer answer = missing;
    GQueue *queue = NULL;

    g_mutex_lock(&daemon->lock);
    g_string_append_printf(daemon->log, "%s %s\n", request, body);
    queue = g_hash_table_lookup(daemon->answers, request);
    if (queue) {
        answer = *(Answer *) g_queue_peek_head(queue);
        if (queue->length > 1)
            g_free(g_queue_pop_head(queue));
    }
    g_mutex_unlock(&daemon->lock);
    return answer;
}

static void
serve(Daemon *daemon, GSocketConnection *connection)
{
    g_autoptr(GDataInputStream) in =
        g_data_input_stream_new(g_io_stream_get_input_stream(G_IO_STREAM(connection)));
    GOutputStream *out = g_io_stream_get_output_stream(G_IO_STREAM(connection));

    g_data_input_stream_set_newline_type(in, G_DATA_STREAM_NEWLINE_TYPE_CR_LF);
    for (;;) {
        g_autofree char *body = NULL;
        g_autofree char *request = read_request(in, &body);
        Answer answer;

        if (!request)
            return;
        answer = next_answer(daemon, request, body);
        if (answer.close)
            return;
        if (answer.interrupt)
            kill(getpid(), SIGINT);
        if (!g_output_stream_printf(out, NULL, NULL, NULL,
                                    "HTTP/1.1 %u X\r\nContent-Type: application/json\r\n"
                                    "Content-Length: %zu\r\n\r\n%s",
                                    answer.status, strlen(answer.body), answer.body))
            return;
    }
}

static gpointer
daemon_thread(gpointer data)
{
    Daemon *daemon = data;

    for (;;) {
        g_autoptr(GSocketConnection) connection =
            g_socket_listener_accept(daemon->listener, NULL, daemon->stop, NULL);

        if (!connection)
            return NULL;
        serve(daemon, connection);
    }
}

static void
queue_free(gpointer queue)
{
    g_queue_free_full(queue, g_free);
}

static Daemon *
daemon_new(void)
{
    Daemon *daemon = g_new0(Daemon, 1);
    g_autoptr(GSocketAddress) address = NULL;
    g_autoptr(GError) error = NULL;

    daemon->dir = g_dir_make_tmp("vr-cli-XXXXXX", &error);
    g_assert_no_error(error);
    daemon->socket = g_build_filename(daemon->dir, "socket", NULL);
    daemon->answers = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, queue_free);
    daemon->log = g_string_new(NULL);
    daemon->stop = g_cancellable_new();
    daemon->listener = g_socket_listener_new();
    g_mutex_init(&daemon->lock);
    address = g_unix_socket_address_new(daemon->socket);
    g_socket_listener_add_address(daemon->listener, address, G_SOCKET_TYPE_STREAM,
                                  G_SOCKET_PROTOCOL_DEFAULT, NULL, NULL, &error);
    g_assert_no_error(error);
    daemon->thread = g_thread_new("daemon", daemon_thread, daemon);
    return daemon;
}

static void
daemon_free(Daemon *daemon)
{
    g_cancellable_cancel(daemon->stop);
    g_thread_join(daemon->thread);
    g_object_unref(daemon->listener);
    g_object_unref(daemon->stop);
    g_hash_table_unref(daemon->answers);
    g_string_free(daemon->log, TRUE);
    g_mutex_clear(&daemon->lock);
    g_unlink(daemon->socket);
    g_assert_cmpint(g_rmdir(daemon->dir), ==, 0);
    g_free(daemon->socket);
    g_free(daemon->dir);
    g_free(daemon);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Daemon, daemon_free)

static void
queue_answer(Daemon *daemon, const char *request, Answer answer)
{
    GQueue *queue = NULL;

    g_mutex_lock(&daemon->lock);
    queue = g_hash_table_lookup(daemon->answers, request);
    if (!queue) {
        queue = g_queue_new();
        g_hash_table_insert(daemon->answers, (gpointer) request, queue);
    }
    g_queue_push_tail(queue, g_memdup2(&answer, sizeof answer));
    g_mutex_unlock(&daemon->lock);
}

static void
answer(Daemon *daemon, const char *request, guint status, const char *body)
{
    queue_answer(daemon, request, (Answer){status, body, FALSE, FALSE});
}

static void
assert_logged(Daemon *daemon, const char *line)
{
    g_mutex_lock(&daemon->lock);
    if (!strstr(daemon->log->str, line))
        g_error("request '%s' is missing in:\n%s", line, daemon->log->str);
    g_mutex_unlock(&daemon->lock);
}

/* --- running ------------------------------------------------------------------------------- */

static Run
run_line(Daemon *daemon, const char *line)
{
    Run run = {0};
    g_autofree char *full = g_strdup_printf("virt-replica %s", line);
    g_auto(GStrv) argv = NULL;
    g_autoptr(GError) error = NULL;
    FILE *out = open_memstream(&run.out, &run.out_len);
    FILE *err = open_memstream(&run.err, &run.err_len);

    g_assert_true(g_shell_parse_argv(full, NULL, &argv, &error));
    g_assert_no_error(error);
    run.status =
        vr_cli_run(argv, daemon ? daemon->socket : "/nonexistent/socket", NULL, out, err, FALSE);
    fclose(out);
    fclose(err);
    return run;
}

/* The same without a command, which makes it a shell that reads @text. */
static Run
run_shell(Daemon *daemon, char **argv, const char *text)
{
    Run run = {0};
    FILE *in = fmemopen((char *) text, strlen(text), "r");
    FILE *out = open_memstream(&run.out, &run.out_len);
    FILE *err = open_memstream(&run.err, &run.err_len);

    run.status =
        vr_cli_run(argv, daemon ? daemon->socket : "/nonexistent/socket", in, out, err, FALSE);
    fclose(in);
    fclose(out);
    fclose(err);
    return run;
}

static JsonNode *
parse_json(const char *text)
{
    g_autoptr(GError) error = NULL;
    JsonNode *node = json_from_string(text, &error);

    if (!node)
        g_error("no JSON value: '%s'", text);
    g_assert_cmpuint(strcspn(text, "\n") + 1, ==, strlen(text));
    return node;
}

static void
assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        g_error("'%s' is missing in:\n%s", part, text);
}

/* --- parser -------------------------------------------------------------------------------- */

static void
test_usage_errors(void)
{
    static const struct {
        const char *line, *message, *action;
    } cases[] = {
        {"", "no command was given", "virt-replica help"},
        {"store-define ../x --path /tmp", "'../x' cannot be the name of a store", "at most 63"},
        {"protct web1", "unknown command 'protct'", "Did you mean 'protect'?"},
        {"xyzzyxyzzy", "unknown command 'xyzzyxyzzy'", "Run 'virt-replica help' for"},
        {"protect web1 --polcy gold --to k", "unknown option '--polcy' of command 'protect'",
         "Did you mean '--policy'?"},
        {"failover web1 --unplanned",
         "option '--unplanned' of command 'failover' is not in this version", "help failover"},
        {"resolve web1 --keep-mine", "command 'resolve' is not in this version", "help"},
        {"list --wibble", "unknown option '--wibble' of command 'list'",
         "Run 'virt-replica help list'."},
        {"list -x", "unknown option '-x'", "help list"},
        {"--bogus list", "unknown option '--bogus'", "Run 'virt-replica help'."},
        {"protect web1", "needs option '--to'", "help protect"},
        {"protect --to kvm2", "needs <domain>", "help protect"},
        {"protect web1 --to", "option '--to' needs a value", "help protect"},
        {"protect web1 --to --detach", "option '--to' needs a value", "help protect"},
        {"protect web1 --to=", "the value of 'to' is empty", "help protect"},
        {"protect '' --to k", "the value of 'domain' is empty", "help protect"},
        {"protect web1 web2 --to k", "unexpected argument 'web2'", "help protect"},
        {"protect web1 --to a --to b", "'to' is given twice", "help protect"},
        {"info web1 --domain=web2", "unexpected argument 'web1'", "help info"},
        {"protect web1 --to k --detach=yes", "'--detach' takes no value", "help protect"},
        {"job-info 0", "'0' of 'id' is not a whole number from 1", "help job-info"},
        {"job-info -- -1", "'-1' of 'id' is not a whole number", "help job-info"},
        {"job-info 9223372036854775808", "is not a whole number", "help job-info"},
        {"rp-info web1 1x", "'1x' of 'number' is not", "help rp-info"},
        {"job-wait 1 --timeout soon", "'soon' of 'timeout' is not a time", "help job-wait"},
        {"peer-set k --quota much", "'much' of 'quota' is not a size such as 500GiB",
         "help peer-set"},
        {"peer-set k --max-protections 0", "'0' of 'max-protections' is not a whole number",
         "help peer-set"},
        {"peer-set k --delete-grace soon", "'soon' of 'delete-grace' is not a time",
         "help peer-set"},
        {"peer-set k --networks a/b", "'a/b' is not a network name", "virsh net-list"},
        {"peer-set k --networks dr,", "'' is not a network name", "virsh net-list"},
        {"peer-invite --networks=", "the value of 'networks' is empty", "help peer-invite"},
        {"failover web1", "needs option '--planned'", "help failover"},
        {"netmap-set kvm2 prod", "needs <target-net>", "help netmap-set"},
        {"peer-join", "needs <token> or option '--token-file'", "help peer-join"},
        {"peer-join T --token-file F", "and not both", "help peer-join"},
        {"policy-define /nonexistent/gold.conf", "cannot open '/nonexistent/gold.conf'", ""},
        {"policy-define '/tmp/a b.conf'", "'a b' cannot be the name", "gold.conf"},
        {"help nothing", "no command or group 'nothing'", "help"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(Run) run = run_line(NULL, cases[i].line);

        g_test_message("%s", cases[i].line);
        g_assert_cmpint(run.status, ==, 2);
        g_assert_true(g_str_has_prefix(run.err, "error: "));
        assert_has(run.err, cases[i].message);
        assert_has(run.err, cases[i].action);
        g_assert_cmpstr(run.out, ==, "");
    }
}

/* What can name nothing is not found, before the daemon is asked. */
static void
test_impossible_names(void)
{
    static const char *const lines[] = {
        "info ..",      "info a/b",      "info 'a\nb'",      "sync ../../etc",
        "peer-info .",  "store-info ..", "policy-dump ../x", "protect web1 --to a/b",
        "job-list a/b", "rp-info .. 1",  "netmap-list ..",   "check web1 --to k --store ../x",
    };
    g_autofree char *name = g_strnfill(256, 'x');
    g_autofree char *line = g_strdup_printf("info %s", name);
    g_auto(Run) long_name = run_line(NULL, line);

    g_assert_cmpint(long_name.status, ==, 4);
    g_assert_cmpuint(long_name.err_len, <, 200);
    for (gsize i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_auto(Run) run = run_line(NULL, lines[i]);

        g_test_message("%s", lines[i]);
        g_assert_cmpint(run.status, ==, 4);
        assert_has(run.err, "error: there is no ");
        assert_has(run.err, "no '/'");
    }
}

static void
test_uuid_case(void)
{
    g_autoptr(Daemon) daemon = daemon_new();

    answer(daemon, "GET /v1/protections/11111111-1111-4111-8111-11111111abcd", 200, "{}");
    {
        g_auto(Run) run = run_line(daemon, "info 11111111-1111-4111-8111-11111111ABCD");

        g_assert_cmpint(run.status, ==, 0);
    }
}

static void
test_shell(void)
{
    char *plain[] = {(char *) "virt-replica", NULL};
    char *json[] = {(char *) "virt-replica", (char *) "--json", NULL};
    g_auto(Run) two = run_shell(NULL, plain, "# none\n\n  --version  \nhelp 'job-wait'\n");
    g_auto(Run) ended = run_shell(NULL, plain, "--version\nquit\nlist\n");
    g_auto(Run) goes_on = run_shell(NULL, plain, "lsit\n'open\nstatus");
    g_auto(Run) as_json = run_shell(NULL, json, "lsit\n");
    g_auto(Run) empty = run_shell(NULL, plain, "\n");
    g_auto(Run) several = run_shell(NULL, plain, "--version;;--version ; # ; lsit\nquit;lsit\n");
    g_auto(Run) quoted = run_shell(NULL, plain, "help 'a;b'\n--version\nhelp \"a\\\";b\" a#b\n");

    g_assert_cmpint(two.status, ==, 0);
    g_assert_true(g_str_has_prefix(two.out, VR_VERSION "\n"));
    assert_has(two.out, "job-wait - wait until a job has ended");
    g_assert_cmpstr(two.err, ==, "");
    g_assert_cmpint(ended.status, ==, 0);
    g_assert_cmpstr(ended.out, ==, VR_VERSION "\n");
    g_assert_cmpint(goes_on.status, ==, 2);
    assert_has(goes_on.err, "unknown command 'lsit'");
    assert_has(goes_on.err, "/nonexistent/socket");
    g_assert_cmpint(as_json.status, ==, 2);
    g_assert_true(g_str_has_prefix(as_json.out, "{\"error\":{\"code\":\"usage\""));
    g_assert_cmpint(empty.status, ==, 0);
    g_assert_cmpstr(empty.out, ==, "");
    g_assert_cmpint(several.status, ==, 0);
    g_assert_cmpstr(several.out, ==, VR_VERSION "\n" VR_VERSION "\n");
    g_assert_cmpint(quoted.status, ==, 2);
    assert_has(quoted.err, "a;b");
    assert_has(quoted.err, "a#b");
    g_assert_cmpstr(quoted.out, ==, VR_VERSION "\n");
}

static void
test_not_utf8(void)
{
    char *argv[] = {(char *) "virt-replica", (char *) "info", (char *) "\xff", NULL};
    g_auto(VrCliGlobals) globals = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(VrCliArgs) args = vr_cli_args_parse(argv, &globals, &error);

    g_assert_null(args);
    g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    g_assert_cmpstr(error->message, ==, "argument 2 is not UTF-8 text");
}

static void
test_parse(void)
{
    static const char *const lines[] = {
        "protect web1 --to kvm2 --exclude-disk vdb --exclude-disk vdc --timeout 2min",
        "protect --exclude-disk=vdb --to=kvm2 --exclude-disk vdc web1 --timeout=120",
        "-q protect --timeout 120s --domain web1 --to kvm2 --exclude-disk vdb --exclude-disk=vdc",
        "protect --to kvm2 --exclude-disk vdb --exclude-disk vdc --timeout 120 -- web1",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autofree char *full = g_strdup_printf("virt-replica %s", lines[i]);
        g_auto(GStrv) argv = NULL;
        g_auto(VrCliGlobals) globals = {0};
        g_autoptr(VrCliArgs) args = NULL;
        const GPtrArray *disks = NULL;

        g_assert_true(g_shell_parse_argv(full, NULL, &argv, NULL));
        args = vr_cli_args_parse(argv, &globals, NULL);
        g_assert_nonnull(args);
        g_assert_cmpstr(vr_cli_args_command(args)->name, ==, "protect");
        g_assert_cmpstr(vr_cli_args_text(args, "domain"), ==, "web1");
        g_assert_cmpstr(vr_cli_args_text(args, "to"), ==, "kvm2");
        g_assert_null(vr_cli_args_text(args, "store"));
        g_assert_cmpint(vr_cli_args_seconds(args, "timeout"), ==, 120);
        g_assert_false(vr_cli_args_flag(args, "detach"));
        disks = vr_cli_args_list(args, "exclude-disk");
        g_assert_cmpuint(disks->len, ==, 2);
        g_assert_cmpstr(g_ptr_array_index(disks, 0), ==, "vdb");
        g_assert_cmpstr(g_ptr_array_index(disks, 1), ==, "vdc");
    }
}

static void
test_parse_mixed(void)
{
    char *argv[] = {(char *) "virt-replica", (char *) "netmap-set", (char *) "prod",
                    (char *) "--peer",       (char *) "kvm2",       (char *) "-c",
                    (char *) "/tmp/s",       (char *) "dr",         NULL};
    g_auto(VrCliGlobals) globals = {0};
    g_autoptr(VrCliArgs) args = vr_cli_args_parse(argv, &globals, NULL);

    g_assert_nonnull(args);
    g_assert_cmpstr(globals.socket, ==, "/tmp/s");
    g_assert_cmpstr(vr_cli_args_text(args, "source-net"), ==, "prod");
    g_assert_cmpstr(vr_cli_args_text(args, "target-net"), ==, "dr");
}

/* --- the table of commands ----------------------------------------------------------------- */

static void
check_params(const VrCliCommand *command, const VrCliParam *params, const char *help)
{
    for (; params->name; params++) {
        g_autofree char *name = g_strdup_printf("--%s", params->name);

        g_assert_true(params->help && *params->help);
        g_assert_true(params->type == VR_CLI_FLAG || *vr_cli_type_name(params->type));
        assert_has(help, name);
        assert_has(help, params->help);
    }
}

static void
test_help(void)
{
    gsize count = 0;
    const VrCliCommand *commands = vr_cli_commands(&count);
    g_auto(Run) all = run_line(NULL, "help");

    g_assert_cmpint(all.status, ==, 0);
    for (gsize i = 0; i < count; i++) {
        const VrCliCommand *command = &commands[i];
        g_autofree char *line = g_strdup_printf("help %s", command->name);
        g_autofree char *json = g_strdup_printf("--json %s --help", command->name);
        g_autofree char *group = g_strdup_printf("help --command %s", command->group);
        g_auto(Run) run = run_line(NULL, line);
        g_auto(Run) json_run = run_line(NULL, json);
        g_auto(Run) group_run = run_line(NULL, group);
        g_autoptr(JsonNode) node = parse_json(json_run.out);

        assert_has(all.out, command->help);
        g_assert_nonnull(vr_cli_group_find(command->group));
        assert_has(group_run.out, command->name);
        assert_has(run.out, command->help);
        check_params(command, command->args, run.out);
        check_params(command, command->options, run.out);
        g_assert_cmpstr(json_object_get_string_member(json_node_get_object(node), "name"), ==,
                        command->name);
    }
}

static void
test_help_text(void)
{
    g_auto(Run) run = run_line(NULL, "help unprotect");

    g_assert_cmpstr(
        run.out, ==,
        "  NAME\n"
        "    unprotect - end a protection; the peer keeps the replica for its grace\n"
        "\n"
        "  SYNOPSIS\n"
        "    unprotect <domain> [--keep-replica] [--force] [--detach] [--verbose] "
        "[--timeout <duration>]\n"
        "\n"
        "  OPTIONS\n"
        "    [--domain] <domain>          domain name or UUID\n"
        "    --keep-replica               keep the recovery points on the peer without end\n"
        "    --force                      end it without the other host, in any state; says what "
        "is "
        "left there\n"
        "    --detach                     print the job's id and do not wait for it\n"
        "    --verbose                    show progress while waiting\n"
        "    --timeout <duration>         stop waiting after this time; the job goes "
        "on\n"
        "\n");
}

static void
test_version(void)
{
    g_auto(Run) text = run_line(NULL, "-v");
    g_auto(Run) json = run_line(NULL, "--version --json");

    g_assert_cmpstr(text.out, ==, VR_VERSION "\n");
    g_assert_cmpstr(json.out, ==, "{\"version\":\"" VR_VERSION "\"}\n");
}

/* --- formats ------------------------------------------------------------------------------- */

static void
take_equal(char *got, const char *expected)
{
    g_assert_cmpstr(got, ==, expected);
    g_free(got);
}

static void
test_formats(void)
{
    gint64 seconds = 0;

    take_equal(vr_cli_format_size(0), "0 B");
    take_equal(vr_cli_format_size(1023), "1023 B");
    take_equal(vr_cli_format_size(1024), "1.00 KiB");
    take_equal(vr_cli_format_size(G_MAXUINT64), "16.00 EiB");
    take_equal(vr_cli_format_part(44774637568, 53687091200), "41.7/50.0 GiB");
    take_equal(vr_cli_format_part(0, 12), "0/12 B");
    take_equal(vr_cli_format_rate(212.0 * 1024 * 1024), "212 MiB/s");
    take_equal(vr_cli_format_rate(1536), "1.5 KiB/s");
    take_equal(vr_cli_format_rate(-1), "0 B/s");
    take_equal(vr_cli_format_interval(40), "0:00:40");
    take_equal(vr_cli_format_interval(3723), "1:02:03");
    take_equal(vr_cli_format_interval(2 * 86400 + 3 * 3600), "2d 3:00:00");
    take_equal(vr_cli_format_interval(-5), "0:00:00");
    take_equal(vr_cli_format_time("2026-11-23T01:14:17Z"), "2026-11-23 02:14:17 +0100");
    take_equal(vr_cli_format_time("2026-07-01T00:00:00.250Z"), "2026-07-01 02:00:00 +0200");
    take_equal(vr_cli_format_time("soon"), "soon");
    take_equal(vr_cli_format_time(NULL), "-");
    take_equal(vr_cli_escape("a\x1b[2J\n\xff\xc2\x9b"
                             "b\xc3\xa4"),
               "a\\x1b[2J\\x0a\\xff\\u{009b}"
               "b\xc3\xa4");
    g_assert_true(vr_cli_parse_duration("90", &seconds));
    g_assert_cmpint(seconds, ==, 90);
    g_assert_true(vr_cli_parse_duration("1h", &seconds));
    g_assert_cmpint(seconds, ==, 3600);
    g_assert_true(vr_cli_parse_duration("500ms", &seconds));
    g_assert_cmpint(seconds, ==, 1);
    g_assert_false(vr_cli_parse_duration("", &seconds));
    g_assert_false(vr_cli_parse_duration("-1", &seconds));
}

/* JSON stays the same value, but commands no terminal. */
static void
test_json_escape(void)
{
    static const char text[] =
        "{\"a\":\"x\\u001b \xe2\x80\xae \xc2\x9b \xf3\xa0\x81\x81 \xc3\xa4\"}";
    g_autoptr(JsonNode) node = json_from_string(text, NULL);
    g_autoptr(JsonNode) again = NULL;
    g_autofree char *printed = NULL;
    gsize len;
    FILE *out = open_memstream(&printed, &len);

    vr_cli_json_print(out, node);
    fclose(out);
    g_assert_nonnull(strstr(printed, "\\u202e \\u009b \\udb40\\udc41 \xc3\xa4"));
    again = json_from_string(printed, NULL);
    g_assert_true(json_node_equal(node, again));
}

static void
test_table(void)
{
    g_autoptr(VrCliTable) table = vr_cli_table_new("Id", "Name", "State", NULL);
    g_autoptr(VrCliTable) empty = vr_cli_table_new("Id", "Name", "State", NULL);
    char *text = NULL;
    gsize length = 0;
    FILE *out = open_memstream(&text, &length);

    vr_cli_table_print(empty, out, FALSE);
    vr_cli_table_add(table, "1");
    vr_cli_table_add(table, "\xe4\xbb\xae\xe6\x83\xb3"); /* two wide characters */
    vr_cli_table_add(table, "running");
    vr_cli_table_add(table, "12");
    vr_cli_table_add(table, "a\nb");
    vr_cli_table_add(table, NULL);
    vr_cli_table_print(table, out, FALSE);
    vr_cli_table_print(table, out, TRUE);
    vr_cli_print_pair(out, "Name", "test");
    vr_cli_print_pair(out, "Job", "");
    fclose(out);
    g_assert_cmpstr(text, ==,
                    " Id   Name   State\n"
                    "--------------------\n"
                    "\n"
                    " Id   Name     State\n"
                    "------------------------\n"
                    " 1    \xe4\xbb\xae\xe6\x83\xb3     running\n"
                    " 12   a\\x0ab   -\n"
                    "\n"
                    " 1    \xe4\xbb\xae\xe6\x83\xb3     running\n"
                    " 12   a\\x0ab   -\n"
                    "Name:           test\n"
                    "Job:            -\n");
    free(text);
}

/* --- progress ------------------------------------------------------------------------------ */

#define RUNNING_JOB                                                                                \
    "{\"id\":17,\"kind\":\"protect\",\"domain\":\"web1\",\"state\":\"running\",\"progress\":0."    \
    "8342,"                                                                                        \
    "\"bytes_read\":44774637568,\"bytes_total\":53687091200,\"rate\":222298112.0,"                 \
    "\"seconds_left\":40,\"bytes_sent\":1,\"steps\":[{\"name\":\"check\",\"state\":\"completed\"," \
    "\"seconds\":0.42},{\"name\":\"initial\",\"state\":\"running\",\"seconds\":3},"                \
    "{\"name\":\"finalize\",\"state\":\"pending\",\"seconds\":0}],\"error\":null}"
#define COMPLETED_JOB                                                                              \
    "{\"id\":17,\"kind\":\"protect\",\"domain\":\"web1\",\"state\":\"completed\",\"progress\":1."  \
    "0,"                                                                                           \
    "\"bytes_read\":50,\"bytes_total\":0,\"rate\":null,\"seconds_left\":null,\"bytes_sent\":1,"    \
    "\"steps\":[{\"name\":\"check\",\"state\":\"completed\",\"seconds\":0.42},"                    \
    "{\"name\":\"initial\",\"state\":\"completed\",\"seconds\":4}],\"error\":null,"                \
    "\"started\":\"2026-11-23T01:14:17.000Z\",\"ended\":null,"                                     \
    "\"result\":{\"consistency\":\"app\"}}"

static char *
progress_text(gboolean terminal)
{
    g_autoptr(JsonNode) running = json_from_string(RUNNING_JOB, NULL);
    g_autoptr(JsonNode) completed = json_from_string(COMPLETED_JOB, NULL);
    char *text = NULL;
    gsize length = 0;
    FILE *err = open_memstream(&text, &length);
    VrCliProgress *progress = vr_cli_progress_new(err, terminal);

    vr_cli_progress_update(progress, json_node_get_object(running), G_USEC_PER_SEC);
    vr_cli_progress_update(progress, json_node_get_object(running), 30 * G_USEC_PER_SEC);
    vr_cli_progress_update(progress, json_node_get_object(running), 31 * G_USEC_PER_SEC);
    vr_cli_progress_update(progress, json_node_get_object(completed), 32 * G_USEC_PER_SEC);
    vr_cli_progress_free(progress);
    fclose(err);
    return text;
}

#define RUNNING_LINE "web1 initial: [ 83.42 %] 41.7/50.0 GiB, 212 MiB/s, 0:00:40 left"

static void
test_progress(void)
{
    g_autofree char *padding =
        g_strnfill(strlen(RUNNING_LINE) - strlen("web1 initial: [100.00 %]"), ' ');
    g_autofree char *drawn = g_strconcat("\r" RUNNING_LINE "\r" RUNNING_LINE "\r" RUNNING_LINE
                                         "\rweb1 initial: [100.00 %]",
                                         padding, "\n", NULL);

    take_equal(progress_text(FALSE), "web1 check: completed after 0.4 s\n" RUNNING_LINE
                                     "\nweb1 initial: completed after 4.0 s\n");
    take_equal(progress_text(TRUE), drawn);
}

/* --- with a daemon ------------------------------------------------------------------------- */

#define PROTECTION                                                                                 \
    "{\"name\":\"web1\",\"uuid\":\"3f0c1a52-8b1e-4c2d-9d7e-0a1b2c3d4e5f\",\"role\":\"source\","    \
    "\"state\":\"protected\",\"health\":\"warning\",\"reasons\":[{\"code\":\"rpo-over-target\","   \
    "\"message\":\"'web1' is late\",\"since\":\"2026-11-23T01:14:17Z\",\"action\":\"Wait.\"}],"    \
    "\"peer\":\"kvm2\",\"store\":\"default\",\"policy\":\"gold\",\"generation\":\"abc\","          \
    "\"rpo_seconds\":4.2,\"last_rp\":{\"number\":17,\"time\":\"2026-11-23T01:14:17Z\","            \
    "\"consistency\":\"crash\",\"root\":\"00ff\"},\"next_cycle\":null,"                            \
    "\"cycle\":{\"kind\":\"resync\",\"state\":\"running\",\"started\":\"2026-11-23T01:14:17Z\","   \
    "\"seconds\":3.25,\"bytes_read\":2097152,\"bytes_sent\":1024,\"progress\":0.455,\"error\":"    \
    "null,"                                                                                        \
    "\"rp\":null},\"last_cycle\":{\"kind\":null,\"state\":\"failed\","                             \
    "\"started\":\"2026-11-23T01:14:17Z\",\"seconds\":null,\"bytes_read\":null,\"bytes_sent\":"    \
    "null,"                                                                                        \
    "\"progress\":0,\"error\":{\"message\":\"peer is away\"},\"rp\":null},\"job\":null}"

#define CHECK_BAD                                                                                  \
    "{\"ok\":false,\"findings\":[{\"severity\":\"error\",\"code\":\"disk-is-raw\","                \
    "\"message\":\"disk 'vdb' is raw\",\"action\":\"Convert it.\"},{\"severity\":\"warning\","     \
    "\"code\":\"cdrom-ejected\",\"message\":\"sda is left out\",\"action\":null}]}"

static const struct {
    const char *line;
    const char *request; /* "METHOD path" */
    const char *body;    /* of the request */
    const char *reply;
    const char *out;
} good[] = {
    {"status", "GET /v1/status", "",
     "{\"version\":\"0.1.0\",\"name\":\"kvm1\",\"fingerprint\":\"f0\",\"address\":\"10.0.0.1:"
     "16540\","
     "\"libvirt\":{\"uri\":\"qemu:///system\",\"connected\":true,\"version\":\"9.0.0\","
     "\"qemu_version\":\"7.2.0\"},\"fence\":\"active\",\"protections\":3,\"jobs_running\":1,"
     "\"uptime_seconds\":3723}",
     "Name:           kvm1\n"
     "Version:        0.1.0\n"
     "Address:        10.0.0.1:16540\n"
     "Fingerprint:    f0\n"
     "Hypervisor:     qemu:///system, libvirt 9.0.0, QEMU 7.2.0\n"
     "Fence:          active\n"
     "Protections:    3\n"
     "Running jobs:   1\n"
     "Uptime:         1:02:03\n"},
    {"peer-invite --name kvm2 --expires 1h", "POST /v1/peers/invite",
     "{\"name\":\"kvm2\",\"expires_seconds\":3600}",
     "{\"token\":\"vr1.abc\",\"expires\":\"2026-11-23T01:14:17Z\"}", "vr1.abc\n"},
    {"peer-join vr1.abc", "POST /v1/peers/join", "{\"token\":\"vr1.abc\"}", "{\"name\":\"kvm1\"}",
     "Paired with 'kvm1'\n"},
    {"peer-list", "GET /v1/peers", "",
     "[{\"name\":\"kvm2\",\"address\":\"10.0.0.2:16540\",\"fingerprint\":"
     "\"0123456789abcdef0123456789abcdef\",\"reachable\":true,\"last_seen\":null}]",
     " Name   Address          Reachable   Last seen   Fingerprint\n"
     "-------------------------------------------------------------------\n"
     " kvm2   10.0.0.2:16540   yes         -           0123456789abcdef\n"
     "\n"},
    {"peer-info kvm2", "GET /v1/peers/kvm2", "", "{\"name\":\"kvm2\",\"reachable\":false}",
     "Name:           kvm2\n"
     "Address:        -\n"
     "Fingerprint:    -\n"
     "Reachable:      no\n"
     "Last seen:      -\n"
     "Networks:       -\n"
     "Replicas:       -\n"
     "Space:          -\n"
     "Delete grace:   -\n"},
    {"peer-info kvm2", "GET /v1/peers/kvm2", "",
     "{\"name\":\"kvm2\",\"networks\":[\"dr\",\"a,b\"],\"protections\":3,\"max_protections\":500,"
     "\"used_bytes\":1073741824,\"quota_bytes\":2147483648,\"delete_grace_seconds\":604800}",
     "Name:           kvm2\n"
     "Address:        -\n"
     "Fingerprint:    -\n"
     "Reachable:      -\n"
     "Last seen:      -\n"
     "Networks:       dr,a\\,b\n"
     "Replicas:       3 of 500\n"
     "Space:          1.00 GiB of 2.00 GiB\n"
     "Delete grace:   7d\n"},
    {"peer-set kvm2 --networks dr,prod --quota 2GiB --max-protections 3 --delete-grace 7d",
     "PUT /v1/peers/kvm2",
     "{\"networks\":[\"dr\",\"prod\"],\"quota_bytes\":2147483648,\"max_protections\":3,"
     "\"delete_grace_seconds\":604800}",
     "{\"name\":\"kvm2\"}", "Peer 'kvm2' set\n"},
    {"peer-set kvm2 --networks -", "PUT /v1/peers/kvm2", "{\"networks\":[]}", "{}",
     "Peer 'kvm2' set\n"},
    {"peer-set kvm2 --quota 0 --delete-grace 0s", "PUT /v1/peers/kvm2",
     "{\"quota_bytes\":0,\"delete_grace_seconds\":0}", "{}", "Peer 'kvm2' set\n"},
    {"peer-invite --networks 'lab net,dr'", "POST /v1/peers/invite",
     "{\"networks\":[\"dr\",\"lab net\"]}",
     "{\"token\":\"vr1.abc\",\"expires\":\"2026-11-23T01:14:17Z\"}", "vr1.abc\n"},
    {"peer-join vr1.abc --networks dr", "POST /v1/peers/join",
     "{\"token\":\"vr1.abc\",\"networks\":[\"dr\"]}", "{\"name\":\"kvm1\"}",
     "Paired with 'kvm1'\n"},
    {"peer-remove kvm2", "DELETE /v1/peers/kvm2", "", "{}", "Peer 'kvm2' removed\n"},
    {"store-list", "GET /v1/stores", "",
     "[{\"name\":\"default\",\"path\":\"/srv\",\"bytes_free\":1073741824,"
     "\"bytes_total\":2147483648,\"protections\":2}]",
     " Name      Protections   Free       Size       Path\n"
     "-----------------------------------------------------\n"
     " default   2             1.00 GiB   2.00 GiB   /srv\n"
     "\n"},
    {"store-define fast --path /srv/../srv/vr", "PUT /v1/stores/fast", "{\"path\":\"/srv/vr\"}",
     "{}", "Store 'fast' defined in /srv/vr\n"},
    {"store-info default", "GET /v1/stores/default", "", "{\"name\":\"default\"}",
     "Name:           default\n"
     "Path:           -\n"
     "Free:           -\n"
     "Size:           -\n"
     "Protections:    -\n"},
    {"store-scan fast --adopt web1", "POST /v1/stores/fast/adopt", "{\"domain\":\"web1\"}",
     "[{\"uuid\":\"u1\"}]", "Replica of domain 'u1' adopted\n"},
    {"store-scan fast --adopt-all", "POST /v1/stores/fast/adopt", "{}", "[]", "Nothing to adopt\n"},
    {"store-scan fast --drop u2", "POST /v1/stores/fast/drop", "{\"domain\":\"u2\"}", "",
     "Replica 'u2' removed from store 'fast'\n"},
    {"store-undefine fast", "DELETE /v1/stores/fast", "", "", "Store 'fast' undefined\n"},
    {"policy-list", "GET /v1/policies", "",
     "[{\"name\":\"default\",\"interval_seconds\":30,\"rpo_target_seconds\":120,\"builtin\":true}]",
     " Name      Interval   RPO target   Built in\n"
     "---------------------------------------------\n"
     " default   30s        2min         yes\n"
     "\n"},
    {"policy-dump gold", "GET /v1/policies/gold", "",
     "{\"name\":\"gold\",\"text\":\"[policy]\\ninterval=5s\\n\"}", "[policy]\ninterval=5s\n"},
    {"policy-undefine gold", "DELETE /v1/policies/gold", "", "{}", "Policy 'gold' undefined\n"},
    {"netmap-list kvm2", "GET /v1/netmaps?peer=kvm2", "",
     "[{\"peer\":\"kvm2\",\"source\":\"prod\",\"target\":\"dr\",\"test\":null}]",
     " Peer   Source network   Target network   Test network\n"
     "--------------------------------------------------------\n"
     " kvm2   prod             dr               -\n"
     "\n"},
    {"netmap-set kvm2 prod dr --test iso", "PUT /v1/netmaps",
     "{\"peer\":\"kvm2\",\"source\":\"prod\",\"target\":\"dr\",\"test\":\"iso\"}", "{}",
     "Network 'prod' becomes 'dr' on 'kvm2'\n"},
    {"netmap-unset kvm2 'a b&c'", "DELETE /v1/netmaps?peer=kvm2&source=a%20b%26c", "", "{}",
     "Network 'a b&c' is no longer mapped on 'kvm2'\n"},
    {"policy-set web1 gold", "POST /v1/protections/web1/policy", "{\"policy\":\"gold\"}", "{}",
     "Domain 'web1' follows policy 'gold'\n"},
    {"disk-exclude web1 vdb", "POST /v1/protections/web1/disks",
     "{\"disk\":\"vdb\",\"excluded\":true}", "{}",
     "Disk 'vdb' of domain 'web1' is left out from the next recovery point on\n"},
    {"disk-include web1 vdb", "POST /v1/protections/web1/disks",
     "{\"disk\":\"vdb\",\"excluded\":false}", "{}",
     "Disk 'vdb' of domain 'web1' is replicated from the next recovery point on\n"},
    {"check web1 --to kvm2", "POST /v1/check",
     "{\"domain\":\"web1\",\"peer\":\"kvm2\",\"exclude\":[]}", "{\"ok\":true,\"findings\":[]}",
     "Domain 'web1' can be protected on 'kvm2'\n"},
    {"list", "GET /v1/protections", "", "[" PROTECTION "]",
     " Domain   Role     State       Health    Peer   Policy   Last RP                     RPO\n"
     "---------------------------------------------------------------------------------------------"
     "-\n"
     " web1     source   protected   warning   kvm2   gold     2026-11-23 02:14:17 +0100   "
     "0:00:04\n"
     "\n"},
    {"list", "GET /v1/protections", "",
     "[{\"name\":\"web\",\"uuid\":\"u-1\"},{\"name\":\"web\",\"uuid\":\"u-2\"}]",
     " Domain   Role   State   Health   Peer   Policy   Last RP   RPO   UUID\n"
     "------------------------------------------------------------------------\n"
     " web      -      -       -        -      -        -         -     u-1\n"
     " web      -      -       -        -      -        -         -     u-2\n"
     "\n"},
    {"list --all", "GET /v1/protections?all=1", "", "[]",
     " Domain   Role   State   Health   Peer   Policy   Last RP   RPO\n"
     "-----------------------------------------------------------------\n"
     "\n"},
    {"info web1", "GET /v1/protections/web1", "", PROTECTION,
     "Domain:         web1\n"
     "UUID:           3f0c1a52-8b1e-4c2d-9d7e-0a1b2c3d4e5f\n"
     "Role:           source\n"
     "State:          protected\n"
     "Health:         warning\n"
     "Peer:           kvm2\n"
     "Store:          default\n"
     "Policy:         gold\n"
     "Generation:     abc\n"
     "RPO:            0:00:04\n"
     "Last RP:        17, 2026-11-23 02:14:17 +0100, crash\n"
     "Root:           00ff\n"
     "Cycle:          resync, running, 46 %, started 2026-11-23 02:14:17 +0100 (3.2 s), 2.00 MiB "
     "read, 1.00 KiB sent\n"
     "Last cycle:     failed, started 2026-11-23 02:14:17 +0100: peer is away\n"
     "Next cycle:     -\n"
     "Job:            -\n"
     "Reason:         'web1' is late\n"
     "  Code:         rpo-over-target\n"
     "  Since:        2026-11-23 02:14:17 +0100\n"
     "  Action:       Wait.\n"},
    {"pause 'web 1%x?'", "POST /v1/protections/web%201%25x%3F/pause", "{}", PROTECTION,
     "Protection of domain 'web 1%x?' paused\n"},
    {"resume web1", "POST /v1/protections/web1/resume", "{}", PROTECTION,
     "Protection of domain 'web1' resumed\n"},
    {"rp-list web1", "GET /v1/protections/web1/recovery-points", "",
     "[{\"number\":17,\"time\":\"2026-11-23T01:14:17Z\",\"consistency\":\"app\",\"root\":"
     "\"00112233445566778899\",\"bytes\":65536,\"pinned\":false}]",
     " Number   Time                        Consistency   Size        Pinned   Verified   Damaged  "
     " "
     "Root\n"
     "---------------------------------------------------------------------------------------------"
     "---"
     "----------------\n"
     " 17       2026-11-23 02:14:17 +0100   app           64.00 KiB   no       -          -        "
     " "
     "0011223344556677\n"
     "\n"},
    {"rp-info web1 17", "GET /v1/protections/web1/recovery-points/17", "", "{\"number\":17}",
     "Number:         17\n"
     "Time:           -\n"
     "Consistency:    -\n"
     "Size:           -\n"
     "Pinned:         -\n"
     "Verified:       -\n"
     "Damaged:        -\n"
     "Root:           -\n"},
    {"job-list web1 --all", "GET /v1/jobs?domain=web1&all=1", "", "[" COMPLETED_JOB "]",
     " Id   Kind      Domain   State       Progress   Started                     Ended\n"
     "-----------------------------------------------------------------------------------\n"
     " 17   protect   web1     completed   100 %      2026-11-23 02:14:17 +0100   -\n"
     "\n"
     "Scheduled cycles are no jobs: see 'virt-replica info web1'\n"},
    {"job-info 17", "GET /v1/jobs/17", "", COMPLETED_JOB,
     "Id:             17\n"
     "Kind:           protect\n"
     "Domain:         web1\n"
     "State:          completed\n"
     "Progress:       100 %\n"
     "Read:           50 B\n"
     "Sent:           1 B\n"
     "Started:        2026-11-23 02:14:17 +0100\n"
     "Ended:          -\n"
     "\n"
     " Step      State       Seconds\n"
     "--------------------------------\n"
     " check     completed   0.4\n"
     " initial   completed   4.0\n"
     "\n"},
    {"job-wait 17", "GET /v1/jobs/17?wait=1", "", COMPLETED_JOB, "Job 17 completed\n"},
    {"job-cancel 17", "POST /v1/jobs/17/cancel", "{}", "{}", "Job 17 is asked to stop\n"},
};

static void
test_commands(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(Daemon) daemon = daemon_new();
        g_autofree char *json_line = g_strdup_printf("%s --json", good[i].line);
        g_autofree char *logged = g_strdup_printf("%s %s\n", good[i].request, good[i].body);

        g_test_message("%s", good[i].line);
        answer(daemon, good[i].request, 200, good[i].reply);
        {
            g_auto(Run) run = run_line(daemon, good[i].line);
            g_auto(Run) json = run_line(daemon, json_line);
            g_autoptr(JsonNode) value = parse_json(json.out);
            g_autofree char *again = json_to_string(value, FALSE);

            g_assert_cmpint(run.status, ==, 0);
            g_assert_cmpstr(run.out, ==, good[i].out);
            g_assert_cmpint(json.status, ==, 0);
            g_assert_cmpstr(json.err, ==, "");
            if (*good[i].reply) {
                g_autoptr(JsonNode) expected = json_from_string(good[i].reply, NULL);

                g_assert_true(json_node_equal(expected, value));
            } else {
                g_assert_cmpstr(again, ==, "{}");
            }
        }
        assert_logged(daemon, logged);
    }
}

/* Long commands: {line, request, body, sentence} */
static const char *const long_commands[][4] = {
    {"protect web1 --to kvm2 --store fast --policy gold --exclude-disk vdb", "POST /v1/protections",
     "{\"domain\":\"web1\",\"peer\":\"kvm2\",\"store\":\"fast\",\"exclude\":[\"vdb\"],"
     "\"policy\":\"gold\"}",
     "Domain 'web1' is protected on 'kvm2'\n"},
    {"sync web1 --quiesce", "POST /v1/protections/web1/sync", "{\"quiesce\":true}",
     "Domain 'web1' has a new recovery point, app-consistent\n"},
    {"unprotect web1 --keep-replica", "POST /v1/protections/web1/unprotect",
     "{\"keep_replica\":true,\"force\":false}", "Domain 'web1' is no longer protected\n"},
    {"unprotect web1 --force", "POST /v1/protections/web1/unprotect",
     "{\"keep_replica\":false,\"force\":true}", "Domain 'web1' is no longer protected\n"},
    {"failover web1 --planned --no-verify", "POST /v1/protections/web1/failover",
     "{\"mode\":\"planned\",\"force\":false,\"no_verify\":true,\"reverse\":true}",
     "Domain 'web1' failed over\n"},
    {"verify web1 --rp 17", "POST /v1/protections/web1/verify", "{\"number\":17}",
     "Domain 'web1': recovery point - is good\n"
     "Compared: - in - layers with the digests of their commit\n"},
    {"failover web1 --planned --no-reverse", "POST /v1/protections/web1/failover",
     "{\"mode\":\"planned\",\"force\":false,\"reverse\":false}", "Domain 'web1' failed over\n"},
};

static void
test_long_commands(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(long_commands); i++) {
        g_autoptr(Daemon) daemon = daemon_new();
        g_autofree char *logged =
            g_strdup_printf("%s %s\n", long_commands[i][1], long_commands[i][2]);
        g_autofree char *detach = g_strdup_printf("%s --detach", long_commands[i][0]);
        g_autofree char *detach_json = g_strdup_printf("%s --json", detach);
        g_autofree char *json_line = g_strdup_printf("--json %s --verbose", long_commands[i][0]);
        g_autofree char *quiet = g_strdup_printf("%s -q", long_commands[i][0]);

        answer(daemon, long_commands[i][1], 202, "{\"job\":17}");
        answer(daemon, "GET /v1/jobs/17?wait=1", 200, RUNNING_JOB);
        answer(daemon, "GET /v1/jobs/17?wait=1", 200, COMPLETED_JOB);
        {
            g_auto(Run) run = run_line(daemon, long_commands[i][0]);
            g_auto(Run) id = run_line(daemon, detach);
            g_auto(Run) id_json = run_line(daemon, detach_json);
            g_auto(Run) json = run_line(daemon, json_line);
            g_auto(Run) silent = run_line(daemon, quiet);
            g_autoptr(JsonNode) value = parse_json(json.out);

            g_assert_cmpint(run.status, ==, 0);
            g_assert_cmpstr(run.out, ==, long_commands[i][3]);
            g_assert_cmpstr(run.err, ==, "");
            g_assert_cmpstr(id.out, ==, "17\n");
            g_assert_cmpstr(id_json.out, ==, "{\"job\":17}\n");
            assert_has(json.err, "web1 check: completed after 0.4 s\n");
            g_assert_cmpint(json_object_get_int_member(json_node_get_object(value), "id"), ==, 17);
            g_assert_cmpstr(silent.out, ==, "");
        }
        assert_logged(daemon, logged);
    }
}

static void
test_failover_keys(void)
{
    static const char job[] = "{\"id\":17,\"state\":\"completed\",\"domain\":\"web1\","
                              "\"downtime_seconds\":3.25,"
                              "\"root_source\":\"aa\",\"root_target\":\"aa\"}";
    g_autoptr(Daemon) daemon = daemon_new();

    answer(daemon, "POST /v1/protections/web1/failover", 202, "{\"job\":17}");
    answer(daemon, "GET /v1/jobs/17?wait=1", 200, job);
    {
        g_auto(Run) run = run_line(daemon, "failover web1 --planned");
        g_auto(Run) json = run_line(daemon, "failover web1 --planned --json");
        g_autoptr(JsonNode) value = parse_json(json.out);
        JsonObject *object = json_node_get_object(value);

        g_assert_cmpstr(run.out, ==,
                        "Domain 'web1' failed over\nDowntime: 3.2 s\n"
                        "Roots: equal (aa), computed by both hosts at the commit\n");
        g_assert_cmpfloat(json_object_get_double_member(object, "downtime_seconds"), ==, 3.25);
        g_assert_cmpstr(json_object_get_string_member(object, "root_source"), ==, "aa");
        g_assert_cmpstr(json_object_get_string_member(object, "root_target"), ==, "aa");
    }
}

static void
test_exit_by_kind(void)
{
    static const struct {
        const char *kind;
        guint http;
        int status;
    } kinds[] = {
        {"invalid", 400, 2},   {"not-found", 404, 4}, {"refused", 409, 5},     {"conflict", 409, 5},
        {"transient", 503, 1}, {"auth", 403, 7},      {"no-space", 507, 1},    {"timeout", 504, 3},
        {"corrupt", 500, 1},   {"internal", 500, 1},  {"unreachable", 502, 6}, {"odd", 500, 1},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(Daemon) daemon = daemon_new();
        g_autofree char *error = g_strdup_printf(
            "{\"code\":\"a-slug\",\"kind\":\"%s\",\"message\":\"it \\u001b[31mbroke\","
            "\"action\":\"Mend it.\"}",
            kinds[i].kind);
        g_autofree char *reply = g_strdup_printf("{\"error\":%s}", error);
        g_autofree char *job =
            g_strdup_printf("{\"id\":3,\"state\":\"failed\",\"error\":%s}", error);

        answer(daemon, "GET /v1/protections/web1", kinds[i].http, reply);
        answer(daemon, "GET /v1/jobs/3?wait=1", 200, job);
        {
            g_auto(Run) run = run_line(daemon, "info web1");
            g_auto(Run) json = run_line(daemon, "info web1 --json");
            g_auto(Run) failed = run_line(daemon, "job-wait 3");
            g_autoptr(JsonNode) value = parse_json(json.out);
            JsonObject *object =
                json_object_get_object_member(json_node_get_object(value), "error");

            g_test_message("%s", kinds[i].kind);
            g_assert_cmpint(run.status, ==, kinds[i].status);
            g_assert_cmpint(json.status, ==, kinds[i].status);
            g_assert_cmpint(failed.status, ==, kinds[i].status);
            g_assert_cmpstr(run.out, ==, "");
            g_assert_cmpstr(run.err, ==, "error: it \\x1b[31mbroke\n  Mend it.\n");
            g_assert_cmpstr(json.err, ==, run.err);
            g_assert_cmpstr(failed.err, ==, run.err);
            g_assert_cmpstr(json_object_get_string_member(object, "code"), ==, "a-slug");
            g_assert_cmpstr(json_object_get_string_member(object, "action"), ==, "Mend it.");
        }
    }
}

static void
test_check_refused(void)
{
    g_autoptr(Daemon) daemon = daemon_new();

    answer(daemon, "POST /v1/check", 200, CHECK_BAD);
    {
        g_auto(Run) run = run_line(daemon, "check web1 --to kvm2");
        g_auto(Run) json = run_line(daemon, "check web1 --to kvm2 --json");
        g_autoptr(JsonNode) value = parse_json(json.out);
        g_autoptr(JsonNode) expected = json_from_string(CHECK_BAD, NULL);

        g_assert_cmpint(run.status, ==, 5);
        g_assert_cmpint(json.status, ==, 5);
        g_assert_true(json_node_equal(value, expected));
        g_assert_cmpstr(run.out, ==,
                        " Severity   Code            Message\n"
                        "-----------------------------------------------\n"
                        " error      disk-is-raw     disk 'vdb' is raw\n"
                        " warning    cdrom-ejected   sda is left out\n"
                        "\n"
                        " disk-is-raw: Convert it.\n");
        g_assert_cmpstr(run.err, ==, "error: domain 'web1' cannot be protected on 'kvm2'\n");
    }
}

static void
test_no_daemon(void)
{
    g_auto(Run) run = run_line(NULL, "list");
    g_auto(Run) wait = run_line(NULL, "job-wait 3");
    g_auto(Run) json = run_line(NULL, "protect web1 --to kvm2 --json");
    g_autoptr(JsonNode) value = parse_json(json.out);

    g_assert_cmpint(run.status, ==, 6);
    g_assert_cmpint(wait.status, ==, 6);
    g_assert_cmpint(json.status, ==, 6);
    assert_has(run.err, "error: ");
    g_assert_true(json_object_has_member(json_node_get_object(value), "error"));
}

static void
test_cancelled(void)
{
    g_autoptr(Daemon) daemon = daemon_new();

    answer(daemon, "GET /v1/jobs/3?wait=1", 200,
           "{\"id\":3,\"state\":\"cancelled\",\"error\":null}");
    {
        g_auto(Run) run = run_line(daemon, "job-wait 3");

        g_assert_cmpint(run.status, ==, 1);
        g_assert_cmpstr(run.err, ==, "error: job 3 was cancelled\n");
    }
}

static void
test_timeout(void)
{
    g_autoptr(Daemon) daemon = daemon_new();

    answer(daemon, "POST /v1/protections/web1/sync", 202, "{\"job\":17}");
    answer(daemon, "GET /v1/jobs/17?wait=0", 200, RUNNING_JOB);
    {
        g_auto(Run) run = run_line(daemon, "sync web1 --timeout 0");
        g_auto(Run) json = run_line(daemon, "sync web1 --timeout 0 --json");
        g_autoptr(JsonNode) value = parse_json(json.out);

        g_assert_nonnull(value);
        g_assert_cmpint(run.status, ==, 3);
        g_assert_cmpstr(run.err, ==,
                        "error: timed out waiting\n  job 17 goes on: virt-replica job-info 17\n");
        g_assert_cmpint(json.status, ==, 3);
    }
}

static void
test_interrupt(void)
{
    g_autoptr(Daemon) daemon = daemon_new();

    answer(daemon, "POST /v1/protections/web1/sync", 202, "{\"job\":17}");
    answer(daemon, "GET /v1/jobs/17?wait=1", 200, RUNNING_JOB);
    queue_answer(daemon, "GET /v1/jobs/17?wait=1", (Answer){200, RUNNING_JOB, TRUE, FALSE});
    {
        g_auto(Run) run = run_line(daemon, "sync web1");
        struct sigaction now;

        g_assert_cmpint(run.status, ==, 3);
        g_assert_cmpstr(run.err, ==, "job 17 goes on: virt-replica job-info 17\n");
        g_assert_cmpstr(run.out, ==, "");
        g_assert_cmpint(sigaction(SIGINT, NULL, &now), ==, 0);
        g_assert_true(now.sa_handler == SIG_DFL);
    }
}

/* A job that ends while the interrupt arrives has ended. */
static void
test_interrupt_at_end(void)
{
    g_autoptr(Daemon) daemon = daemon_new();

    answer(daemon, "POST /v1/protections/web1/sync", 202, "{\"job\":17}");
    queue_answer(daemon, "GET /v1/jobs/17?wait=1", (Answer){200, COMPLETED_JOB, TRUE, FALSE});
    {
        g_auto(Run) run = run_line(daemon, "sync web1");

        g_assert_cmpint(run.status, ==, 0);
    }
}

static void
test_bad_answers(void)
{
    static const char *const replies[] = {
        "[]",           "{}",
        "null",         "{\"job\":\"x\"}",
        "[1,\"a\",{}]", "{\"last_rp\":3,\"reasons\":{},\"name\":[1]}"};
    static const char *const lines[] = {"list",        "info web1",  "peer-list",    "status",
                                        "job-list",    "job-info 1", "rp-list web1", "store-list",
                                        "policy-list", "netmap-list"};
    static const char *const requests[] = {"GET /v1/protections",
                                           "GET /v1/protections/web1",
                                           "GET /v1/peers",
                                           "GET /v1/status",
                                           "GET /v1/jobs",
                                           "GET /v1/jobs/1",
                                           "GET /v1/protections/web1/recovery-points",
                                           "GET /v1/stores",
                                           "GET /v1/policies",
                                           "GET /v1/netmaps"};

    for (gsize i = 0; i < G_N_ELEMENTS(replies); i++) {
        g_autoptr(Daemon) daemon = daemon_new();

        for (gsize j = 0; j < G_N_ELEMENTS(lines); j++)
            answer(daemon, requests[j], 200, replies[i]);
        answer(daemon, "POST /v1/protections/web1/sync", 202, replies[i]);
        for (gsize j = 0; j < G_N_ELEMENTS(lines); j++) {
            g_auto(Run) run = run_line(daemon, lines[j]);

            g_assert_cmpint(run.status, ==, 0);
        }
        {
            g_auto(Run) run = run_line(daemon, "sync web1");

            g_assert_cmpint(run.status, ==, 1);
            assert_has(run.err, "did not say which job");
        }
    }
}

static void
test_files(void)
{
    g_autoptr(Daemon) daemon = daemon_new();
    g_autofree char *policy = g_build_filename(daemon->dir, "gold.conf", NULL);
    g_autofree char *token = g_build_filename(daemon->dir, "token", NULL);
    g_autofree char *policy_line = g_strdup_printf("policy-define %s", policy);
    g_autofree char *token_line = g_strdup_printf("peer-join --token-file %s --name a", token);
    g_autofree char *logged = g_strdup_printf(
        "PUT /v1/policies/gold {\"text\":\"[policy]\\ninterval=5s\\n\",\"file\":\"%s\"}", policy);
    g_autofree char *large = g_strnfill(65 * 1024, '#');

    g_assert_true(g_file_set_contents(policy, "[policy]\ninterval=5s\n", -1, NULL));
    g_assert_true(g_file_set_contents(token, "  vr1.abc\n", -1, NULL));
    answer(daemon, "PUT /v1/policies/gold", 200, "{}");
    answer(daemon, "POST /v1/peers/join", 200, "{\"name\":\"kvm1\"}");
    {
        g_auto(Run) defined = run_line(daemon, policy_line);
        g_auto(Run) joined = run_line(daemon, token_line);

        g_assert_cmpint(defined.status, ==, 0);
        g_assert_true(g_str_has_prefix(defined.out, "Policy 'gold' defined from "));
        g_assert_cmpstr(joined.out, ==, "Paired with 'kvm1'\n");
    }
    assert_logged(daemon, logged);
    assert_logged(daemon, "POST /v1/peers/join {\"token\":\"vr1.abc\",\"name\":\"a\"}");
    g_assert_true(g_file_set_contents(policy, large, -1, NULL));
    {
        g_auto(Run) refused = run_line(daemon, policy_line);

        g_assert_cmpint(refused.status, ==, 2);
        assert_has(refused.err, "is larger than 65536 bytes");
    }
    g_unlink(policy);
    g_unlink(token);
}

/* The daemon goes away between two polls and comes back. */
static void
test_restart(void)
{
    g_autoptr(Daemon) daemon = daemon_new();

    answer(daemon, "POST /v1/protections/web1/sync", 202, "{\"job\":17}");
    answer(daemon, "GET /v1/jobs/17?wait=1", 200, RUNNING_JOB);
    queue_answer(daemon, "GET /v1/jobs/17?wait=1", (Answer){0, "", FALSE, TRUE});
    answer(daemon, "GET /v1/jobs/17?wait=1", 200, COMPLETED_JOB);
    {
        g_auto(Run) run = run_line(daemon, "sync web1");

        g_assert_cmpint(run.status, ==, 0);
        g_assert_cmpstr(run.out, ==, "Domain 'web1' has a new recovery point, app-consistent\n");
    }
}

static void
test_full_device(void)
{
    char *argv[] = {(char *) "virt-replica", (char *) "help", NULL};
    FILE *full = fopen("/dev/full", "w");
    char *text = NULL;
    gsize length = 0;
    FILE *err = open_memstream(&text, &length);

    if (!full) {
        g_test_skip("no /dev/full");
    } else {
        g_assert_cmpint(vr_cli_run(argv, NULL, NULL, full, err, FALSE), ==, 1);
        fclose(full);
    }
    fclose(err);
    if (full)
        assert_has(text, "cannot write to standard output");
    free(text);
}

int
main(int argc, char **argv)
{
    g_setenv("TZ", "Europe/Berlin", TRUE);
    signal(SIGINT, SIG_DFL); /* ignored under nohup */
    vr_http_global_init();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli/usage-errors", test_usage_errors);
    g_test_add_func("/cli/impossible-names", test_impossible_names);
    g_test_add_func("/cli/uuid-case", test_uuid_case);
    g_test_add_func("/cli/shell", test_shell);
    g_test_add_func("/cli/not-utf8", test_not_utf8);
    g_test_add_func("/cli/parse", test_parse);
    g_test_add_func("/cli/parse-mixed", test_parse_mixed);
    g_test_add_func("/cli/help", test_help);
    g_test_add_func("/cli/help-text", test_help_text);
    g_test_add_func("/cli/version", test_version);
    g_test_add_func("/cli/formats", test_formats);
    g_test_add_func("/cli/table", test_table);
    g_test_add_func("/cli/progress", test_progress);
    g_test_add_func("/cli/commands", test_commands);
    g_test_add_func("/cli/long-commands", test_long_commands);
    g_test_add_func("/cli/failover-keys", test_failover_keys);
    g_test_add_func("/cli/exit-by-kind", test_exit_by_kind);
    g_test_add_func("/cli/check-refused", test_check_refused);
    g_test_add_func("/cli/no-daemon", test_no_daemon);
    g_test_add_func("/cli/cancelled", test_cancelled);
    g_test_add_func("/cli/timeout", test_timeout);
    g_test_add_func("/cli/interrupt", test_interrupt);
    g_test_add_func("/cli/interrupt-at-end", test_interrupt_at_end);
    g_test_add_func("/cli/bad-answers", test_bad_answers);
    g_test_add_func("/cli/files", test_files);
    g_test_add_func("/cli/restart", test_restart);
    g_test_add_func("/cli/full-device", test_full_device);
    g_test_add_func("/cli/json-escape", test_json_escape);
    return g_test_run();
}
