/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "plugin/hook/hook_rule.h"
#include "policies/fence_record.h"

#define MINE "11111111-2222-3333-4444-555555555555"
#define OTHER "99999999-2222-3333-4444-555555555555"
#define GENERATION "0123456789abcdef0123456789abcdef"

static const char xml[] =
    "<domain type='kvm' id='1'>\n  <name>web</name>\n  <uuid>" MINE "</uuid>\n</domain>\n";

typedef struct {
    char *root;
    char *dir; /* fence directory */
    char *socket;
    VrHookPaths paths;
} Fixture;

static void
set_up(Fixture *f, gconstpointer data)
{
    f->root = g_dir_make_tmp("vr-hook-XXXXXX", NULL);
    f->dir = g_build_filename(f->root, "fence", NULL);
    f->socket = g_build_filename(f->root, "hook.sock", NULL);
    g_assert_cmpint(g_mkdir(f->dir, 0700), ==, 0);
    f->paths = (VrHookPaths){f->dir, f->socket};
}

static void
remove_all(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        if (g_file_test(child, G_FILE_TEST_IS_DIR) && !g_file_test(child, G_FILE_TEST_IS_SYMLINK))
            remove_all(child);
        else
            g_assert_cmpint(g_unlink(child), ==, 0);
    }
    g_assert_cmpint(g_rmdir(path), ==, 0);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    remove_all(f->root);
    g_free(f->root);
    g_free(f->dir);
    g_free(f->socket);
}

static void
put(Fixture *f, const char *name, const char *text, gssize length)
{
    g_autofree char *path = g_build_filename(f->dir, name, NULL);

    g_assert_true(g_file_set_contents(path, text, length, NULL));
}

static void
put_fence(Fixture *f, const char *uuid, VrFenceRecordState state, const char *message)
{
    VrFenceRecord record = {.state = state,
                            .peer = (char *) "siteb",
                            .since_us = G_GINT64_CONSTANT(1795396571942000),
                            .generation = (char *) GENERATION,
                            .message = (char *) message};
    g_autofree char *text = vr_fence_record_to_text(&record);

    put(f, uuid, text, -1);
}

static int
run_as(Fixture *f, const char *name, const char *op, const char *text, gsize length, char **message)
{
    const char *argv[] = {"hook", name, op, "begin", "-", NULL};

    return vr_hook_run(&f->paths, 5, argv, text, length, message);
}

static int
run(Fixture *f, const char *op)
{
    return run_as(f, "web", op, xml, strlen(xml), NULL);
}

static const char *const harmless_ops[] = {
    "reconnect", "migrate", "start",   "started",  "stopped", "release",
    "attach",    "",        "Prepare", "prepare ", "unknown",
};

/* Whatever lies in the fence directory, only prepare and restore of our domain can be refused. */
static void
assert_answers(Fixture *f, int want)
{
    g_autofree char *other = g_strdup_printf("<domain><uuid>%s</uuid></domain>", OTHER);

    g_assert_cmpint(run(f, "prepare"), ==, want);
    g_assert_cmpint(run(f, "restore"), ==, want);
    for (gsize i = 0; i < G_N_ELEMENTS(harmless_ops); i++)
        g_assert_cmpint(run(f, harmless_ops[i]), ==, 0);
    g_assert_cmpint(run_as(f, "web", "prepare", other, strlen(other), NULL), ==, 0);
    g_assert_cmpint(run_as(f, "web", "prepare", "", 0, NULL), ==, 0);
    g_assert_cmpint(run_as(f, "web", "prepare", NULL, 0, NULL), ==, 0);
}

static void
test_owner(Fixture *f, gconstpointer data)
{
    assert_answers(f, 0);
    put_fence(f, OTHER, VR_FENCE_RECORD_REPLICA, NULL);
    g_assert_cmpint(run(f, "prepare"), ==, 0);
}

static void
test_failed_over(Fixture *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    put_fence(f, MINE, VR_FENCE_RECORD_FAILED_OVER, NULL);
    assert_answers(f, 1);
    g_assert_cmpint(run_as(f, "web", "prepare", xml, strlen(xml), &message), ==, 1);
    g_assert_cmpstr(message, ==,
                    "domain 'web' was failed over to 'siteb' (at 2026-11-23T01:16:11.942Z) and "
                    "must not run here; run 'virt-replica info web'");
}

