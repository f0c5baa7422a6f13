/* SPDX-License-Identifier: MIT */
/*
 * The messages between the monitor and a cell, over one SOCK_SEQPACKET socket.
 *
 * A message is a header and a body; a body longer than PROTO_CHUNK travels in several packets
 * (PROTO_MORE), descriptors with the last.  Both sides check everything they receive: magic,
 * type (only those the other side may send), lengths, descriptor counts, sequence of chunks.
 * Whatever fails a check gives -EPROTO, and all descriptors that came with it are closed.
 *
 * Nothing here blocks: sends are queued up to PROTO_MAX_QUEUE.
 * Threads: a channel belongs to one thread at a time; there is no lock.
 */
#ifndef DISCO_VMM_CELL_PROTO_H
#define DISCO_VMM_CELL_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PROTO_MAGIC = 0x0c5e11ed,  /* first word of every packet */
    PROTO_FD = 3,              /* the descriptor a cell process finds its socket at */
    PROTO_CHUNK = 32768,       /* bytes of body in one packet, at most */
    PROTO_MAX_BODY = 4 << 20,  /* bytes of body of a message, at most */
    PROTO_MAX_QUEUE = 8 << 20, /* bytes waiting to be sent, at most */
    PROTO_MAX_FDS = 40,        /* descriptors with a message, at most */
    PROTO_MORE = 1,            /* header flag: another packet of this message follows */
};

/* Types of messages.  The comment says who sends it and what the body is. */
enum proto_type {
    PROTO_START = 1, /* monitor: text of handover.h; descriptors */
    PROTO_GO,        /* monitor: empty; the guest may run */
    PROTO_STAT,      /* monitor: empty; the reply's text is JSON */
    PROTO_PAUSE,     /* monitor: empty */
    PROTO_RESUME,    /* monitor: empty */
    PROTO_STOP,      /* monitor: empty; presses the power button */
    PROTO_KILL,      /* monitor: empty */
    PROTO_BALLOON,   /* monitor: struct proto_balloon */
    PROTO_MOVE,      /* monitor: struct proto_move */
    PROTO_REHOME,    /* monitor: struct proto_rehome */
    PROTO_HEATMAP,   /* monitor: empty; the reply's text is JSON; -ENODEV: there is no pager */
    PROTO_MADE,      /* cell: empty; everything is made, waits for GO */
    PROTO_READY,     /* cell: struct proto_ready */
    PROTO_REPLY,     /* cell: struct proto_status, text; seq is the request's */
    PROTO_FAILED,    /* cell: struct proto_status, text; set-up failed, the cell ends */
    PROTO_ENDED, /* cell: struct proto_ended, JSON text; the guest ended, so does the cell */
    PROTO_NTYPES,
};

/* Who reads from a channel. */
enum proto_side { PROTO_AT_CELL, PROTO_AT_MONITOR };

/* Begins every packet. */
struct proto_hdr {
    uint32_t magic; /* PROTO_MAGIC */
    uint16_t type;  /* enum proto_type */
    uint16_t flags; /* PROTO_MORE or 0 */
    uint32_t len;   /* bytes of body in this packet */
    uint32_t seq;   /* number of the request; a reply repeats it */
};

struct proto_balloon {
    uint64_t bytes; /* memory wanted back */
};

struct proto_move {
    uint32_t vcpu; /* index of the vCPU */
    uint32_t view; /* index of the view it is to go to */
};

struct proto_rehome {
    uint32_t from; /* node of the host that the guest leaves */
    uint32_t to;   /* and where it goes */
};

struct proto_ready {
    uint64_t ready_ns; /* from cell_new() to the console showing cfg->ready */
};

struct proto_status {
    int32_t status; /* REPLY: 0 or -errno; FAILED: enum exit_status */
    uint32_t zero;  /* 0 */
};

struct proto_ended {
    uint32_t end;      /* enum cell_end */
    int32_t status;    /* cell_result.status */
    uint64_t ready_ns; /* cell_result.ready_ns */
    uint64_t run_ns;   /* cell_result.run_ns */
    char reason[256];  /* cell_result.reason */
};

/* A message to send.  Bodies are copied; descriptors are owned by proto_send(). */
struct proto_out {
    enum proto_type type; /* what it is */
    uint32_t seq;         /* request number, 0 if none */
    const void *body;     /* len bytes */
    size_t len;           /* at most PROTO_MAX_BODY */
    const int *fds;       /* nfds descriptors */
    unsigned nfds;        /* at most PROTO_MAX_FDS */
};

/* A message received; undone by proto_msg_free(). */
struct proto_msg {
    enum proto_type type;   /* checked */
    uint32_t seq;           /* request number */
    uint8_t *body;          /* len bytes, and a NUL after them */
    size_t len;             /* checked against the type */
    int fds[PROTO_MAX_FDS]; /* descriptors, close-on-exec; taken ones are set to -1 */
    unsigned nfds;          /* entries of fds */
};

struct proto_packet;

/* One end of a channel. */
struct proto_chan {
    int fd;                    /* the socket, owned; -1 after proto_exit() */
    enum proto_side side;      /* who we are */
    struct proto_msg part;     /* a message of which only some packets came */
    bool partial;              /* part holds something */
    struct proto_packet *head; /* packets to send, oldest first */
    struct proto_packet *tail; /* newest; meaningless when head is NULL */
    size_t queued;             /* bytes in them */
};

/* Makes a socket pair for a channel: both ends close-on-exec and non-blocking. 0 or -errno. */
int proto_pair(int sv[2]);

/* Refuses descriptors on a socket whose other end is not trusted: its sendmsg() fails then.  Closing
 * somebody else's descriptor may take as long as they like.  Kernels before 6.16 cannot refuse. */
void proto_no_fds(int fd);

/* Starts a channel on fd, which it owns from now on; undone by proto_exit(). */
void proto_init(struct proto_chan *ch, int fd, enum proto_side side);

/* Closes the socket and all that waits in either direction, descriptors too; may be repeated. */
void proto_exit(struct proto_chan *ch);

/*
 * Sends, or queues what the socket does not take now.  Returns 0 (sent or queued), -ENOBUFS when
 * the other side has not read for too long, -EPIPE when it is gone, or another -errno; after an
 * error the channel is of no more use.  The descriptors are closed in every case.
 */
int proto_send(struct proto_chan *ch, const struct proto_out *out);

/* Sends what is queued: 0 all sent, -EAGAIN some left, else as proto_send(). */
int proto_flush(struct proto_chan *ch);

/* As proto_flush(), waiting up to timeout_ms for the other side to read. */
int proto_drain(struct proto_chan *ch, int timeout_ms);

/* True while something waits to be sent: watch the socket for EPOLLOUT. */
bool proto_pending(const struct proto_chan *ch);

/* Takes the next message: 1 *m is filled; 0 none yet; -EPIPE the other side closed; -EPROTO it
 * sent garbage; another -errno. */
int proto_recv(struct proto_chan *ch, struct proto_msg *m);

/* As proto_recv(), waiting up to timeout_ms (-1: for ever); 0 is a time-out. */
int proto_wait(struct proto_chan *ch, struct proto_msg *m, int timeout_ms);

/* Frees the body and closes the descriptors that nobody took. */
void proto_msg_free(struct proto_msg *m);

/* Copies text that came from the other side for showing it: at most cap - 1 bytes, always
 * terminated, valid UTF-8 whatever came; control characters and broken ones become blanks. */
void proto_text(char *to, size_t cap, const void *from, size_t len);

#endif
