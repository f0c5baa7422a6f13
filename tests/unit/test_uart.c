/* SPDX-License-Identifier: MIT */
/*
 * The 16550: registers as Linux's driver probes them, FIFO and back-pressure, interrupts as
 * edges, loopback, output by lines.  The output is a socket that keeps messages apart, so a read
 * gives what one system call wrote.  The interrupt pin is a stub that counts rising edges.
 */
#include <linux/serial_reg.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/evloop.h"
#include "vmm/device/chario.h"
#include "vmm/device/host.h"
#include "vmm/device/legacy.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/irq.h"

/* What a test works on. */
struct rig {
    struct bus pio;
    struct evloop loop;
    struct dev_host host;
    struct uart *u;
    int in, out; /* our ends: write guest input, read guest output */
    unsigned quits;
};

static unsigned edges; /* rising edges seen */
static bool level;     /* of the pin */

/* Stands in for the interrupt controllers. */
void irq_gsi(struct irqchip *ic, unsigned pin, bool lvl)
{
    (void)ic;
    assert_int_equal(pin, LEGACY_COM1_PIN);
    edges += lvl && !level;
    level = lvl;
}

static uint8_t in(struct rig *r, unsigned reg)
{
    uint8_t v;

    assert_true(bus_read(&r->pio, COM1_PORT + reg, &v, 1));
    return v;
}

static void out(struct rig *r, unsigned reg, uint8_t v)
{
    assert_true(bus_write(&r->pio, COM1_PORT + reg, &v, 1));
}

/* Edges since the last call. */
static unsigned new_edges(void)
{
    unsigned n = edges;

    edges = 0;
    return n;
}

static void on_quit(void *arg)
{
    struct rig *r = arg;

    r->quits++;
}

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    int a[2], b[2];

    assert_int_equal(pipe(a), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, b), 0);
    assert_int_equal(evloop_init(&r->loop, NULL), 0);
    r->host.pio = &r->pio;
    r->host.io = &r->loop;
    r->in = a[1];
    r->out = b[0];
    fcntl(r->out, F_SETFL, O_NONBLOCK);
    edges = 0;
    level = false;
    r->u = uart_new(&r->host, chario_new(CHARIO_STREAM, a[0], b[1], false), on_quit, r);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;

    uart_free(r->u);
    evloop_exit(&r->loop);
    close(r->in);
    close(r->out);
    free(r);
    return 0;
}

/* Types s and runs the loop until nothing more moves. */
static void type(struct rig *r, const char *s)
{
    assert_int_equal(write(r->in, s, strlen(s)), strlen(s));
    for (int i = 0; i < 4; i++)
        evloop_once(&r->loop, 0);
}

