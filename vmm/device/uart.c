/* SPDX-License-Identifier: MIT */
/*
 * The 16550A serial port: registers, 16-byte receive FIFO, interrupts, loopback.  Interface:
 * uart_new() puts it on the port bus.  Source: National PC16550D data sheet.
 *
 * Characters take no time here.  The transmitter is always empty: a byte written is taken at once
 * and the "holding register empty" interrupt is due again.  Received bytes below the trigger
 * level raise the time-out interrupt at once.
 *
 * Output goes to the stream by lines: a system call for each byte is what makes consoles slow.
 * A line that does not end is handed over FLUSH_NS after its first byte, by a timer on io0, and
 * when the device is freed.  Invariant U1: while out holds bytes, the timer is armed.
 *
 * The interrupt line follows the causes in `causes()`, gated by OUT2 as on the PC.  The pin is an
 * edge: a new cause while the line is high pulses it low and high again.
 *
 * Locks: `lock` guards all state and keeps the order of output; held while calling
 * chario_write() and irq_gsi(), never while calling chario_more().  Ports are accessed by vCPU
 * threads, input and the timer come on io0.
 */
#include <linux/serial_reg.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/evloop.h"
#include "base/log.h"
#include "vmm/device/chario.h"
#include "vmm/device/host.h"
#include "vmm/device/legacy.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/irq.h"

enum {
    FIFO_SIZE = 16,     /* bytes each way, as a 16550A has */
    NPORTS = 8,         /* ports from COM1_PORT on */
    OUT_MAX = 256,      /* bytes of a line kept back */
    FLUSH_NS = 1000000, /* for so long at most */
};

static const struct bus_ops uart_ops;

/* Interrupt causes, as bits. */
enum { CAUSE_LINE = 1, CAUSE_DATA = 2, CAUSE_TIMEOUT = 4, CAUSE_EMPTY = 8, CAUSE_MODEM = 16 };

struct uart {
    struct irqchip *irq;     /* where LEGACY_COM1_PIN is */
    struct chario *io;       /* the stream, owned */
    struct evloop *loop;     /* of io0 */
    struct evsrc timer;      /* its timer, for output; fd -1: none, each byte goes at once */
    void (*quit)(void *arg); /* the user asks the cell to end; NULL: nobody cares */
    void *quit_arg;          /* its argument */

    pthread_mutex_t lock;    /* guards all below */
    uint8_t ier;             /* interrupts enabled, bits 3:0 */
    uint8_t fcr;             /* FIFO control: enable and trigger bits */
    uint8_t lcr;             /* line control */
    uint8_t mcr;             /* modem control, bits 4:0 */
    uint8_t line_err;        /* sticky error bits of LSR */
    uint8_t msr_delta;       /* change bits of MSR */
    uint8_t scr;             /* scratch */
    uint8_t divisor[2];      /* baud rate divisor, low and high */
    bool empty_due;          /* the transmitter-empty interrupt is due */
    bool refused;            /* input was refused: chario_more() when there is room */
    uint8_t seen;            /* causes the line was raised for */
    uint8_t fifo[FIFO_SIZE]; /* received, not yet read: a ring */
    unsigned head, count;    /* oldest byte and bytes in fifo */
    uint8_t out[OUT_MAX];    /* sent, not yet handed to the stream */
    unsigned nout;           /* bytes of it */
    bool armed;              /* the timer runs (U1) */
};

/* ---- interrupts; lock held ---- */

/* Bytes that raise the data interrupt. */
static unsigned trigger(const struct uart *u)
{
    static const uint8_t level[4] = {1, 4, 8, 14};

    return u->fcr & UART_FCR_ENABLE_FIFO ? level[u->fcr >> 6] : 1;
}

/* The causes that are due and enabled. */
static uint8_t causes(const struct uart *u)
{
    uint8_t c = 0;

    if ((u->ier & UART_IER_RLSI) && u->line_err)
        c |= CAUSE_LINE;
    if ((u->ier & UART_IER_RDI) && u->count)
        c |= u->count >= trigger(u) ? CAUSE_DATA : CAUSE_TIMEOUT;
    if ((u->ier & UART_IER_THRI) && u->empty_due)
        c |= CAUSE_EMPTY;
    if ((u->ier & UART_IER_MSI) && u->msr_delta)
        c |= CAUSE_MODEM;
    return c;
}

/* Makes the line follow the causes. */
static void update_line(struct uart *u)
{
    bool gate = (u->mcr & UART_MCR_OUT2) && !(u->mcr & UART_MCR_LOOP);
    uint8_t now = gate ? causes(u) : 0;
    uint8_t fresh = now & (uint8_t)~u->seen;

    if (u->seen && (fresh || !now))
        irq_gsi(u->irq, LEGACY_COM1_PIN, false);
    if (fresh)
        irq_gsi(u->irq, LEGACY_COM1_PIN, true);
    u->seen = now;
}

/* ---- receiver; lock held ---- */

