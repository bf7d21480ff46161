/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The workload of the lab guest: numbered transactions that a copy of the disks can be judged by.
 *
 * Transaction n is: record n appended to JOURNAL (ext4 on the first disk) and fsynced, then n
 * written to sector 0 of COUNTER (the second disk, O_DIRECT|O_DSYNC), then "ACK n" on the console.
 * So at every instant the counter M and the last record N satisfy M <= N <= M+1, on any true copy
 * of both disks. Between transactions it overwrites random 4 KiB blocks (--churn), each tagged with
 * the last acknowledged number: a block with a tag above N comes from another instant than the
 * journal.
 *
 * Lines: FOUND vda=N vdb=M / OK blocks=B / CORRUPT reason / ACK n / HB uptime-ms n / STOPPED n
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RECORD_MAGIC 0x5652524543303031ull
#define COUNTER_MAGIC 0x5652434e54303031ull
#define BLOCK_MAGIC 0x5652424c4b303031ull
#define BLOCK_SIZE 4096
#define COUNTER_AREA (1024 * 1024) /* churn on the counter disk starts here */
#define HEARTBEAT_MS 200
#define SCANNED_AT_ONCE 64 /* blocks: each read has its price where everything is emulated */

struct record { /* 64 bytes, so none crosses a sector */
    uint64_t magic, number, uptime_ms, salt[4], sum;
};

struct block {
    uint64_t magic, index, tag, salt[BLOCK_SIZE / 8 - 4], sum;
};

struct churn {
    const char *name;
    int fd;
    off_t start;
    uint64_t n_blocks;
};

static atomic_uint_fast64_t last_acked;
static volatile sig_atomic_t stopping;
static int console_fd;
static uint64_t random_state;

static void
on_signal(int signum)
{
    (void) signum;
    stopping = 1;
}

static void __attribute__((format(printf, 1, 2))) say(const char *format, ...)
{
    char line[256];
    va_list args;

    va_start(args, format);
    int n = vsnprintf(line, sizeof(line) - 1, format, args);
    va_end(args);
    if (n < 0)
        return;
    if ((size_t) n > sizeof(line) - 2)
        n = sizeof(line) - 2;
    line[n++] = '\n';
    if (write(console_fd, line, n) != n)
        stopping = 1;
}

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
    char text[200];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    say("CORRUPT %s", text);
    exit(1);
}

static uint64_t
uptime_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint64_t
next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* FNV-1a over 64-bit words; all but the last word of the structure, which holds the result. */
static uint64_t
checksum(const void *data, size_t size)
{
    const uint64_t *word = data;
    uint64_t sum = 14695981039346656037ull;

    for (size_t i = 0; i < size / 8 - 1; i++)
        sum = (sum ^ word[i]) * 1099511628211ull;
    return sum;
}

static bool
is_zero(const void *data, size_t size)
{
    const unsigned char *p = data;

    return p[0] == 0 && memcmp(p, p + 1, size - 1) == 0;
}

static bool
record_valid(const struct record *r, uint64_t number)
{
    return r->magic == RECORD_MAGIC && r->number == number && r->sum == checksum(r, sizeof(*r));
}

/* Returns the last transaction; fails on a hole, or on a valid record behind an invalid one. */
static uint64_t
scan_journal(int fd)
{
    static struct record batch[1024];
    uint64_t number = 0;
    bool ended = false;
    off_t offset = 0;
    ssize_t n;

    while ((n = pread(fd, batch, sizeof(batch), offset)) > 0) {
        for (size_t i = 0; i < (size_t) n / sizeof(batch[0]); i++) {
            uint64_t position = offset / sizeof(batch[0]) + i + 1;

            if (!ended && record_valid(&batch[i], position))
                number = position;
            else if (ended && record_valid(&batch[i], position))
                fail("journal record %" PRIu64 " is valid but %" PRIu64 " is not", position,
                     number + 1);
            else
                ended = true;
        }
        offset += n;
    }
    if (n < 0)
        fail("journal read: %s", strerror(errno));
    if ((uint64_t) offset > (number + 1) * sizeof(struct record))
        fail("journal has %" PRIu64 " bytes behind record %" PRIu64,
             (uint64_t) offset - number * sizeof(struct record), number);
    return number;
}