/* The registers hold what hardware holds, and Linux finds a plain 16550A. */
static void test_registers(void **state)
{
    struct rig *r = *state;

    out(r, UART_SCR, 0xa5);
    assert_int_equal(in(r, UART_SCR), 0xa5);
    out(r, UART_IER, 0xff);
    assert_int_equal(in(r, UART_IER), 0x0f);
    out(r, UART_IER, 0);
    out(r, UART_LCR, UART_LCR_DLAB | 3);
    out(r, UART_DLL, 1);
    out(r, UART_DLM, 2);
    assert_int_equal(in(r, UART_DLL), 1);
    assert_int_equal(in(r, UART_DLM), 2);
    out(r, UART_LCR, 3);
    assert_int_equal(in(r, UART_IER), 0);
    assert_int_equal(in(r, UART_IIR), UART_IIR_NO_INT);
    out(r, UART_FCR, UART_FCR_ENABLE_FIFO);
    assert_int_equal(in(r, UART_IIR) >> 6, 3);
    out(r, UART_FCR, 0);
    assert_int_equal(in(r, UART_IIR) >> 6, 0);
    assert_int_equal(in(r, UART_LSR), UART_LSR_TEMT | UART_LSR_THRE);
    out(r, UART_LSR, 0xff);
    assert_int_equal(in(r, UART_LSR), UART_LSR_TEMT | UART_LSR_THRE);
    assert_int_equal(in(r, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
}

/* A wide access is bytes at consecutive ports; it never runs past the last register. */
static void test_wide(void **state)
{
    struct rig *r = *state;
    uint32_t v = 0x5a000000;

    assert_true(bus_write(&r->pio, COM1_PORT + UART_MCR, &v, 4));
    assert_int_equal(in(r, UART_SCR), 0x5a);
    assert_true(bus_read(&r->pio, COM1_PORT + UART_MCR, &v, 4));
    assert_int_equal(v >> 24, 0x5a);
}

/* What the guest sends comes out, in order. */
static void test_send(void **state)
{
    struct rig *r = *state;
    char got[64];

    for (const char *p = "hello, world\r\n"; *p; p++) {
        assert_true(in(r, UART_LSR) & UART_LSR_THRE);
        out(r, UART_TX, (uint8_t)*p);
    }
    assert_int_equal(read(r->out, got, sizeof(got)), 14);
    assert_memory_equal(got, "hello, world\r\n", 14);
}

/* Sends a text. */
static void say(struct rig *r, const char *text)
{
    for (const char *p = text; *p; p++)
        out(r, UART_TX, (uint8_t)*p);
}

/* What one system call brought out, waiting for io0 at most a second; its length. */
static ssize_t heard(struct rig *r, char *got, size_t cap)
{
    ssize_t n = read(r->out, got, cap);

    for (int i = 0; n < 0 && i < 1000; i++) {
        evloop_once(&r->loop, 10);
        n = read(r->out, got, cap);
    }
    return n;
}

/* A line leaves at its end, by one system call; what does not end, a little later. */
static void test_lines(void **state)
{
    struct rig *r = *state;
    char got[1024], line[601];

    say(r, "hello\r\nlog");
    assert_int_equal(read(r->out, got, sizeof(got)), 7);
    assert_memory_equal(got, "hello\r\n", 7);
    assert_int_equal(read(r->out, got, sizeof(got)), -1);
    say(r, "in: ");
    assert_int_equal(heard(r, got, sizeof(got)), 7);
    assert_memory_equal(got, "login: ", 7);
    memset(line, 'x', 600); /* longer than what is kept back */
    line[600] = 0;
    say(r, line);
    assert_int_equal(read(r->out, got, sizeof(got)), 256);
    assert_int_equal(read(r->out, got, sizeof(got)), 256);
    assert_int_equal(heard(r, got, sizeof(got)), 88);
    say(r, "y"); /* the timer can be armed again */
    assert_int_equal(heard(r, got, sizeof(got)), 1);
}

/* The last bytes before the end are not lost, though io0 does not run any more. */
static void test_last_bytes(void **state)
{
    struct rig *r = *state;
    char got[16];

    say(r, "bye");
    uart_free(r->u);
    r->u = NULL;
    assert_int_equal(read(r->out, got, sizeof(got)), 3);
    assert_memory_equal(got, "bye", 3);
}

enum { RACE_BYTES = 60000 };

/* Byte i of the race: a line ends now and then. */
static uint8_t race_byte(unsigned i)
{
    return i % 97 == 96 ? '\n' : (uint8_t)('a' + i % 26);
}

/* A vCPU that sends. */
static void *race_vcpu(void *arg)
{
    struct rig *r = arg;

    for (unsigned i = 0; i < RACE_BYTES; i++) {
        uint8_t b = race_byte(i);

        bus_write(&r->pio, COM1_PORT + UART_TX, &b, 1);
        if (i % 5000 == 4999)
            usleep(1500); /* the timer gets its turn in the middle of a line */
    }
    return NULL;
}

/* Lines and timer on two threads: all bytes come, in order. */
static void test_race(void **state)
{
    struct rig *r = *state;
    unsigned n = 0;
    char got[512];
    pthread_t t;

    assert_int_equal(pthread_create(&t, NULL, race_vcpu, r), 0);
    while (n < RACE_BYTES) {
        ssize_t len = heard(r, got, sizeof(got));

        assert_true(len > 0);
        for (ssize_t i = 0; i < len; i++)
            assert_int_equal((uint8_t)got[i], race_byte(n++));
    }
    pthread_join(t, NULL);
    assert_int_equal(n, RACE_BYTES);
}

/* The transmitter interrupt: on enabling, after each byte, cleared by reading IIR. */
static void test_thre(void **state)
{
    struct rig *r = *state;

    out(r, UART_MCR, UART_MCR_OUT2);
    assert_int_equal(new_edges(), 0);
    out(r, UART_IER, UART_IER_THRI);
    assert_int_equal(new_edges(), 1);
    assert_int_equal(in(r, UART_IIR), UART_IIR_THRI);
    assert_false(level);
    assert_int_equal(in(r, UART_IIR), UART_IIR_NO_INT);
    out(r, UART_IER, 0);
    out(r, UART_IER, UART_IER_THRI); /* Linux tests for this */
    assert_int_equal(new_edges(), 1);
    assert_int_equal(in(r, UART_IIR), UART_IIR_THRI);
    out(r, UART_TX, 'a');
    assert_int_equal(new_edges(), 1);
    out(r, UART_TX, 'b'); /* still pending: no new edge */
    assert_int_equal(new_edges(), 0);
    assert_true(level);
    out(r, UART_IER, 0);
    assert_false(level);
}

/* OUT2 gates the line, and raising it with something pending is an edge. */
static void test_gate(void **state)
{
    struct rig *r = *state;

    out(r, UART_IER, UART_IER_THRI);
    assert_int_equal(new_edges(), 0);
    out(r, UART_MCR, UART_MCR_OUT2);
    assert_int_equal(new_edges(), 1);
    out(r, UART_MCR, 0);
    assert_false(level);
}

/* A new cause while the line is high makes a new edge. */
static void test_second_cause(void **state)
{
    struct rig *r = *state;

    out(r, UART_FCR, UART_FCR_ENABLE_FIFO);
    out(r, UART_MCR, UART_MCR_OUT2);
    out(r, UART_IER, UART_IER_THRI | UART_IER_RDI);
    assert_int_equal(new_edges(), 1);
    type(r, "x");
    assert_int_equal(new_edges(), 1);
    assert_int_equal(in(r, UART_IIR) & 0x0f, UART_IIR_RDI);
    assert_int_equal(in(r, UART_RX), 'x');
    assert_int_equal(in(r, UART_IIR) & 0x0f, UART_IIR_THRI);
    assert_false(level);
}

/* Trigger level: time-out below, data from there on. */
static void test_trigger(void **state)
{
    struct rig *r = *state;

    out(r, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_8);
    out(r, UART_MCR, UART_MCR_OUT2);
    out(r, UART_IER, UART_IER_RDI);
    type(r, "1234567");
    assert_int_equal(in(r, UART_IIR) & 0x0f, UART_IIR_RX_TIMEOUT);
    type(r, "8");
    assert_int_equal(in(r, UART_IIR) & 0x0f, UART_IIR_RDI);
    for (int c = '1'; c <= '8'; c++)
        assert_int_equal(in(r, UART_RX), c);
    assert_int_equal(in(r, UART_IIR) & 0x0f, UART_IIR_NO_INT);
    assert_int_equal(in(r, UART_RX), 0);
    assert_false(level);
}

/* More input than the FIFO holds waits and loses nothing, with FIFOs and without. */
static void test_backpressure(void **state)
{
    struct rig *r = *state;
    char text[3001];
    unsigned got = 0;

    for (unsigned i = 0; i < sizeof(text) - 1; i++)
        text[i] = (char)('a' + i % 26);
    text[sizeof(text) - 1] = 0;
    type(r, text);
    for (unsigned turns = 0; got < sizeof(text) - 1 && turns < 10000; turns++) {
        if (turns == 100)
            out(r, UART_FCR, UART_FCR_ENABLE_FIFO); /* empties the FIFO: one byte lost */
        got += turns == 100;
        while (in(r, UART_LSR) & UART_LSR_DR)
            assert_int_equal(in(r, UART_RX), text[got++]);
        evloop_once(&r->loop, 0);
    }
    assert_int_equal(got, sizeof(text) - 1);
    assert_int_equal(in(r, UART_LSR) & UART_LSR_OE, 0);
}

/* Loopback: bytes come back, none leaves; modem lines follow; overrun is told once. */
static void test_loopback(void **state)
{
    struct rig *r = *state;
    char c;

    out(r, UART_FCR, UART_FCR_ENABLE_FIFO);
    in(r, UART_MSR);
    out(r, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS); /* as autoconfig() does */
    assert_int_equal(in(r, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
    assert_int_equal(in(r, UART_MSR) & 0x0f, 0);
    for (int i = 0; i < 17; i++)
        out(r, UART_TX, (uint8_t)i);
    assert_true(in(r, UART_LSR) & UART_LSR_OE);
    assert_false(in(r, UART_LSR) & UART_LSR_OE);
    type(r, "z"); /* the outside waits */
    for (int i = 0; i < 16; i++)
        assert_int_equal(in(r, UART_RX), i);
    assert_int_equal(read(r->out, &c, 1), -1);
    out(r, UART_MCR, 0);
    type(r, "");
    assert_int_equal(in(r, UART_RX), 'z');
    assert_true(in(r, UART_MSR) & (UART_MSR_DDSR | UART_MSR_DDCD));
}

/* Line errors come first in the identification. */
static void test_priority(void **state)
{
    struct rig *r = *state;

    out(r, UART_MCR, UART_MCR_LOOP);
    out(r, UART_IER, 0x0f);
    in(r, UART_MSR);
    out(r, UART_TX, 1);
    out(r, UART_TX, 2);
    assert_int_equal(in(r, UART_IIR), UART_IIR_RLSI);
    in(r, UART_LSR);
    assert_int_equal(in(r, UART_IIR), UART_IIR_RDI);
    in(r, UART_RX);
    assert_int_equal(in(r, UART_IIR), UART_IIR_THRI);
    out(r, UART_MCR, UART_MCR_LOOP | UART_MCR_RTS);
    assert_int_equal(in(r, UART_IIR), UART_IIR_MSI);
    in(r, UART_MSR);
    assert_int_equal(in(r, UART_IIR), UART_IIR_NO_INT);
}

/* Random port accesses of all widths never break anything. */
static void test_random(void **state)
{
    struct rig *r = *state;
    char sink[4096];

    srand(1);
    for (int i = 0; i < 20000; i++) {
        unsigned len = 1u << (rand() % 3), off = (unsigned)rand() % (9 - len);
        uint32_t v = (uint32_t)rand();

        if (rand() & 1)
            bus_write(&r->pio, COM1_PORT + off, &v, len);
        else
            bus_read(&r->pio, COM1_PORT + off, &v, len);
        if (i % 64 == 0)
            while (read(r->out, sink, sizeof(sink)) > 0)
                ;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wide, setup, teardown),
        cmocka_unit_test_setup_teardown(test_send, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_last_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_race, setup, teardown),
        cmocka_unit_test_setup_teardown(test_thre, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_cause, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trigger, setup, teardown),
        cmocka_unit_test_setup_teardown(test_backpressure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_loopback, setup, teardown),
        cmocka_unit_test_setup_teardown(test_priority, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random, setup, teardown),
    };

    return cmocka_run_group_tests_name("uart", tests, NULL, NULL);
}
