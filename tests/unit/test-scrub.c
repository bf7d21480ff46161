/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The threads that look after stored layers, on a real replica: nobody asks for anything here. */
#include "tests/unit/replica-fixture.h"

#include "plugin/loop.h"
#include "plugin/scrub.h"
#include "policies/said.h"
#include "storage/state/state_peer.h"
#include "storage/state/state_rp.h"

#define PEER "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SOON_US (10 * G_TIME_SPAN_SECOND)

typedef struct {
    Fixture target;
    VrApp app;
    VrConfig config;
    VrScrub *scrub;
} Host;

static void
add_row(Host *host)
{
    VrPeer peer = {(char *) PEER, (char *) "kvm1", (char *) "10.0.0.1:16540", 5, 0};
    g_autofree char *store = at(&host->target, "store");
    VrProtection row = {
        .uuid = (char *) UUID,
        .name = (char *) "web1",
        .role = VR_ROLE_TARGET,
        .peer = (char *) PEER,
        .store = (char *) "default",
        .policy = (char *) "default",
        .policy_text = (char *) "[policy]\nverify-interval=1min\n",
        .state = VR_PROTECTION_PROTECTED,
        .generation = (char *) "g",
        .exclude = (char *) "",
    };

    g_assert_true(vr_state_peer_put(host->app.state, &peer, NULL));
    g_assert_true(
        vr_state_store_put(host->app.state, &(VrStoreRow){(char *) "default", store}, NULL));
    g_assert_true(vr_state_protection_insert(host->app.state, &row, NULL));
}

/* Two recovery points of two disks, all of whose layers were read long ago. */
static void
set_up_host(Host *host, gconstpointer data)
{
    g_autofree char *manifests = NULL;

    set_up(&host->target, NULL);
    two_disks(&host->target);
    good_cycle(&host->target);
    write_randomly(&host->target, "vda", 4);
    write_randomly(&host->target, "vdb", 4);
    good_cycle(&host->target);
    g_clear_pointer(&host->target.replica, vr_replica_close);
    host->app.state = host->target.state;
    host->app.config = &host->config;
    host->config.scrub_window = VR_WINDOW_ALWAYS;
    host->config.look_interval_us = G_TIME_SPAN_HOUR;
    manifests = at(&host->target, "manifests");
    add_row(host);
    for (guint i = 0; i < 4; i++) {
        VrLayerCheck check = {.number = 1 + i % 2,
                              .disk = (char *) (i < 2 ? "vda" : "vdb"),
                              .state = VR_LAYER_GOOD,
                              .checked_us = 1};

        g_assert_true(vr_state_layer_check_put(host->app.state, UUID, &check, NULL));
    }
    host->app.replicas = vr_replicas_new(host->app.state, manifests);
}

static void
tear_down_host(Host *host, gconstpointer data)
{
    vr_scrub_stop(host->scrub);
    vr_replicas_free(host->app.replicas);
    tear_down(&host->target, NULL);
}

static VrLayerState
state_of(Host *host, guint64 number, const char *disk)
{
    g_autoptr(GPtrArray) checks = vr_state_layer_checks(host->app.state, UUID, NULL);

    for (guint i = 0; i < checks->len; i++) {
        const VrLayerCheck *check = checks->pdata[i];

        if (check->number == number && strcmp(check->disk, disk) == 0)
            return check->state;
    }
    return VR_LAYER_GOOD;
}

static gboolean
becomes(Host *host, guint64 number, const char *disk, VrLayerState state, gint64 within_us)
{
    gint64 until = g_get_monotonic_time() + within_us;

    while (state_of(host, number, disk) != state) {
        if (g_get_monotonic_time() > until)
            return FALSE;
        g_usleep(10000);
    }
    return TRUE;
}

/* The end of the file: data, no table. */
static void
flip_last(Host *host, guint64 number, const char *disk)
{
    g_autofree char *path =
        at(&host->target, "store/" UUID "/%s/%" G_GUINT64_FORMAT ".qcow2", disk, number);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    guint8 byte;

    g_assert_cmpint(fstat(fd, &st), ==, 0);
    for (off_t where = st.st_size - 4096; where >= 0; where -= 65536) {
        g_assert_cmpint(pread(fd, &byte, 1, where), ==, 1);
        if (byte == 0)
            continue;
        byte ^= 0x10;
        g_assert_cmpint(pwrite(fd, &byte, 1, where), ==, 1);
        break;
    }
    close(fd);
}