static void
test_replica(Fixture *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    put_fence(f, MINE, VR_FENCE_RECORD_REPLICA, "Ask\nthe # operator.");
    assert_answers(f, 1);
    g_assert_cmpint(run_as(f, "web\x1b", "restore", xml, strlen(xml), &message), ==, 1);
    g_assert_nonnull(strstr(message, "domain 'web?' is the replica of the one on 'siteb'"));
    g_assert_null(strpbrk(message, "\n\x1b"));
}

static void
test_missing_directory(Fixture *f, gconstpointer data)
{
    g_assert_cmpint(g_rmdir(f->dir), ==, 0);
    assert_answers(f, 0);
    g_assert_true(g_file_set_contents(f->dir, "a file", -1, NULL));
    assert_answers(f, 0);
    g_assert_cmpint(g_unlink(f->dir), ==, 0);
    g_assert_cmpint(g_mkdir(f->dir, 0700), ==, 0);
}

static void
test_unreadable(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, MINE, NULL);
    g_autofree char *message = NULL;

    /* Root reads through mode 0, so what cannot be read is a dangling link, a FIFO, a directory. */
    g_assert_cmpint(symlink("/nonexistent", path), ==, 0);
    assert_answers(f, 1);
    g_assert_cmpint(run_as(f, "web", "prepare", xml, strlen(xml), &message), ==, 1);
    g_assert_nonnull(strstr(message, "cannot be used"));
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    assert_answers(f, 1);
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    assert_answers(f, 1);
    g_assert_cmpint(g_rmdir(path), ==, 0);
    put_fence(f, MINE, VR_FENCE_RECORD_REPLICA, NULL);
    g_assert_cmpint(g_chmod(path, 0), ==, 0);
    assert_answers(f, 1);
}

static void
test_corrupt(Fixture *f, gconstpointer data)
{
    static const char *const texts[] = {
        "",
        "garbage",
        "[fence]\n",
        "[fence]\nstate = owner\n",
        "[fence]\nstate = replica\npeer = b\nsince = 2026-11-23T01:16:11Z\n",
        "[fence]\nstate = replica\npeer = ../b\nsince = 2026-11-23T01:16:11Z\ngeneration "
        "= " GENERATION "\n",
        "[fence]\npeer = b\nsince = 2026-11-23T01:16:11Z\ngeneration = " GENERATION "\n",
    };
    g_autofree char *huge = g_strnfill(20000, '#');

    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        put(f, MINE, texts[i], -1);
        assert_answers(f, 1);
    }
    put(f, MINE, "[fence]\0x", 9);
    assert_answers(f, 1);
    put(f, MINE, huge, -1);
    assert_answers(f, 1);
}

static void
test_few_arguments(Fixture *f, gconstpointer data)
{
    const char *argv[] = {"hook", "web", NULL};

    put_fence(f, MINE, VR_FENCE_RECORD_REPLICA, NULL);
    g_assert_cmpint(vr_hook_run(&f->paths, 0, argv, xml, strlen(xml), NULL), ==, 0);
    g_assert_cmpint(vr_hook_run(&f->paths, 1, argv, xml, strlen(xml), NULL), ==, 0);
    g_assert_cmpint(vr_hook_run(&f->paths, 2, argv, xml, strlen(xml), NULL), ==, 0);
}

static void
test_huge_stdin(Fixture *f, gconstpointer data)
{
    g_autofree char *filler = g_strnfill(5 * 1024 * 1024, 'x');
    g_autofree char *early =
        g_strdup_printf("<domain><uuid>%s</uuid><!--%s--></domain>", MINE, filler);
    g_autofree char *late =
        g_strdup_printf("<domain><!--%s--><uuid>%s</uuid></domain>", filler, MINE);

    put_fence(f, MINE, VR_FENCE_RECORD_REPLICA, NULL);
    g_assert_cmpint(run_as(f, "web", "prepare", early, strlen(early), NULL), ==, 1);
    g_assert_cmpint(run_as(f, "web", "prepare", late, strlen(late), NULL), ==, 0);
}