/* Bytes the receiver holds at most. */
static unsigned fifo_room(const struct uart *u)
{
    unsigned cap = u->fcr & UART_FCR_ENABLE_FIFO ? FIFO_SIZE : 1;

    return cap > u->count ? cap - u->count : 0;
}

/* Puts a received byte into the FIFO, or notes an overrun. */
static void receive(struct uart *u, uint8_t b)
{
    if (!fifo_room(u)) {
        u->line_err |= UART_LSR_OE;
        return;
    }
    u->fifo[(u->head + u->count) % FIFO_SIZE] = b;
    u->count++;
}

/* Takes the oldest byte; 0 when there is none. */
static uint8_t take(struct uart *u)
{
    uint8_t b = 0;

    if (u->count) {
        b = u->fifo[u->head];
        u->head = (u->head + 1) % FIFO_SIZE;
        u->count--;
    }
    return b;
}

/* ---- output; lock held ---- */

/* Hands what was kept back to the stream. */
static void out_flush(struct uart *u)
{
    if (u->nout)
        chario_write(u->io, u->out, u->nout);
    u->nout = 0;
}

/* Has the timer flush soon; false: there is none. */
static bool out_later(struct uart *u)
{
    const struct itimerspec soon = {.it_value = {.tv_nsec = FLUSH_NS}};

    if (!u->armed)
        u->armed = u->timer.fd >= 0 && !timerfd_settime(u->timer.fd, 0, &soon, NULL);
    return u->armed;
}

/* Sends a byte to the outside. */
static void out_byte(struct uart *u, uint8_t b)
{
    u->out[u->nout++] = b;
    if (b == '\n' || u->nout == OUT_MAX || !out_later(u))
        out_flush(u);
}

/* The timer, on io0, lock not held. */
static void flush_due(void *arg, uint32_t revents)
{
    struct uart *u = arg;
    uint64_t n;

    (void)revents;
    pthread_mutex_lock(&u->lock);
    if (read(u->timer.fd, &n, sizeof(n)) == (ssize_t)sizeof(n)) {
        u->armed = false;
        out_flush(u);
    }
    pthread_mutex_unlock(&u->lock);
}

/* ---- registers; lock held ---- */

/* Modem status: a line that is always up, or in loopback what modem control says. */
static uint8_t modem_lines(const struct uart *u)
{
    uint8_t m = 0;

    if (!(u->mcr & UART_MCR_LOOP))
        return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
    m |= u->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0;
    m |= u->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0;
    m |= u->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0;
    m |= u->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0;
    return m;
}

/* Sets modem control and notes which modem lines changed. */
static void write_mcr(struct uart *u, uint8_t v)
{
    uint8_t before = modem_lines(u), changed;

    u->mcr = v & (UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_OUT1 | UART_MCR_RTS | UART_MCR_DTR);
    changed = before ^ modem_lines(u);
    u->msr_delta |= changed & UART_MSR_CTS ? UART_MSR_DCTS : 0;
    u->msr_delta |= changed & UART_MSR_DSR ? UART_MSR_DDSR : 0;
    u->msr_delta |= changed & UART_MSR_DCD ? UART_MSR_DDCD : 0;
    u->msr_delta |= changed & before & UART_MSR_RI ? UART_MSR_TERI : 0;
}

/* Sets FIFO control.  Other bits count only together with the enable bit; switching the FIFOs on
 * or off empties them. */
static void write_fcr(struct uart *u, uint8_t v)
{
    if ((u->fcr ^ v) & UART_FCR_ENABLE_FIFO)
        u->count = 0;
    if (!(v & UART_FCR_ENABLE_FIFO)) {
        u->fcr = 0;
        return;
    }
    if (v & UART_FCR_CLEAR_RCVR)
        u->count = 0;
    u->fcr = v & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK);
}

/* Sends a byte. */
static void transmit(struct uart *u, uint8_t b)
{
    if (u->mcr & UART_MCR_LOOP)
        receive(u, b);
    else
        out_byte(u, b);
    u->empty_due = true;
}

/* Interrupt identification, highest cause first; reading clears the transmitter's. */
static uint8_t read_iir(struct uart *u)
{
    uint8_t c = causes(u);
    uint8_t v = u->fcr & UART_FCR_ENABLE_FIFO ? 0xc0 : 0;

    if (c & CAUSE_LINE)
        return v | UART_IIR_RLSI;
    if (c & CAUSE_DATA)
        return v | UART_IIR_RDI;
    if (c & CAUSE_TIMEOUT)
        return v | UART_IIR_RX_TIMEOUT;
    if (c & CAUSE_EMPTY) {
        u->empty_due = false;
        return v | UART_IIR_THRI;
    }
    return v | (c & CAUSE_MODEM ? UART_IIR_MSI : UART_IIR_NO_INT);
}

