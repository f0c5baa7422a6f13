/* SPDX-License-Identifier: MIT */
/*
 * The messages between monitor and cell: round trips, chunks, descriptors, and every kind of
 * rubbish a hostile other side can send; nothing may leak a descriptor.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "tests/leaks.h"
#include "vmm/cell/cell.h"
#include "vmm/cell/handover.h"
#include "vmm/cell/opener.h"
#include "vmm/cell/proto.h"

#include <cmocka.h> /* last: it takes the name fail for a macro */

/* A channel with a bare socket at the other end. */
struct fixture {
    struct proto_chan mon;  /* the monitor's side */
    struct proto_chan cell; /* the cell's side */
    int before;             /* descriptors open when the test began */
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    int sv[2];

    f->before = open_fds();
    assert_int_equal(proto_pair(sv), 0);
    proto_init(&f->mon, sv[0], PROTO_AT_MONITOR);
    proto_init(&f->cell, sv[1], PROTO_AT_CELL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    int leaked;

    proto_exit(&f->mon);
    proto_exit(&f->cell);
    leaked = open_fds() - f->before;
    free(f);
    return leaked;
}

/* Sends raw bytes from the cell to the monitor, with nfds copies of standard input. */
static void send_raw(struct fixture *f, const void *p, size_t n, unsigned nfds)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int) * 100)];
    } c = {.buf = {0}};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

    if (nfds) {
        struct cmsghdr *cm;

        mh.msg_control = c.buf;
        mh.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
        cm = CMSG_FIRSTHDR(&mh);
        cm->cmsg_level = SOL_SOCKET;
        cm->cmsg_type = SCM_RIGHTS;
        cm->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
        for (unsigned i = 0; i < nfds; i++)
            memcpy(CMSG_DATA(cm) + i * sizeof(int), &(int){STDIN_FILENO}, sizeof(int));
    }
    assert_int_equal(sendmsg(f->cell.fd, &mh, 0), n);
}

/* A packet with this header and len bytes of body. */
static void send_packet(struct fixture *f, struct proto_hdr h, size_t len, unsigned nfds)
{
    uint8_t *p = xcalloc(1, sizeof(h) + len);

    memcpy(p, &h, sizeof(h));
    send_raw(f, p, sizeof(h) + len, nfds);
    free(p);
}

/* The monitor must call what came rubbish. */
static void expect_rubbish(struct fixture *f)
{
    struct proto_msg m;

    assert_int_equal(proto_recv(&f->mon, &m), -EPROTO);
}

static void test_roundtrip(void **state)
{
    struct fixture *f = *state;
    struct proto_ready r = {.ready_ns = 42};
    struct proto_msg m;

    assert_int_equal(proto_recv(&f->mon, &m), 0);
    assert_int_equal(
        proto_send(
            &f->cell,
            &(struct proto_out){.type = PROTO_READY, .seq = 7, .body = &r, .len = sizeof(r)}),
        0);
    assert_int_equal(proto_recv(&f->mon, &m), 1);
    assert_int_equal(m.type, PROTO_READY);
    assert_int_equal(m.seq, 7);
    assert_int_equal(m.len, sizeof(r));
    assert_memory_equal(m.body, &r, sizeof(r));
    proto_msg_free(&m);
    assert_int_equal(proto_recv(&f->mon, &m), 0);
}

/* Bodies around the size of a chunk, and the largest, arrive whole; the sender never waits. */
static void test_chunks(void **state)
{
    static const size_t sizes[] = {1, PROTO_CHUNK - 1, PROTO_CHUNK, PROTO_CHUNK + 1,
                                   PROTO_MAX_BODY};
    struct fixture *f = *state;
    uint8_t *body = xcalloc(1, PROTO_MAX_BODY);

    for (size_t i = 0; i < PROTO_MAX_BODY; i++)
        body[i] = (uint8_t)(i * 7 + i / 251);
    for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct proto_out out = {.type = PROTO_START, .body = body, .len = sizes[s]};
        struct proto_msg m;
        int r;

        assert_int_equal(proto_send(&f->mon, &out), 0);
        while ((r = proto_recv(&f->cell, &m)) == 0)
            proto_flush(&f->mon);
        assert_int_equal(r, 1);
        assert_int_equal(m.len, sizes[s]);
        assert_memory_equal(m.body, body, sizes[s]);
        proto_msg_free(&m);
        assert_false(proto_pending(&f->mon));
    }
    free(body);
}