static void
test_find_uuid(void)
{
    static const struct {
        const char *xml;
        gboolean found;
    } rows[] = {
        {"<domain><uuid>" MINE "</uuid></domain>", TRUE},
        {"<?xml version='1.0'?>\n<!-- <domain><uuid>" OTHER "</uuid> -->\n<domain\n type=\"kvm\">"
         "<uuid >\n " MINE "\n</uuid></domain>",
         TRUE},
        {"<domain><metadata><uuid>" OTHER "</uuid></metadata><uuid>" MINE "</uuid></domain>", TRUE},
        {"<domain><name><![CDATA[<uuid>" OTHER "</uuid>]]></name><uuid>" MINE "</uuid></domain>",
         TRUE},
        {"<domain><!--<uuid>" OTHER "</uuid>--><os a='/>'/><a b='>'>\n</a><uuid>" MINE "</uuid>",
         TRUE},
        {"<domain><x:uuid>" OTHER "</x:uuid><uuidx>" OTHER "</uuidx><uuid>" MINE "</uuid>", TRUE},
        {"<domain><uuid/><uuid>" MINE "</uuid></domain>", TRUE},
        {"<domain><description>a &lt;uuid&gt;</description><uuid>" MINE "</uuid>", TRUE},
        {"<domain></domain><uuid>" MINE "</uuid>", FALSE},
        {"<network><uuid>" MINE "</uuid></network>", FALSE},
        {"<uuid>" MINE "</uuid>", FALSE},
        {"<!DOCTYPE d [<!ENTITY a 'b'>]><domain><uuid>" MINE "</uuid></domain>", FALSE},
        {"<domain><uuid>" MINE, FALSE},
        {"<domain><uuid>" MINE "0</uuid>", FALSE},
        {"<domain><uuid>../../etc/passwd</uuid>", FALSE},
        {"<domain><uuid></uuid>", FALSE},
        {"<domain a='><uuid>" MINE "</uuid>", FALSE},
        {"<domain><!--<uuid>" MINE "</uuid>", FALSE},
        {"</domain><domain><uuid>" MINE "</uuid>", FALSE},
        {"<", FALSE},
        {"<domain", FALSE},
        {"<domain>", FALSE},
        {"", FALSE},
    };
    char uuid[37];
    char upper[] = "<domain><uuid>AAAAAAAA-2222-3333-4444-555555555555</uuid></domain>";

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        /* A copy of its exact size, so that a sanitizer sees reads behind it. */
        gsize length = strlen(rows[i].xml);
        g_autofree char *copy = g_memdup2(rows[i].xml, length);

        g_assert_cmpint(vr_hook_find_uuid(copy, length, uuid), ==, rows[i].found);
        if (rows[i].found)
            g_assert_cmpstr(uuid, ==, MINE);
    }
    g_assert_true(vr_hook_find_uuid(upper, strlen(upper), uuid));
    g_assert_cmpstr(uuid, ==, "aaaaaaaa-2222-3333-4444-555555555555");
}

static void
test_find_uuid_random(void)
{
    static const char *const parts[] = {
        "<",  ">",  "/",  "<domain>", "<uuid>",    "</uuid>", MINE,     "<!--", "-->", "'",
        "\"", "<?", "?>", " ",        "<![CDATA[", "]]>",     "<a b='", "</a>", "<!"};

    for (guint run_number = 0; run_number < 50000; run_number++) {
        g_autoptr(GString) text = g_string_new(run_number % 2 ? "<domain>" : "");
        g_autofree char *copy = NULL;
        char uuid[37] = "";
        guint n = (guint) g_test_rand_int_range(0, 12);

        for (guint i = 0; i < n; i++)
            g_string_append(text, parts[g_test_rand_int_range(0, G_N_ELEMENTS(parts))]);
        copy = g_memdup2(text->str, text->len);
        if (vr_hook_find_uuid(copy, text->len, uuid))
            g_assert_cmpstr(uuid, ==, MINE);
    }
}

