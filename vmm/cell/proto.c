/* SPDX-License-Identifier: MIT */
/*
 * Messages between monitor and cell: packing, checking, queueing.  See proto.h for the rules.
 *
 * Invariants.  P1: a descriptor that arrives is either in a message handed out or closed.
 * P2: memory held for the other side is bounded: PROTO_MAX_BODY in, PROTO_MAX_QUEUE out.
 * No locks: a channel belongs to one thread at a time.
 */
#include "vmm/cell/proto.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/err.h"

enum { PASS_RIGHTS = 83 }; /* SO_PASSRIGHTS, which headers before Linux 6.16 do not name */

/* A packet that waits to be sent. */
struct proto_packet {
    struct proto_packet *next; /* sent after this one */
    unsigned nfds;             /* descriptors that go with it, owned */
    int fds[PROTO_MAX_FDS];    /* those */
    size_t len;                /* bytes of data */
    uint8_t data[];            /* header and body */
};

/* What a type may look like. */
struct type_rule {
    enum proto_side to; /* who may receive it */
    uint32_t min, max;  /* bytes of body */
    unsigned fds;       /* descriptors, at most */
};

static const struct type_rule rules[PROTO_NTYPES];

/* Control buffer for the largest number of descriptors. */
union control {
    struct cmsghdr align;
    char buf[CMSG_SPACE(sizeof(int) * PROTO_MAX_FDS)];
};

