/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A small NBD server of our own (fixed newstyle, structured replies) that can answer wrongly. */
#include "qmp/point/nbd_source.h"

#include <endian.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "policies/error.h"

#define SIZE ((guint64) 8 << 20)
#define BITMAP "b"

#define OPT_ABORT 2
#define OPT_GO 7
#define OPT_STRUCTURED 8
#define OPT_SET_META 10
#define REP_ACK 1
#define REP_INFO 3
#define REP_META 4
#define REP_UNSUPPORTED 0x80000001u

typedef enum { GOOD, EMPTY, PAST_END, UNALIGNED, NOTHING, READ_ERROR, CUT, NO_BITMAP } Behaviour;

typedef struct {
    char *dir;
    char *path;
    int listener;
    GThread *thread;
    Behaviour behaviour;
    guint64 size;
} Server;

static gboolean
get(int fd, void *buf, gsize len)
{
    return len == 0 || recv(fd, buf, len, MSG_WAITALL) == (ssize_t) len;
}

static void
put(int fd, const void *buf, gsize len)
{
    (void) !send(fd, buf, len, MSG_NOSIGNAL);
}

static void
put_reply(int fd, guint32 option, guint32 type, const void *data, guint32 len)
{
    struct {
        guint64 magic;
        guint32 option, type, len;
    } __attribute__((packed))
    head = {htobe64(0x3e889045565a9), htobe32(option), htobe32(type), htobe32(len)};

    put(fd, &head, sizeof(head));
    put(fd, data, len);
}

/* Export name, number of queries, one query: we only look at the query. */
static void
answer_meta(const Server *server, int fd, guint32 option, const guint8 *data, char *context)
{
    guint32 name_len, query_len;
    guint8 reply[128] = {0, 0, 0, 1};

    memcpy(&name_len, data, 4);
    data += 4 + be32toh(name_len) + 4;
    memcpy(&query_len, data, 4);
    query_len = be32toh(query_len);
    memcpy(context, data + 4, query_len);
    context[query_len] = '\0';
    memcpy(reply + 4, context, query_len);
    if (server->behaviour != NO_BITMAP || strncmp(context, "qemu:", 5) != 0)
        put_reply(fd, option, REP_META, reply, 4 + query_len);
    put_reply(fd, option, REP_ACK, NULL, 0);
}

static gboolean
negotiate(const Server *server, int fd, char *context)
{
    static const char hello[] = "NBDMAGICIHAVEOPT\0\3";
    guint32 client_flags;

    put(fd, hello, 18);
    if (!get(fd, &client_flags, 4))
        return FALSE;
    for (;;) {
        struct {
            guint64 magic;
            guint32 option, len;
        } __attribute__((packed)) head;
        guint8 data[1024];
        guint32 option;

        if (!get(fd, &head, sizeof(head)) || be32toh(head.len) > sizeof(data) ||
            !get(fd, data, be32toh(head.len)))
            return FALSE;
        option = be32toh(head.option);
        if (option == OPT_STRUCTURED) {
            put_reply(fd, option, REP_ACK, NULL, 0);
        } else if (option == OPT_SET_META) {
            answer_meta(server, fd, option, data, context);
        } else if (option == OPT_GO) {
            struct {
                guint16 type;
                guint64 size;
                guint16 flags;
            } __attribute__((packed)) info = {0, htobe64(server->size), htobe16(1 | 2)};

            put_reply(fd, option, REP_INFO, &info, sizeof(info));
            put_reply(fd, option, REP_ACK, NULL, 0);
            return TRUE;
        } else {
            put_reply(fd, option, REP_UNSUPPORTED, NULL, 0);
            if (option == OPT_ABORT)
                return FALSE;
        }
    }
}

static void
put_chunk(int fd, guint64 handle, guint16 flags, guint16 type, guint32 len)
{
    struct {
        guint32 magic;
        guint16 flags, type;
        guint64 handle;
        guint32 len;
    } __attribute__((packed))
    head = {htobe32(0x668e33ef), htobe16(flags), htobe16(type), handle, htobe32(len)};

    put(fd, &head, sizeof(head));
}