static void
test_canary(Fixture *f, gconstpointer data)
{
    g_autofree char *answer = g_build_filename(f->dir, VR_HOOK_CANARY_ANSWER, NULL);
    g_autofree char *text = NULL;
    g_autofree char *message = NULL;
    g_autofree char *huge = g_strnfill(1000, 'n');
    struct stat st;
    g_autoptr(GDir) dir = NULL;
    guint files = 0;

    g_assert_cmpint(run_as(f, VR_HOOK_CANARY_NAME, "prepare", "", 0, &message), ==, 1);
    g_assert_false(g_file_test(answer, G_FILE_TEST_EXISTS));
    put(f, VR_HOOK_CANARY_REQUEST, huge, -1);
    g_assert_cmpint(run_as(f, VR_HOOK_CANARY_NAME, "prepare", "", 0, NULL), ==, 1);
    g_assert_false(g_file_test(answer, G_FILE_TEST_EXISTS));
    put(f, VR_HOOK_CANARY_REQUEST, "nonce-1", -1);
    for (gsize i = 0; i < G_N_ELEMENTS(harmless_ops); i++)
        g_assert_cmpint(run_as(f, VR_HOOK_CANARY_NAME, harmless_ops[i], xml, strlen(xml), NULL), ==,
                        0);
    g_assert_false(g_file_test(answer, G_FILE_TEST_EXISTS));
    g_assert_cmpint(run_as(f, VR_HOOK_CANARY_NAME, "prepare", xml, strlen(xml), NULL), ==, 1);
    put(f, VR_HOOK_CANARY_REQUEST, "nonce-2", -1);
    g_assert_cmpint(run_as(f, VR_HOOK_CANARY_NAME, "prepare", xml, strlen(xml), NULL), ==, 1);
    g_assert_true(g_file_get_contents(answer, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "nonce-2");
    g_assert_cmpint(stat(answer, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    dir = g_dir_open(f->dir, 0, NULL);
    while (g_dir_read_name(dir))
        files++;
    g_assert_cmpuint(files, ==, 2);
    g_clear_pointer(&dir, g_dir_close);
    remove_all(f->dir);
    g_assert_cmpint(run_as(f, VR_HOOK_CANARY_NAME, "prepare", xml, strlen(xml), NULL), ==, 1);
    g_assert_cmpint(g_mkdir(f->dir, 0700), ==, 0);
}

static void
test_events(Fixture *f, gconstpointer data)
{
    static const char *const ops[] = {"started", "stopped", "release"};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_strlcpy(address.sun_path, f->socket, sizeof(address.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *) &address, sizeof(address)), ==, 0);
    for (gsize i = 0; i < G_N_ELEMENTS(ops); i++) {
        char line[200];
        g_autofree char *want = g_strdup_printf(MINE " %s web?", ops[i]);
        ssize_t n;

        g_assert_cmpint(run_as(f, "web\n", ops[i], xml, strlen(xml), NULL), ==, 0);
        n = recv(fd, line, sizeof(line) - 1, 0);
        g_assert_cmpint(n, >, 0);
        line[n] = '\0';
        g_assert_cmpstr(line, ==, want);
    }
    g_assert_cmpint(run(f, "prepare"), ==, 0);
    g_assert_cmpint(recv(fd, (char[200]){0}, 200, 0), >, 0);
    put_fence(f, MINE, VR_FENCE_RECORD_FAILED_OVER, NULL);
    g_assert_cmpint(run(f, "prepare"), ==, 1); /* refused: nobody gives way to it */
    g_assert_cmpint(recv(fd, (char[200]){0}, 200, 0), <, 0);
    for (guint i = 0; i < 5000; i++) /* nobody reads: full, never blocks */
        g_assert_cmpint(run(f, "started"), ==, 0);
    g_assert_cmpint(run(f, "reconnect"), ==, 0);
    close(fd);
    g_assert_cmpint(run(f, "started"), ==, 0);
}

static void
test_fence_record(void)
{
    VrFenceRecord record = {VR_FENCE_RECORD_FAILED_OVER, (char *) "siteb", 5000000,
                            (char *) GENERATION, (char *) "one\n[two] ;three"};
    g_autofree char *text = vr_fence_record_to_text(&record);
    g_autoptr(GError) error = NULL;
    g_autoptr(VrFenceRecord) back = vr_fence_record_parse("f", text, strlen(text), &error);

    g_assert_no_error(error);
    g_assert_cmpuint(back->state, ==, VR_FENCE_RECORD_FAILED_OVER);
    g_assert_cmpstr(back->peer, ==, "siteb");
    g_assert_cmpint(back->since_us, ==, 5000000);
    g_assert_cmpstr(back->generation, ==, GENERATION);
    g_assert_cmpstr(back->message, ==, "one [two]  three");
    record.message = NULL;
    g_free(text);
    text = vr_fence_record_to_text(&record);
    g_clear_pointer(&back, vr_fence_record_free);
    back = vr_fence_record_parse("f", text, strlen(text), &error);
    g_assert_no_error(error);
    g_assert_null(back->message);
}

#define ADD(name, func) g_test_add("/hook/" name, Fixture, NULL, set_up, func, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("owner", test_owner);
    ADD("failed-over", test_failed_over);
    ADD("replica", test_replica);
    ADD("missing-directory", test_missing_directory);
    ADD("unreadable", test_unreadable);
    ADD("corrupt", test_corrupt);
    ADD("few-arguments", test_few_arguments);
    ADD("huge-stdin", test_huge_stdin);
    ADD("canary", test_canary);
    ADD("events", test_events);
    g_test_add_func("/hook/find-uuid", test_find_uuid);
    g_test_add_func("/hook/find-uuid-random", test_find_uuid_random);
    g_test_add_func("/hook/fence-record", test_fence_record);
    return g_test_run();
}