static void
test_flipped(Host *host, gconstpointer data)
{
    flip_last(host, 1, "vda");
    host->scrub = vr_scrub_start(&host->app);
    g_assert_true(becomes(host, 1, "vda", VR_LAYER_BAD, SOON_US));
    g_assert_cmpint(state_of(host, 2, "vda"), ==, VR_LAYER_GOOD);
}

static void
test_window(Host *host, gconstpointer data)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    guint minute = (guint) (g_date_time_get_hour(now) * 60 + g_date_time_get_minute(now));

    flip_last(host, 1, "vda");
    host->config.scrub_window =
        (VrWindow){0x7f, (guint16) ((minute + 120) % 1440), (guint16) ((minute + 180) % 1440)};
    host->scrub = vr_scrub_start(&host->app);
    g_assert_false(becomes(host, 1, "vda", VR_LAYER_BAD, G_TIME_SPAN_SECOND));
}

/* A reading that takes for ever keeps no look waiting. */
static void
test_look_while_reading(Host *host, gconstpointer data)
{
    g_autofree char *path = at(&host->target, "store/" UUID "/vda/2.qcow2");
    g_autofree char *away = at(&host->target, "away");

    host->config.verify_rate = 1;
    host->config.look_interval_us = G_USEC_PER_SEC / 20;
    host->scrub = vr_scrub_start(&host->app);
    g_usleep(G_USEC_PER_SEC / 2);
    g_assert_cmpint(rename(path, away), ==, 0);
    g_assert_true(becomes(host, 2, "vda", VR_LAYER_AWAY, SOON_US));
    g_assert_cmpint(rename(away, path), ==, 0);
    g_assert_true(becomes(host, 2, "vda", VR_LAYER_GOOD, SOON_US));
}

/* What both threads are made of. */

typedef struct {
    gint rounds, woken; /* atomic */
} Rounds;

static void
go_round(VrLoop *loop, gpointer data)
{
    Rounds *rounds = data;

    while (!vr_loop_ends(loop)) {
        g_atomic_int_inc(&rounds->rounds);
        if (vr_loop_wait(loop, g_get_monotonic_time() + G_TIME_SPAN_HOUR))
            g_atomic_int_inc(&rounds->woken);
    }
}

static void
test_loop(void)
{
    Rounds rounds = {0};
    VrLoop *loop = vr_loop_start("test", go_round, &rounds);

    vr_loop_wake(loop);
    for (guint i = 0; i < 1000 && g_atomic_int_get(&rounds.rounds) < 2; i++)
        g_usleep(10000);
    g_assert_cmpint(g_atomic_int_get(&rounds.rounds), ==, 2);
    g_assert_cmpint(g_atomic_int_get(&rounds.woken), ==, 1);
    vr_loop_stop(loop); /* in the middle of an hour's wait */
    vr_loop_stop(NULL);
}

static void
test_said(void)
{
    VrSaid *said = vr_said_new();

    g_assert_false(vr_said_changed(said, "a", NULL));
    g_assert_true(vr_said_changed(said, "a", "bad"));
    g_assert_false(vr_said_changed(said, "a", "bad"));
    g_assert_true(vr_said_changed(said, "b", "bad"));
    g_assert_true(vr_said_changed(said, "a", "worse"));
    g_assert_true(vr_said_changed(said, "a", NULL));
    g_assert_false(vr_said_changed(said, "a", NULL));
    vr_said_free(said);
}

#define ADD(path, func) g_test_add(path, Host, NULL, set_up_host, func, tear_down_host)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/scrub/flipped", test_flipped);
    ADD("/scrub/window", test_window);
    ADD("/scrub/look-while-reading", test_look_while_reading);
    g_test_add_func("/scrub/loop", test_loop);
    g_test_add_func("/scrub/said", test_said);
    return g_test_run();
}