/* Closes n descriptors; -1 entries are skipped. */
static void close_all(const int *fds, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

int proto_pair(int sv[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) ? -errno
                                                                                     : 0;
}

void proto_no_fds(int fd)
{
    int off = 0;

    (void)setsockopt(fd, SOL_SOCKET, PASS_RIGHTS, &off, sizeof(off));
}

void proto_init(struct proto_chan *ch, int fd, enum proto_side side)
{
    *ch = (struct proto_chan){.fd = fd, .side = side};
}

void proto_msg_free(struct proto_msg *m)
{
    close_all(m->fds, m->nfds);
    free(m->body);
    *m = (struct proto_msg){0};
}

/* Takes the first packet off the queue and frees it with its descriptors. */
static void drop_head(struct proto_chan *ch)
{
    struct proto_packet *p = ch->head;

    ch->head = p->next;
    ch->queued -= p->len;
    close_all(p->fds, p->nfds);
    free(p);
}

void proto_exit(struct proto_chan *ch)
{
    while (ch->head)
        drop_head(ch);
    if (ch->partial)
        proto_msg_free(&ch->part);
    ch->partial = false;
    if (ch->fd >= 0)
        close(ch->fd);
    ch->fd = -1;
}

bool proto_pending(const struct proto_chan *ch)
{
    return ch->head != NULL;
}

/* Appends one packet: a header and up to PROTO_CHUNK bytes of body from off on. */
static struct proto_packet *enqueue(struct proto_chan *ch, const struct proto_out *out,
                                    size_t off)
{
    size_t rest = out->len - off;
    uint32_t n = rest > PROTO_CHUNK ? PROTO_CHUNK : (uint32_t)rest;
    struct proto_packet *p = xcalloc(1, sizeof(*p) + sizeof(struct proto_hdr) + n);
    struct proto_hdr h = {.magic = PROTO_MAGIC,
                          .type = (uint16_t)out->type,
                          .flags = n < rest ? PROTO_MORE : 0,
                          .len = n,
                          .seq = out->seq};

    p->len = sizeof(h) + n;
    memcpy(p->data, &h, sizeof(h));
    if (n)
        memcpy(p->data + sizeof(h), (const uint8_t *)out->body + off, n);
    if (ch->head)
        ch->tail->next = p;
    else
        ch->head = p;
    ch->tail = p;
    ch->queued += p->len;
    return p;
}

int proto_send(struct proto_chan *ch, const struct proto_out *out)
{
    struct proto_packet *p;
    size_t off = 0;
    int r;

    INVARIANT(out->len <= PROTO_MAX_BODY && out->nfds <= PROTO_MAX_FDS, "P2: message too long");
    if (ch->fd < 0 || ch->queued + out->len > PROTO_MAX_QUEUE) {
        close_all(out->fds, out->nfds);
        return ch->fd < 0 ? -EPIPE : -ENOBUFS;
    }
    do {
        p = enqueue(ch, out, off);
        off += PROTO_CHUNK;
    } while (off < out->len);
    p->nfds = out->nfds;
    if (out->nfds)
        memcpy(p->fds, out->fds, out->nfds * sizeof(int));
    r = proto_flush(ch); /* what the socket takes now; the owner of the loop sends the rest */
    return r == -EAGAIN ? 0 : r;
}

/* Hands one packet to the socket: 0 or -errno. */
static int send_packet(int fd, struct proto_packet *p)
{
    struct iovec iov = {.iov_base = p->data, .iov_len = p->len};
    union control c = {.buf = {0}};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
    struct cmsghdr *cm;

    if (p->nfds) {
        mh.msg_control = c.buf;
        mh.msg_controllen = CMSG_SPACE(sizeof(int) * p->nfds);
        cm = CMSG_FIRSTHDR(&mh);
        cm->cmsg_level = SOL_SOCKET;
        cm->cmsg_type = SCM_RIGHTS;
        cm->cmsg_len = CMSG_LEN(sizeof(int) * p->nfds);
        memcpy(CMSG_DATA(cm), p->fds, sizeof(int) * p->nfds);
    }
    return sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int proto_flush(struct proto_chan *ch)
{
    int r;

    while (ch->head) {
        r = send_packet(ch->fd, ch->head);
        if (r == -EINTR)
            continue;
        if (r)
            return r;
        drop_head(ch);
    }
    return 0;
}

int proto_drain(struct proto_chan *ch, int timeout_ms)
{
    struct pollfd pfd = {.fd = ch->fd, .events = POLLOUT};
    int r;

    while ((r = proto_flush(ch)) == -EAGAIN)
        if (poll(&pfd, 1, timeout_ms) <= 0)
            return -EAGAIN;
    return r;
}

/* Gathers the descriptors of a packet that was received into m, or closes those too many. */
static int take_fds(struct proto_msg *m, struct msghdr *mh)
{
    int r = 0;

    for (struct cmsghdr *cm = CMSG_FIRSTHDR(mh); cm; cm = CMSG_NXTHDR(mh, cm)) {
        unsigned n;

        /* what does not fit in the buffer the kernel closed itself, and said so by MSG_CTRUNC */
        if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
            continue;
        n = (unsigned)((cm->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (unsigned i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(int));
            if (m->nfds < PROTO_MAX_FDS) {
                m->fds[m->nfds++] = fd;
            } else {
                close(fd);
                r = -EPROTO;
            }
        }
    }
    return r;
}

/* Checks a packet's header against its length n, its type's rule and the packets before it, with
 * which `before` descriptors came. */
static int check_packet(const struct proto_chan *ch, const struct proto_hdr *h, size_t n,
                        unsigned before)
{
    const struct proto_msg *m = &ch->part;
    const struct type_rule *rule;
    size_t total;

    if (n < sizeof(*h) || h->magic != PROTO_MAGIC || h->len != n - sizeof(*h))
        return -EPROTO;
    if (!h->type || h->type >= PROTO_NTYPES || (h->flags & ~PROTO_MORE))
        return -EPROTO;
    if (m->body && (h->type != m->type || h->seq != m->seq || before > 0))
        return -EPROTO; /* another message began, or descriptors came too early */
    rule = &rules[h->type];
    total = m->len + h->len;
    if (rule->to != ch->side || total > rule->max || m->nfds > rule->fds)
        return -EPROTO;
    if ((h->flags & PROTO_MORE) && h->len != PROTO_CHUNK)
        return -EPROTO;
    if (!(h->flags & PROTO_MORE) && total < rule->min)
        return -EPROTO;
    return 0;
}

/* Adds a checked packet's body to the message in the making. */
static void append_body(struct proto_msg *m, const struct proto_hdr *h, const uint8_t *body)
{
    m->type = h->type;
    m->seq = h->seq;
    m->body = realloc(m->body, m->len + h->len + 1);
    INVARIANT(m->body, "the host has no memory left for a message");
    memcpy(m->body + m->len, body, h->len);
    m->len += h->len;
    m->body[m->len] = 0;
}

/* Receives one packet into the message in the making: 1 it is complete, 0 nothing to read now,
 * 2 more packets must come, or -errno. */
static int recv_packet(struct proto_chan *ch)
{
    uint8_t data[sizeof(struct proto_hdr) + PROTO_CHUNK];
    struct iovec iov = {.iov_base = data, .iov_len = sizeof(data)};
    union control c;
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = c.buf,
                        .msg_controllen = sizeof(c.buf)};
    struct proto_hdr h = {0};
    unsigned before = ch->part.nfds;
    ssize_t n = recvmsg(ch->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    int r;

    /* The other end closed while there was something for it: that is said once, before what it had
     * sent, its last words among it. */
    if (n < 0 && errno == ECONNRESET)
        n = recvmsg(ch->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : errno == ECONNRESET ? -EPIPE : -errno;
    ch->partial = true;
    r = take_fds(&ch->part, &mh);
    /* an empty packet reads like the end of the stream; nobody honest sends one */
    if (n == 0 && ch->part.nfds == before)
        return -EPIPE;
    memcpy(&h, data, (size_t)n < sizeof(h) ? (size_t)n : sizeof(h));
    if (r || (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        return -EPROTO;
    r = check_packet(ch, &h, (size_t)n, before);
    if (r)
        return r;
    append_body(&ch->part, &h, data + sizeof(h));
    return (h.flags & PROTO_MORE) ? 2 : 1;
}

int proto_recv(struct proto_chan *ch, struct proto_msg *m)
{
    int r;

    if (ch->fd < 0)
        return -EPIPE;
    do
        r = recv_packet(ch);
    while (r == 2);
    if (r == 1) {
        *m = ch->part;
        ch->part = (struct proto_msg){0};
        ch->partial = false;
    }
    return r;
}

int proto_wait(struct proto_chan *ch, struct proto_msg *m, int timeout_ms)
{
    struct pollfd pfd = {.fd = ch->fd, .events = POLLIN};
    int r, n;

    while ((r = proto_recv(ch, m)) == 0) {
        n = poll(&pfd, 1, timeout_ms);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
    }
    return r;
}

/* Bytes of the UTF-8 character at p, of which n bytes are there; 0: it is broken, or one of the
 * control characters, to which those from U+0080 to U+009F belong. */
static size_t shown(const uint8_t *p, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; /* by length */
    size_t len = p[0] < 0x80       ? 1
                 : p[0] >> 5 == 6  ? 2
                 : p[0] >> 4 == 14 ? 3
                 : p[0] >> 3 == 30 ? 4
                                   : 0;
    uint32_t c = len == 1 ? p[0] : p[0] & (0x7fu >> len);

    if (!len || len > n)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if (p[i] >> 6 != 2)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    return c < 0x20 || (c >= 0x7f && c < 0xa0) ? 0 : len;
}

void proto_text(char *to, size_t cap, const void *from, size_t len)
{
    const uint8_t *p = from;
    size_t out = 0, n;

    for (size_t i = 0; i < len && p[i]; i += n ? n : 1) {
        n = shown(p + i, len - i);
        if (out + (n ? n : 1) >= cap)
            break;
        memcpy(to + out, n ? (const char *)p + i : " ", n ? n : 1);
        out += n ? n : 1;
    }
    if (cap)
        to[out] = 0;
}

/* What each type must look like; the first entry is no type. */
static const struct type_rule rules[PROTO_NTYPES] = {
    [PROTO_START] = {PROTO_AT_CELL, 1, PROTO_MAX_BODY, PROTO_MAX_FDS},
    [PROTO_GO] = {PROTO_AT_CELL, 0, 0, 0},
    [PROTO_STAT] = {PROTO_AT_CELL, 0, 0, 0},
    [PROTO_PAUSE] = {PROTO_AT_CELL, 0, 0, 0},
    [PROTO_RESUME] = {PROTO_AT_CELL, 0, 0, 0},
    [PROTO_STOP] = {PROTO_AT_CELL, 0, 0, 0},
    [PROTO_KILL] = {PROTO_AT_CELL, 0, 0, 0},
    [PROTO_BALLOON] = {PROTO_AT_CELL, sizeof(struct proto_balloon),
                       sizeof(struct proto_balloon), 0},
    [PROTO_MOVE] = {PROTO_AT_CELL, sizeof(struct proto_move), sizeof(struct proto_move), 0},
    [PROTO_REHOME] = {PROTO_AT_CELL, sizeof(struct proto_rehome), sizeof(struct proto_rehome),
                      0},
    [PROTO_HEATMAP] = {PROTO_AT_CELL, 0, 0, 0},
    [PROTO_MADE] = {PROTO_AT_MONITOR, 0, 0, 0},
    [PROTO_READY] = {PROTO_AT_MONITOR, sizeof(struct proto_ready), sizeof(struct proto_ready),
                     0},
    [PROTO_REPLY] = {PROTO_AT_MONITOR, sizeof(struct proto_status), PROTO_MAX_BODY, 0},
    [PROTO_FAILED] = {PROTO_AT_MONITOR, sizeof(struct proto_status), PROTO_CHUNK, 0},
    [PROTO_ENDED] = {PROTO_AT_MONITOR, sizeof(struct proto_ended), PROTO_MAX_BODY, 0},
};