/* Descriptors come with the last chunk, close-on-exec; those nobody takes are closed. */
static void test_descriptors(void **state)
{
    struct fixture *f = *state;
    uint8_t *body = xcalloc(1, 2 * PROTO_CHUNK);
    int fds[PROTO_MAX_FDS];
    struct proto_msg m;

    for (int i = 0; i < PROTO_MAX_FDS; i++)
        fds[i] = dup(STDIN_FILENO);
    assert_int_equal(proto_send(&f->mon, &(struct proto_out){.type = PROTO_START,
                                                             .body = body,
                                                             .len = 2 * PROTO_CHUNK,
                                                             .fds = fds,
                                                             .nfds = PROTO_MAX_FDS}),
                     0);
    assert_int_equal(fcntl(fds[0], F_GETFD), -1); /* the sender's copies are gone */
    assert_int_equal(proto_recv(&f->cell, &m), 1);
    assert_int_equal(m.nfds, PROTO_MAX_FDS);
    assert_int_equal(fcntl(m.fds[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    proto_msg_free(&m);
    free(body);
}

/* What is queued and never sent, or came and was never taken, is closed with the channel. */
static void test_descriptors_undelivered(void **state)
{
    struct fixture *f = *state;
    uint8_t *body = xcalloc(1, PROTO_MAX_BODY);
    int fd = dup(STDIN_FILENO);
    struct proto_msg m;

    assert_int_equal(proto_send(&f->mon, &(struct proto_out){.type = PROTO_START,
                                                             .body = body,
                                                             .len = PROTO_MAX_BODY,
                                                             .fds = &fd,
                                                             .nfds = 1}),
                     0);
    assert_true(proto_pending(&f->mon));
    assert_int_equal(proto_recv(&f->cell, &m), 0);
    free(body);
}

/* One who does not read costs a bounded queue. */
static void test_unread(void **state)
{
    struct fixture *f = *state;
    uint8_t *body = xcalloc(1, PROTO_MAX_BODY);
    struct proto_out out = {.type = PROTO_START, .body = body, .len = PROTO_MAX_BODY};
    int r, n = 0;

    while ((r = proto_send(&f->mon, &out)) == 0)
        assert_true(++n < 10);
    assert_int_equal(r, -ENOBUFS);
    free(body);
}

static void test_closed(void **state)
{
    struct fixture *f = *state;
    struct proto_msg m;

    proto_exit(&f->cell);
    assert_int_equal(proto_recv(&f->mon, &m), -EPIPE);
    assert_int_equal(proto_send(&f->mon, &(struct proto_out){.type = PROTO_GO}), -EPIPE);
}

/* Last words arrive, also of one who goes without having read all that was said to it. */
static void test_last_words(void **state)
{
    struct fixture *f = *state;
    struct proto_ready r = {.ready_ns = 42};
    struct proto_msg m;

    assert_int_equal(proto_send(&f->mon, &(struct proto_out){.type = PROTO_GO}), 0);
    assert_int_equal(
        proto_send(&f->cell,
                   &(struct proto_out){.type = PROTO_READY, .body = &r, .len = sizeof(r)}),
        0);
    proto_exit(&f->cell);
    assert_int_equal(proto_recv(&f->mon, &m), 1);
    assert_int_equal(m.type, PROTO_READY);
    proto_msg_free(&m);
    assert_int_equal(proto_recv(&f->mon, &m), -EPIPE);
}

static void test_timeout(void **state)
{
    struct fixture *f = *state;
    struct proto_msg m;

    assert_int_equal(proto_wait(&f->mon, &m, 10), 0);
}

static void test_short(void **state)
{
    struct fixture *f = *state;

    send_raw(f, "x", 1, 0);
    expect_rubbish(f);
}

static void test_magic(void **state)
{
    send_packet(*state, (struct proto_hdr){.magic = 1, .type = PROTO_MADE}, 0, 0);
    expect_rubbish(*state);
}

static void test_type(void **state)
{
    static const uint16_t bad[] = {0, PROTO_NTYPES, 0xffff, PROTO_START, PROTO_GO, PROTO_KILL};

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        send_packet(*state, (struct proto_hdr){.magic = PROTO_MAGIC, .type = bad[i]}, 0, 0);
        expect_rubbish(*state);
    }
}

static void test_length(void **state)
{
    struct proto_hdr h = {.magic = PROTO_MAGIC, .type = PROTO_READY, .len = 8};

    send_packet(*state, h, 4, 0); /* says more than there is */
    expect_rubbish(*state);
    send_packet(*state, h, 12, 0); /* says less */
    expect_rubbish(*state);
    h.len = 4;
    send_packet(*state, h, 4, 0); /* too short for its type */
    expect_rubbish(*state);
    h.len = 16;
    send_packet(*state, h, 16, 0); /* too long for its type */
    expect_rubbish(*state);
    h.len = 0xffffffffu;
    send_packet(*state, h, 0, 0);
    expect_rubbish(*state);
}

static void test_flags(void **state)
{
    struct proto_hdr h = {.magic = PROTO_MAGIC, .type = PROTO_MADE, .flags = 2};

    send_packet(*state, h, 0, 0);
    expect_rubbish(*state);
    h.flags = PROTO_MORE; /* more follows, but this chunk is not full */
    send_packet(*state, h, 0, 0);
    expect_rubbish(*state);
}

static void test_unasked_descriptors(void **state)
{
    struct proto_hdr h = {.magic = PROTO_MAGIC, .type = PROTO_MADE};

    send_packet(*state, h, 0, 1);
    expect_rubbish(*state);
}

static void test_too_many_descriptors(void **state)
{
    struct proto_hdr h = {.magic = PROTO_MAGIC, .type = PROTO_MADE};

    send_packet(*state, h, 0, 100);
    expect_rubbish(*state);
}

/* Another message in the middle of one. */
static void test_interleaved(void **state)
{
    struct proto_hdr h = {
        .magic = PROTO_MAGIC, .type = PROTO_REPLY, .flags = PROTO_MORE, .len = PROTO_CHUNK};
    struct fixture *f = *state;
    struct proto_msg m;

    send_packet(f, h, PROTO_CHUNK, 0);
    assert_int_equal(proto_recv(&f->mon, &m), 0);
    send_packet(f, (struct proto_hdr){.magic = PROTO_MAGIC, .type = PROTO_MADE}, 0, 0);
    expect_rubbish(f);
}

/* A message that never ends is given up at its type's limit. */
static void test_endless(void **state)
{
    struct proto_hdr h = {
        .magic = PROTO_MAGIC, .type = PROTO_REPLY, .flags = PROTO_MORE, .len = PROTO_CHUNK};
    struct fixture *f = *state;
    struct proto_msg m;
    int r, n = 0;

    do {
        send_packet(f, h, PROTO_CHUNK, 0);
        r = proto_recv(&f->mon, &m);
        assert_true(++n < 1000);
    } while (r == 0);
    assert_int_equal(r, -EPROTO);
    assert_true(n <= PROTO_MAX_BODY / PROTO_CHUNK + 1);
}

/* Random packets never crash it and never leak. */
static void test_noise(void **state)
{
    unsigned seed = 1;

    for (int i = 0; i < 20000; i++) {
        struct fixture *f = *state;
        uint8_t buf[64];
        struct proto_hdr h = {.magic = PROTO_MAGIC,
                              .type = (uint16_t)(rand_r(&seed) % (PROTO_NTYPES + 2)),
                              .flags = (uint16_t)(rand_r(&seed) % 3),
                              .len = (uint32_t)(rand_r(&seed) % 40)};
        size_t n = 1 + (size_t)rand_r(&seed) % sizeof(buf);
        struct proto_msg m;
        int r;

        for (size_t b = 0; b < sizeof(buf); b++)
            buf[b] = (uint8_t)rand_r(&seed);
        if (n >= sizeof(h))
            memcpy(buf, &h, sizeof(h));
        send_raw(f, buf, n, (unsigned)rand_r(&seed) % 3);
        r = proto_recv(&f->mon, &m);
        assert_true(r == 1 || r == 0 || r == -EPROTO);
        if (r == 1)
            proto_msg_free(&m);
        if (r < 0) { /* what a monitor does: a new channel */
            teardown(state);
            setup(state);
        }
    }
}

static void test_text(void **state)
{
    char buf[8];

    (void)state;
    proto_text(buf, sizeof(buf), "a\033[2J\n", 6);
    assert_string_equal(buf, "a [2J ");
    proto_text(buf, sizeof(buf), "0123456789", 10);
    assert_string_equal(buf, "0123456");
    proto_text(buf, sizeof(buf), "ab", 1);
    assert_string_equal(buf, "a");
    /* UTF-8 stays whole, be it cut here or by the sender; terminals obey U+0080 to U+009F, too */
    proto_text(buf, sizeof(buf), "12345\xe2\x82\xac", 8);
    assert_string_equal(buf, "12345");
    proto_text(buf, sizeof(buf), "1\xe2\x82\xac\xe2\x82", 6);
    assert_string_equal(buf, "1\xe2\x82\xac  ");
    proto_text(buf, sizeof(buf), "\xc2\x9b\xc2\xa0\xc0\x80", 6);
    assert_string_equal(buf, "  \xc2\xa0  ");
    proto_text(buf, sizeof(buf), "\xed\xa0\x80\xff\x9b", 5);
    assert_string_equal(buf, "     ");
}

/* A socket that takes no descriptors: their sender learns it, and bytes still pass. */
static void test_no_fds(void **state)
{
    struct fixture *f = *state;
    struct proto_ready body = {.ready_ns = 1};
    struct proto_hdr h = {.magic = PROTO_MAGIC, .type = PROTO_READY, .len = sizeof(body)};
    struct proto_msg m;
    uint8_t buf[sizeof(h) + sizeof(body)];
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int))];
    } c = {.buf = {0}};
    struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = c.buf,
                        .msg_controllen = sizeof(c.buf)};

    memcpy(buf, &h, sizeof(h));
    memcpy(buf + sizeof(h), &body, sizeof(body));
    *CMSG_FIRSTHDR(&mh) = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    proto_no_fds(f->mon.fd);
    if (sendmsg(f->cell.fd, &mh, MSG_NOSIGNAL) >= 0) {
        assert_int_equal(proto_recv(&f->mon, &m), -EPROTO);
        skip(); /* a kernel before 6.16 */
    }
    assert_int_equal(errno, EPERM);
    assert_int_equal(send(f->cell.fd, buf, sizeof(buf), MSG_NOSIGNAL), sizeof(buf));
    assert_int_equal(proto_recv(&f->mon, &m), 1);
    proto_msg_free(&m);
}

