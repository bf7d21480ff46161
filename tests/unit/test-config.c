/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "plugin/config.h"
#include "policies/error.h"
#include "storage/util/file_util.h"

typedef struct {
    char *dir;
    char *file;
} Fixture;

static void
set_up(Fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("vr-config-XXXXXX", NULL);
    f->file = g_build_filename(f->dir, "virt-replicad.conf", NULL);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_free(f->file);
    g_free(f->dir);
}

static VrConfig *
load(Fixture *f, const char *text, GError **error)
{
    g_assert_true(g_file_set_contents(f->file, text, -1, NULL));
    return vr_config_load(f->file, error);
}

static void
test_every_key(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrConfig) config = load(
        f,
        "[daemon]\nname=kvm7\nlisten=127.0.0.1:1\naddress=kvm7:2\nlibvirt-uri=test:///default\n"
        "state-dir=/s\nruntime-dir=/r\nworkers=4\nmax-transfers=64\nverify-rate=5MiB/"
        "s\nscrub-window=Mon-Fri 18:30-06:00\nlook-interval=5s\nlog-level=debug\n",
        &error);
    g_autofree char *socket = NULL;

    g_assert_no_error(error);
    socket = vr_config_socket_path(config);
    g_assert_cmpstr(config->config_dir, ==, f->dir);
    g_assert_cmpstr(config->name, ==, "kvm7");
    g_assert_cmpstr(config->listen, ==, "127.0.0.1:1");
    g_assert_cmpstr(config->address, ==, "kvm7:2");
    g_assert_cmpstr(config->libvirt_uri, ==, "test:///default");
    g_assert_cmpstr(config->state_dir, ==, "/s");
    g_assert_cmpstr(socket, ==, "/r/virt-replica.sock");
    g_assert_cmpuint(config->workers, ==, 4);
    g_assert_cmpuint(config->max_transfers, ==, 64);
    g_assert_cmpuint(config->verify_rate, ==, 5 << 20);
    g_assert_cmpuint(config->scrub_window.days, ==, 0x1f);
    g_assert_cmpuint(config->scrub_window.start, ==, 18 * 60 + 30);
    g_assert_cmpuint(config->scrub_window.end, ==, 6 * 60);
    g_assert_cmpint(config->look_interval_us, ==, 5 * G_USEC_PER_SEC);
    g_assert_cmpuint(config->log_level, ==, 4);
}

static void
test_refused(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *text;
        const char *says;
    } bad[] = {
        {"[daemon]\nworkers=0\n", ":2"},
        {"[daemon]\nworkers=5\n", "workers"},
        {"[daemon]\n\nmax-transfers=many\n", ":3"},
        {"[daemon]\nlog-level=loud\n", "log-level"},
        {"[daemon]\nwrokers=2\n", "workers"},
        {"[demon]\nworkers=2\n", "demon"},
        {"workers=2\n", ":1"},
        {"[daemon]\nname=../x\n", ":2: name: '../x' is not a name"},
        {"[daemon]\nname=\n", ":2: name: '' is not a name"},
        {"[daemon]\n\nlisten=garbage\n", ":3: listen: 'garbage' is not an address and a port"},
        {"[daemon]\nlisten=1.2.3.4\n", ":2: listen: "},
        {"[daemon]\nlisten=1.2.3.4:99999\n", ":2: listen: "},
        {"[daemon]\naddress=:1\n", ":2: address: ':1' is not a host and a port"},
        {"[daemon]\nstate-dir=here\n", ":2: state-dir: 'here' is not an absolute path"},
        {"[daemon]\nruntime-dir=\n", ":2: runtime-dir: '' is not an absolute path"},
        {"[daemon]\nlibvirt-uri=\n", ":2: libvirt-uri: '' is not a libvirt URI"},
        {"[daemon]\nworkers=1\nworkers=2\n", ":3"},
        {"[daemon]\nscrub-window=at night\n", ":2: scrub-window: 'at night' is not a window"},
        {"[daemon]\nscrub-window=18:30-25:00\n", "scrub-window"},
        {"[daemon]\nlook-interval=0s\n", "look-interval"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(load(f, bad[i].text, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
        g_assert_nonnull(strstr(error->message, f->file));
        g_assert_nonnull(strstr(error->message, bad[i].says));
    }
}

static void
test_missing(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(vr_config_load(f->file, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, f->file));
}

/* The installed file shows every key with its default, as a comment. */
static void
test_shipped(Fixture *f, gconstpointer data)
{
    g_autofree char *path =
        g_build_filename(VR_TEST_DATA, "..", "..", "data", "virt-replicad.conf", NULL);
    g_autofree char *text = NULL;
    g_autofree char *shown = NULL;
    g_autoptr(GRegex) regex = g_regex_new("^#(?=[a-z-]+ = )", G_REGEX_MULTILINE, 0, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(VrConfig) as_is = NULL;
    g_autoptr(VrConfig) spelled_out = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    as_is = load(f, text, &error);
    g_assert_no_error(error);
    shown = g_regex_replace_literal(regex, text, -1, 0, "", 0, NULL);
    spelled_out = load(f, shown, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(spelled_out->listen, ==, as_is->listen);
    g_assert_cmpstr(spelled_out->libvirt_uri, ==, as_is->libvirt_uri);
    g_assert_cmpstr(spelled_out->state_dir, ==, as_is->state_dir);
    g_assert_cmpstr(spelled_out->runtime_dir, ==, as_is->runtime_dir);
    g_assert_cmpuint(spelled_out->workers, ==, as_is->workers);
    g_assert_cmpuint(spelled_out->max_transfers, ==, as_is->max_transfers);
    g_assert_cmpuint(spelled_out->verify_rate, ==, as_is->verify_rate);
    g_assert_cmpmem(&spelled_out->scrub_window, sizeof(VrWindow), &as_is->scrub_window,
                    sizeof(VrWindow));
    g_assert_cmpint(spelled_out->look_interval_us, ==, as_is->look_interval_us);
    g_assert_cmpuint(spelled_out->log_level, ==, as_is->log_level);
    g_assert_null(as_is->address);
    g_assert_nonnull(spelled_out->address);
}

#define ADD(name, function) g_test_add("/config/" name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("every-key", test_every_key);
    ADD("refused", test_refused);
    ADD("missing", test_missing);
    ADD("shipped", test_shipped);
    return g_test_run();
}
