/* SPDX-License-Identifier: MIT */
/*
 * clockcheck: does time ever go backwards from one CPU to another?
 *
 * Use: clockcheck SECONDS.  One thread on each CPU reads CLOCK_MONOTONIC and the TSC in bursts, each time after it
 * has read the latest value that any thread saw: a smaller value is a step backwards.  Between bursts it unmaps a
 * page, which makes the kernel interrupt the CPUs of the other threads.
 * Prints "CLOCK threads N samples N backwards N tsc_backwards N worst_ns N"; the status is 0 when there were none.
 * Invariant: the latest value is read (acquire) before the own one, so an honest clock cannot give less.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum { MAX_CPUS = 256, BURST = 200, PAUSE_NS = 20000000 };

static _Atomic uint64_t latest_ns, latest_tsc; /* the greatest values any thread saw */
static _Atomic uint64_t samples, backwards, tsc_backwards, worst_ns;
static uint64_t end_ns; /* constant while threads run */

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t tsc(void)
{
	unsigned cpu;

	return __rdtscp(&cpu);
}

/* Raises *max to v if it is less. */
static void raise_to(_Atomic uint64_t *max, uint64_t v)
{
	uint64_t old = atomic_load(max);

	while (old < v && !atomic_compare_exchange_weak(max, &old, v))
		;
}

/* One look at both clocks. */
static uint64_t sample(void)
{
	uint64_t before = atomic_load(&latest_ns), t = now();
	uint64_t tsc_before = atomic_load(&latest_tsc), c;

	_mm_lfence();
	c = tsc();
	if (t < before) {
		atomic_fetch_add(&backwards, 1);
		raise_to(&worst_ns, before - t);
	}
	if (c < tsc_before)
		atomic_fetch_add(&tsc_backwards, 1);
	raise_to(&latest_ns, t);
	raise_to(&latest_tsc, c);
	return t;
}

static void *thread(void *arg)
{
	const struct timespec rest = {.tv_nsec = PAUSE_NS};
	cpu_set_t set;
	uint64_t t = 0;

	CPU_ZERO(&set);
	CPU_SET((int)(intptr_t)arg, &set);
	sched_setaffinity(0, sizeof(set), &set);
	while (t < end_ns) {
		char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (page != MAP_FAILED)
			*page = 1;
		for (int i = 0; i < BURST; i++)
			t = sample();
		atomic_fetch_add(&samples, BURST);
		if (page != MAP_FAILED)
			munmap(page, 4096);
		nanosleep(&rest, NULL);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t id[MAX_CPUS];

	if (n > MAX_CPUS)
		n = MAX_CPUS;
	end_ns = now() + strtoull(argc > 1 ? argv[1] : "10", NULL, 10) * 1000000000u;
	for (long i = 0; i < n; i++)
		pthread_create(&id[i], NULL, thread, (void *)(intptr_t)i);
	for (long i = 0; i < n; i++)
		pthread_join(id[i], NULL);
	printf("CLOCK threads %ld samples %lu backwards %lu tsc_backwards %lu worst_ns %lu\n", n, samples, backwards,
	       tsc_backwards, worst_ns);
	return backwards || tsc_backwards;
}