/* ---- the START message ---- */

/* A small guest. */
static void make_guest(struct handover *h)
{
    struct err err = {0};
    int r = config_parse_guest(
        &h->cfg, "name = \"g\"; kernel = \"/k\"; vcpus = 2; memory = \"64M\";", &err);

    if (r)
        fail_msg("%s", err.text);
    h->place = (struct place_got){.nnodes = 2,
                                  .nodes = {1, 3},
                                  .node_bytes = {32 << 20, 32 << 20},
                                  .views = 2,
                                  .view_node = {1, 3},
                                  .ncpu_nodes = 2,
                                  .cpu_nodes = {1, 3}};
    cell_fds_init(&h->fds);
    h->fds.kvm = dup(STDIN_FILENO);
    h->fds.kernel = dup(STDIN_FILENO);
    h->fds.disk[3] = dup(STDIN_FILENO);
    h->fds.net[1] = dup(STDIN_FILENO);
    h->fds.console.kind = 1;
    h->fds.console.outfd = dup(STDIN_FILENO);
    h->log_level = 2;
}

static void test_handover(void **state)
{
    struct handover a = {.log_level = 0}, b;
    int fds[PROTO_MAX_FDS], want_disk, want_out;
    int before = open_fds();
    struct err err = {0};
    unsigned n;
    char *text;

    (void)state;
    make_guest(&a);
    want_disk = a.fds.disk[3];
    want_out = a.fds.console.outfd;
    text = handover_pack(&a, fds, &n);
    assert_int_equal(n, 5);
    assert_int_equal(handover_unpack(&b, text, fds, n, &err), 0);
    assert_string_equal(b.cfg.name, "g");
    assert_int_equal(b.cfg.vcpus, 2);
    assert_memory_equal(&b.place, &a.place, sizeof(a.place));
    assert_int_equal(b.fds.disk[3], want_disk);
    assert_int_equal(b.fds.console.outfd, want_out);
    assert_int_equal(b.fds.disk[0], -1);
    assert_int_equal(b.fds.console.kind, 1);
    assert_int_equal(fds[0], -1);
    free(text);
    cell_fds_init(&a.fds); /* they went to b */
    handover_free(&a);
    handover_free(&b);
    assert_int_equal(open_fds(), before);
}