static uint64_t
read_counter(int fd, uint64_t *sector)
{
    if (pread(fd, sector, BLOCK_SIZE, 0) != BLOCK_SIZE)
        fail("counter read: %s", strerror(errno));
    if (is_zero(sector, BLOCK_SIZE))
        return 0;
    if (sector[0] != COUNTER_MAGIC || sector[2] != checksum(sector, 24))
        fail("counter sector is damaged");
    return sector[1];
}

static bool
churn_valid(const struct churn *churn, const struct block *block, uint64_t i, uint64_t number)
{
    if (is_zero(block, BLOCK_SIZE))
        return false;
    if (block->magic != BLOCK_MAGIC || block->index != i ||
        block->sum != checksum(block, BLOCK_SIZE))
        fail("%s block %" PRIu64 " is damaged", churn->name, i);
    if (block->tag > number)
        fail("%s block %" PRIu64 " is of transaction %" PRIu64 ", the journal ends at %" PRIu64,
             churn->name, i, block->tag, number);
    return true;
}

static uint64_t
scan_churn(const struct churn *churn, uint64_t number)
{
    struct block *blocks = aligned_alloc(BLOCK_SIZE, SCANNED_AT_ONCE * BLOCK_SIZE);
    uint64_t n_valid = 0, n_read = 0;

    while (n_read < churn->n_blocks) {
        uint64_t left = churn->n_blocks - n_read;
        size_t wanted = (left < SCANNED_AT_ONCE ? left : SCANNED_AT_ONCE) * BLOCK_SIZE;
        ssize_t n = pread(churn->fd, blocks, wanted, churn->start + (off_t) n_read * BLOCK_SIZE);

        if (n == 0)
            break;
        if (n < 0 || n % BLOCK_SIZE != 0)
            fail("%s block %" PRIu64 ": %s", churn->name, n_read,
                 n < 0 ? strerror(errno) : "short read");
        for (ssize_t i = 0; i < n / BLOCK_SIZE; i++)
            n_valid += churn_valid(churn, &blocks[i], n_read + i, number);
        n_read += n / BLOCK_SIZE;
    }
    free(blocks);
    return n_valid;
}

static void
write_churn(const struct churn *churn, struct block *block)
{
    uint64_t i = next_random() % churn->n_blocks;

    for (size_t w = 0; w < sizeof(block->salt) / 8; w++)
        block->salt[w] = next_random();
    block->magic = BLOCK_MAGIC;
    block->index = i;
    block->tag = atomic_load(&last_acked);
    block->sum = checksum(block, BLOCK_SIZE);
    if (pwrite(churn->fd, block, BLOCK_SIZE, churn->start + (off_t) i * BLOCK_SIZE) != BLOCK_SIZE)
        fail("%s write: %s", churn->name, strerror(errno));
}

static void
write_transaction(int journal_fd, int counter_fd, uint64_t *sector, uint64_t number)
{
    struct record r = {.magic = RECORD_MAGIC, .number = number, .uptime_ms = uptime_ms()};

    for (size_t i = 0; i < 4; i++)
        r.salt[i] = next_random();
    r.sum = checksum(&r, sizeof(r));
    if (pwrite(journal_fd, &r, sizeof(r), (off_t) (number - 1) * sizeof(r)) != sizeof(r) ||
        fsync(journal_fd) != 0)
        fail("journal write %" PRIu64 ": %s", number, strerror(errno));

    sector[0] = COUNTER_MAGIC;
    sector[1] = number;
    sector[2] = checksum(sector, 24);
    if (pwrite(counter_fd, sector, BLOCK_SIZE, 0) != BLOCK_SIZE)
        fail("counter write %" PRIu64 ": %s", number, strerror(errno));
    atomic_store(&last_acked, number);
    say("ACK %" PRIu64, number);
}