static guint8
byte_at(guint64 offset)
{
    return (guint8) (offset / 512 * 7 + offset % 251);
}

static void
answer_read(const Server *server, int fd, guint64 handle, guint64 offset, guint32 len)
{
    guint64 be_offset = htobe64(offset);
    g_autofree guint8 *data = g_malloc(len);

    if (server->behaviour == READ_ERROR) {
        const guint8 failed[6] = {0, 0, 0, 5, 0, 0};

        put_chunk(fd, handle, 1, 0x8001, sizeof(failed));
        put(fd, failed, sizeof(failed));
        return;
    }
    for (guint32 i = 0; i < len; i++)
        data[i] = byte_at(offset + i);
    put_chunk(fd, handle, 1, 1, 8 + len);
    put(fd, &be_offset, 8);
    put(fd, data, len);
}

/* Dirty: [1 MiB, 3 MiB); reads as zeros: [2 MiB, end). Each answer says one range, at most 1 MiB of
 * it. */
static void
answer_status(const Server *server, int fd, guint64 handle, guint64 offset, guint32 len,
              gboolean bitmap)
{
    const guint64 mib = 1 << 20;
    guint32 length = (guint32) MIN(len, mib - offset % mib);
    guint32 flags = bitmap ? (offset >= mib && offset < 3 * mib) : (offset >= 2 * mib ? 3 : 0);
    guint32 entry[3] = {htobe32(1), 0, htobe32(flags)};

    if (server->behaviour == EMPTY && offset > 0)
        length = 0;
    if (server->behaviour == PAST_END)
        length = (guint32) (server->size - offset) + 512;
    if (server->behaviour == UNALIGNED)
        length -= 100;
    entry[1] = htobe32(length);
    if (server->behaviour == NOTHING) {
        put_chunk(fd, handle, 1, 0, 0);
        return;
    }
    put_chunk(fd, handle, 1, 5, sizeof(entry));
    put(fd, entry, sizeof(entry));
}

static void
serve(const Server *server, int fd)
{
    char context[1024] = "";

    if (!negotiate(server, fd, context))
        return;
    for (;;) {
        struct {
            guint32 magic;
            guint16 flags, type;
            guint64 handle, offset;
            guint32 len;
        } __attribute__((packed)) request;

        if (!get(fd, &request, sizeof(request)) || request.type == htobe16(2) ||
            server->behaviour == CUT)
            return;
        if (request.type == htobe16(0))
            answer_read(server, fd, request.handle, be64toh(request.offset), be32toh(request.len));
        else
            answer_status(server, fd, request.handle, be64toh(request.offset), be32toh(request.len),
                          g_str_has_prefix(context, "qemu:"));
    }
}

static gpointer
server_main(gpointer data)
{
    const Server *server = data;
    int fd;

    while ((fd = accept(server->listener, NULL, NULL)) >= 0) {
        serve(server, fd);
        close(fd);
    }
    return NULL;
}

static void
server_start(Server *server, Behaviour behaviour)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    server->behaviour = behaviour;
    server->size = SIZE;
    server->dir = g_dir_make_tmp("nbd-source-XXXXXX", NULL);
    server->path = g_build_filename(server->dir, "s", NULL);
    server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, server->path, sizeof(address.sun_path));
    g_assert_cmpint(bind(server->listener, (struct sockaddr *) &address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(server->listener, 4), ==, 0);
    server->thread = g_thread_new("server", server_main, server);
}

static void
server_stop(Server *server)
{
    shutdown(server->listener, SHUT_RDWR);
    g_thread_join(server->thread);
    close(server->listener);
    g_unlink(server->path);
    g_rmdir(server->dir);
    g_free(server->path);
    g_free(server->dir);
}