/* Texts that are wrong in one place each; nothing may stay open or be taken half. */
static void test_handover_bad(void **state)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "null",
        "{\"config\": 3}",
        "{\"config\":\"\",\"place\":{\"nodes\":[0],\"bytes\":[1],\"views\":[0],\"cpu_nodes\":["
        "0]},"
        "\"fds\":[\"kvm\",\"kvm\"],\"console\":{\"kind\":0},\"vconsole\":{\"kind\":0},\"log\":"
        "2}",
        "{\"config\":\"\",\"place\":{\"nodes\":[0],\"bytes\":[1],\"views\":[0],\"cpu_nodes\":["
        "0]},"
        "\"fds\":[\"kvm\",\"what\"],\"console\":{\"kind\":0},\"vconsole\":{\"kind\":0},\"log\":"
        "2}",
        "{\"config\":\"\",\"place\":{\"nodes\":[0,1],\"bytes\":[1],\"views\":[0],\"cpu_nodes\":"
        "[0]}"
        ",\"fds\":[\"kvm\",\"kernel\"],\"console\":{\"kind\":0},\"vconsole\":{\"kind\":0},"
        "\"log\":2"
        "}",
        "{\"config\":\"\",\"place\":{\"nodes\":[-1],\"bytes\":[1],\"views\":[0],\"cpu_nodes\":["
        "0]},"
        "\"fds\":[\"kvm\",\"kernel\"],\"console\":{\"kind\":9},\"vconsole\":{\"kind\":0},"
        "\"log\":2}",
        "{\"config\":\"junk\",\"place\":{\"nodes\":[0],\"bytes\":[1],\"views\":[0],\"cpu_"
        "nodes\":"
        "[0]},\"fds\":[\"kvm\",\"kernel\"],\"console\":{\"kind\":0},\"vconsole\":{\"kind\":0},"
        "\"log\":2}",
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int before = open_fds();
        int fds[2] = {dup(STDIN_FILENO), dup(STDIN_FILENO)};
        struct err err = {0};
        struct handover h;

        assert_true(handover_unpack(&h, bad[i], fds, 2, &err) < 0);
        assert_true(err.status != 0);
        for (unsigned f = 0; f < 2; f++)
            if (fds[f] >= 0)
                close(fds[f]);
        assert_int_equal(open_fds(), before);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_roundtrip),
        T(test_chunks),
        T(test_descriptors),
        T(test_descriptors_undelivered),
        T(test_unread),
        T(test_closed),
        T(test_last_words),
        T(test_timeout),
        T(test_short),
        T(test_magic),
        T(test_type),
        T(test_length),
        T(test_flags),
        T(test_unasked_descriptors),
        T(test_too_many_descriptors),
        T(test_interleaved),
        T(test_endless),
        T(test_noise),
        T(test_no_fds),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_handover),
        cmocka_unit_test(test_handover_bad),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