static void *
heartbeat(void *unused)
{
    struct timespec pause = {.tv_nsec = HEARTBEAT_MS * 1000000L};

    (void) unused;
    while (!stopping) {
        say("HB %" PRIu64 " %" PRIu64, uptime_ms(), (uint64_t) atomic_load(&last_acked));
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void
run(int journal_fd, int counter_fd, uint64_t *sector, struct churn churn[2], uint64_t number,
    unsigned rate, unsigned churn_kib)
{
    struct block *block = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);
    struct timespec next;
    uint64_t owed = 0; /* churn not yet written, bytes x rate */
    unsigned turn = 0;

    clock_gettime(CLOCK_MONOTONIC, &next);
    while (!stopping) {
        write_transaction(journal_fd, counter_fd, sector, ++number);
        for (owed += (uint64_t) churn_kib * 1024; owed >= (uint64_t) BLOCK_SIZE * rate && !stopping;
             owed -= (uint64_t) BLOCK_SIZE * rate)
            write_churn(&churn[turn++ % 2], block);
        if (number % rate == 0 && fdatasync(churn[0].fd) != 0)
            fail("%s sync: %s", churn[0].name, strerror(errno));

        next.tv_nsec += 1000000000L / rate;
        if (next.tv_nsec >= 1000000000L) {
            next.tv_sec++;
            next.tv_nsec -= 1000000000L;
        }
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec > next.tv_sec)
            next = now; /* we were held up: no burst to catch up */
        while (!stopping && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL) == EINTR)
            ;
    }
    free(block);
    say("STOPPED %" PRIu64, number);
}

static int
open_or_fail(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);

    if (fd < 0)
        fail("%s: %s", path, strerror(errno));
    return fd;
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {{"rate", required_argument, NULL, 'r'},
                                            {"churn", required_argument, NULL, 'k'},
                                            {"area", required_argument, NULL, 'a'},
                                            {"mode", required_argument, NULL, 'm'},
                                            {"data", required_argument, NULL, 'd'},
                                            {"counter", required_argument, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    const char *data_dir = "/data", *counter_path = "/dev/vdb", *mode = "run";
    unsigned rate = 20, churn_kib = 0, area_mib = 16;
    char path[512];
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (opt) {
        case 'r':
            rate = strtoul(optarg, NULL, 10);
            break;
        case 'k':
            churn_kib = strtoul(optarg, NULL, 10);
            break;
        case 'a':
            area_mib = strtoul(optarg, NULL, 10);
            break;
        case 'm':
            mode = optarg;
            break;
        case 'd':
            data_dir = optarg;
            break;
        case 'c':
            counter_path = optarg;
            break;
        default:
            return 2;
        }
    }
    if (rate < 1 || rate > 1000 || area_mib < 1)
        return 2;

    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    console_fd = STDOUT_FILENO;
    random_state = uptime_ms() * 2654435761u + (uint64_t) time(NULL) + 1;

    pthread_t thread;
    if (strcmp(mode, "idle") == 0) {
        heartbeat(NULL);
        say("STOPPED 0");
        return 0;
    }

    snprintf(path, sizeof(path), "%s/journal", data_dir);
    int journal_fd = open_or_fail(path, O_RDWR | O_CREAT);
    int counter_fd = open_or_fail(counter_path, O_RDWR | O_DIRECT | O_DSYNC);
    snprintf(path, sizeof(path), "%s/churn", data_dir);
    struct churn churn[2] = {
        {"vda", open_or_fail(path, O_RDWR | O_CREAT), 0, (uint64_t) area_mib << 8},
        {"vdb", counter_fd, COUNTER_AREA, (uint64_t) area_mib << 8},
    };
    uint64_t *sector = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);

    uint64_t number = scan_journal(journal_fd), counter = read_counter(counter_fd, sector);
    say("FOUND vda=%" PRIu64 " vdb=%" PRIu64, number, counter);
    if (counter > number || number > counter + 1)
        fail("the disks are of different instants: vda=%" PRIu64 " vdb=%" PRIu64, number, counter);
    uint64_t n_blocks = scan_churn(&churn[0], number) + scan_churn(&churn[1], number);
    say("OK blocks=%" PRIu64, n_blocks);
    if (strcmp(mode, "check") == 0)
        return 0;

    atomic_store(&last_acked, number);
    memset(sector, 0, BLOCK_SIZE);
    if (pthread_create(&thread, NULL, heartbeat, NULL) != 0)
        fail("no heartbeat thread");
    run(journal_fd, counter_fd, sector, churn, number, rate, churn_kib);
    pthread_join(thread, NULL);
    return 0;
}