static void
test_probe_full(void)
{
    Server server;
    g_autoptr(GError) error = NULL;

    server_start(&server, GOOD);
    {
        g_autoptr(VrNbdGate) gate = vr_nbd_gate_new();
        g_autoptr(VrNbdSource) source = vr_nbd_source_new(server.path, "x", gate);
        g_autoptr(VrExtents) extents = vr_nbd_source_probe(source, NULL, NULL, &error);

        g_assert_no_error(error);
        g_assert_cmpuint(vr_nbd_source_get(source)->size_bytes, ==, SIZE);
        g_assert_cmpuint(vr_extents_count(extents), ==, 2);
        g_assert_cmpuint(vr_extents_bytes(extents, VR_EXTENT_DATA), ==, 2 << 20);
        g_assert_cmpuint(vr_extents_bytes(extents, VR_EXTENT_ZERO), ==, SIZE - (2 << 20));
        g_assert_true(vr_nbd_gate_wait_idle(gate, 0));
    }
    server_stop(&server);
}

static void
test_probe_bitmap(void)
{
    Server server;
    g_autoptr(GError) error = NULL;

    server_start(&server, GOOD);
    {
        g_autoptr(VrNbdGate) gate = vr_nbd_gate_new();
        g_autoptr(VrNbdSource) source = vr_nbd_source_new(server.path, "x", gate);
        g_autoptr(VrExtents) extents = vr_nbd_source_probe(source, BITMAP, NULL, &error);

        g_assert_no_error(error);
        g_assert_cmpuint(vr_extents_count(extents), ==, 2);
        g_assert_cmpuint(vr_extents_get(extents, 0)->offset, ==, 1 << 20);
        g_assert_cmpuint(vr_extents_get(extents, 0)->flags, ==, VR_EXTENT_DATA);
        g_assert_cmpuint(vr_extents_get(extents, 1)->offset, ==, 2 << 20);
        g_assert_cmpuint(vr_extents_get(extents, 1)->length, ==, 1 << 20);
        g_assert_cmpuint(vr_extents_get(extents, 1)->flags, ==, VR_EXTENT_ZERO);
    }
    server_stop(&server);
}

static void
check_refused(Behaviour behaviour, const char *bitmap, VrError code)
{
    Server server;
    g_autoptr(GError) error = NULL;

    server_start(&server, behaviour);
    {
        g_autoptr(VrNbdGate) gate = vr_nbd_gate_new();
        g_autoptr(VrNbdSource) source = vr_nbd_source_new(server.path, "x", gate);

        g_assert_null(vr_nbd_source_probe(source, bitmap, NULL, &error));
        g_assert_error(error, VR_ERROR, (int) code);
        g_assert_true(vr_nbd_gate_wait_idle(gate, 0));
    }
    server_stop(&server);
}

static void
test_bad_answers(void)
{
    check_refused(EMPTY, NULL, VR_ERROR_INTERNAL);
    check_refused(PAST_END, NULL, VR_ERROR_INTERNAL);
    check_refused(UNALIGNED, NULL, VR_ERROR_INTERNAL);
    check_refused(CUT, NULL, VR_ERROR_TRANSIENT);
    check_refused(NO_BITMAP, BITMAP, VR_ERROR_RESYNC_NEEDED);
}

/* libnbd may refuse the answer itself; that nothing was answered must not loop or pass. */
static void
test_no_answer(void)
{
    Server server;
    g_autoptr(GError) error = NULL;

    server_start(&server, NOTHING);
    {
        g_autoptr(VrNbdGate) gate = vr_nbd_gate_new();
        g_autoptr(VrNbdSource) source = vr_nbd_source_new(server.path, "x", gate);

        g_assert_null(vr_nbd_source_probe(source, NULL, NULL, &error));
        g_assert_nonnull(error);
    }
    server_stop(&server);
}