/* Reads one register. */
static uint8_t reg_read(struct uart *u, unsigned reg)
{
    uint8_t v;

    if (reg <= UART_DLM && (u->lcr & UART_LCR_DLAB))
        return u->divisor[reg];
    switch (reg) {
    case UART_RX:
        return take(u);
    case UART_IER:
        return u->ier;
    case UART_IIR:
        return read_iir(u);
    case UART_LCR:
        return u->lcr;
    case UART_MCR:
        return u->mcr;
    case UART_LSR:
        v = UART_LSR_TEMT | UART_LSR_THRE | u->line_err | (u->count ? UART_LSR_DR : 0);
        u->line_err = 0;
        return v;
    case UART_MSR:
        v = modem_lines(u) | u->msr_delta;
        u->msr_delta = 0;
        return v;
    default:
        return u->scr;
    }
}

/* Writes one register. */
static void reg_write(struct uart *u, unsigned reg, uint8_t v)
{
    if (reg <= UART_DLM && (u->lcr & UART_LCR_DLAB)) {
        u->divisor[reg] = v;
        return;
    }
    switch (reg) {
    case UART_TX:
        transmit(u, v);
        break;
    case UART_IER:
        if (v & ~u->ier & UART_IER_THRI)
            u->empty_due = true; /* enabling it finds the transmitter empty */
        u->ier = v & 0x0f;
        break;
    case UART_FCR:
        write_fcr(u, v);
        break;
    case UART_LCR:
        u->lcr = v;
        break;
    case UART_MCR:
        write_mcr(u, v);
        break;
    case UART_SCR:
        u->scr = v;
        break;
    default: /* line and modem status are read-only */
        break;
    }
}

/* ---- the world ---- */

/* True once when input was refused and there is room now.  Lock held. */
static bool room_again(struct uart *u)
{
    bool again = u->refused && fifo_room(u) && !(u->mcr & UART_MCR_LOOP);

    if (again)
        u->refused = false;
    return again;
}

/* Port reads; a wide access is bytes at consecutive ports. */
static void uart_read(void *dev, uint64_t off, void *data, unsigned len)
{
    struct uart *u = dev;
    uint8_t *p = data;
    bool more;

    pthread_mutex_lock(&u->lock);
    for (unsigned i = 0; i < len; i++)
        p[i] = reg_read(u, (unsigned)off + i);
    update_line(u);
    more = room_again(u);
    pthread_mutex_unlock(&u->lock);
    if (more)
        chario_more(u->io);
}

/* Port writes. */
static void uart_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    struct uart *u = dev;
    const uint8_t *p = data;
    bool more;

    pthread_mutex_lock(&u->lock);
    for (unsigned i = 0; i < len; i++)
        reg_write(u, (unsigned)off + i, p[i]);
    update_line(u);
    more = room_again(u);
    pthread_mutex_unlock(&u->lock);
    if (more)
        chario_more(u->io);
}

/* Bytes for the guest, on io0: takes what the FIFO has room for. */
static size_t uart_input(void *arg, const uint8_t *p, size_t n)
{
    struct uart *u = arg;
    size_t took = 0;

    pthread_mutex_lock(&u->lock);
    if (!(u->mcr & UART_MCR_LOOP))
        while (took < n && fifo_room(u))
            receive(u, p[took++]);
    u->refused = took < n;
    update_line(u);
    pthread_mutex_unlock(&u->lock);
    return took;
}

/* ctrl-a x was typed, on io0. */
static void uart_quit(void *arg)
{
    struct uart *u = arg;

    if (u->quit)
        u->quit(u->quit_arg);
}

/* Makes the timer of the output and has io0 watch it. */
static void start_timer(struct uart *u)
{
    u->timer = (struct evsrc){.fd = evloop_timerfd(0, 0), .ready = flush_due, .arg = u};
    if (u->timer.fd >= 0 && !evloop_add(u->loop, &u->timer, EPOLLIN))
        return;
    if (u->timer.fd >= 0)
        close(u->timer.fd);
    u->timer.fd = -1;
}

struct uart *uart_new(const struct dev_host *host, struct chario *io, void (*quit)(void *arg),
                      void *quit_arg)
{
    struct uart *u = xcalloc(1, sizeof(*u));
    int r;

    u->irq = host->irq;
    u->io = io;
    u->loop = host->io;
    u->quit = quit;
    u->quit_arg = quit_arg;
    u->divisor[0] = 12; /* 9600 baud, as firmware leaves it */
    u->empty_due = true;
    pthread_mutex_init(&u->lock, NULL);
    start_timer(u);
    bus_add(host->pio, COM1_PORT, NPORTS, &uart_ops, u, "com1");
    r = chario_start(io, host->io, uart_input, uart_quit, u);
    if (r)
        log_warn("com1: no input, the event loop refuses the console: %s", strerror(-r));
    return u;
}

void uart_free(struct uart *u)
{
    if (!u)
        return;
    out_flush(u);
    evloop_del(u->loop, &u->timer);
    if (u->timer.fd >= 0)
        close(u->timer.fd);
    chario_free(u->io);
    pthread_mutex_destroy(&u->lock);
    free(u);
}

static const struct bus_ops uart_ops = {.read = uart_read, .write = uart_write};