static void
test_read(void)
{
    Server server;
    g_autoptr(GError) error = NULL;

    server_start(&server, GOOD);
    {
        g_autoptr(VrNbdGate) gate = vr_nbd_gate_new();
        g_autoptr(VrNbdSource) nbd = vr_nbd_source_new(server.path, "x", gate);
        g_autoptr(VrExtents) extents = vr_nbd_source_probe(nbd, NULL, NULL, &error);
        VrSource *source = vr_nbd_source_get(nbd);
        VrSourceReader *reader = source->ops->open(source, &error);
        g_autofree guint8 *buf = g_malloc(VR_SOURCE_READ_MAX);
        const gsize len = 3 * (1 << 20) + 512;

        g_assert_no_error(error);
        g_assert_nonnull(extents);
        g_assert_false(vr_nbd_gate_wait_idle(gate, 0));
        g_assert_true(source->ops->read(reader, 1024, len, buf, &error));
        for (gsize i = 0; i < len; i++)
            g_assert_cmpuint(buf[i], ==, byte_at(1024 + i));
        source->ops->close(reader);
        g_assert_true(vr_nbd_gate_wait_idle(gate, 0));
        vr_nbd_gate_close(gate);
        g_assert_null(source->ops->open(source, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_CANCELLED);
        source->ops->close(NULL);
    }
    server_stop(&server);
}

/* The error of one request fails the read, and the reader stays failed. */
static void
check_read_fails(Behaviour behaviour)
{
    Server server;
    g_autoptr(GError) error = NULL;

    server_start(&server, GOOD);
    {
        g_autoptr(VrNbdGate) gate = vr_nbd_gate_new();
        g_autoptr(VrNbdSource) nbd = vr_nbd_source_new(server.path, "x", gate);
        VrSource *source = vr_nbd_source_get(nbd);
        VrSourceReader *reader;
        guint8 buf[4096];

        source->size_bytes = SIZE;
        server.behaviour = behaviour;
        reader = source->ops->open(source, &error);
        g_assert_no_error(error);
        g_assert_false(source->ops->read(reader, 0, sizeof(buf), buf, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_TRANSIENT);
        g_clear_error(&error);
        g_assert_false(source->ops->read(reader, 0, sizeof(buf), buf, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_TRANSIENT);
        source->ops->close(reader);
        g_assert_true(vr_nbd_gate_wait_idle(gate, 0));
    }
    server_stop(&server);
}

static void
test_read_fails(void)
{
    check_read_fails(READ_ERROR);
    check_read_fails(CUT);
}

static void
test_no_server(void)
{
    g_autoptr(VrNbdGate) gate = vr_nbd_gate_new();
    g_autoptr(VrNbdSource) source = vr_nbd_source_new("/nonexistent/socket", "x", gate);
    g_autoptr(GError) error = NULL;

    g_assert_null(vr_nbd_source_probe(source, NULL, NULL, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_TRANSIENT);
    g_assert_true(vr_nbd_gate_wait_idle(gate, 0));
}

static void
test_cancel(void)
{
    Server server;
    g_autoptr(GError) error = NULL;
    g_autoptr(GCancellable) cancel = g_cancellable_new();

    g_cancellable_cancel(cancel);
    server_start(&server, GOOD);
    {
        g_autoptr(VrNbdGate) gate = vr_nbd_gate_new();
        g_autoptr(VrNbdSource) source = vr_nbd_source_new(server.path, "x", gate);

        g_assert_null(vr_nbd_source_probe(source, NULL, cancel, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_CANCELLED);
    }
    server_stop(&server);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd-source/probe-full", test_probe_full);
    g_test_add_func("/nbd-source/probe-bitmap", test_probe_bitmap);
    g_test_add_func("/nbd-source/bad-answers", test_bad_answers);
    g_test_add_func("/nbd-source/no-answer", test_no_answer);
    g_test_add_func("/nbd-source/read", test_read);
    g_test_add_func("/nbd-source/read-fails", test_read_fails);
    g_test_add_func("/nbd-source/no-server", test_no_server);
    g_test_add_func("/nbd-source/cancel", test_cancel);
    return g_test_run();
}
