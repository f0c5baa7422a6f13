# SPDX-License-Identifier: MIT
#
# bench.mk: the experiments, for the Makefile at the root.  Each writes docs/results/NAME.{json,svg,md}.
#
#   memsys-build  the memory-system model (bench/memsys): plugin and programs
#   memsys-check  holds the model against known answers; MEMSYS_REPS=5 repetitions
#   bench-pagecost  page work beside the kernel's own, natively (bench/pagecost)
#   bench-replay  placement policies by replay (bench/replay)
#   bench-numa    modelled time of workloads by where a guest's memory is; NUMA_ARGS='--reps 1 ...' (bench/numa/numa
#                 --help); a quarter of an hour
#   bench-numa-policies   the same of policies, on two machines (numa.json); NUMA_ARGS; an hour
#   bench-boot    boot time, CPU time, exits and private memory beside QEMU; BOOT_REPS=5 boots of each

BENCH_BOOT := $(B)/bench/boot
BENCH_LIB  := $(B)/bench/lib/result.o $(B)/bench/lib/bars.o $(B)/bench/lib/host.o
BOOT_REPS  ?= 5

.PHONY: bench-boot

$(BENCH_BOOT)/runvmm: $(BENCH_BOOT)/runvmm.o
	$(CC) $(LINK) -o $@ $^ -ljansson

$(BENCH_BOOT)/report: $(BENCH_BOOT)/report.o $(BENCH_BOOT)/markdown.o $(BENCH_BOOT)/runs.o $(BENCH_LIB)
	$(CC) $(LINK) -o $@ $^ -ljansson -lm

$(BENCH_BOOT)/halt: bench/boot/halt.S bench/boot/halt.ld
	@mkdir -p $(@D)
	$(CC) -m32 -nostdlib -static -no-pie -Wl,-T,bench/boot/halt.ld -Wl,--build-id=none -o $@ $<

$(BENCH_BOOT)/reset.bin: bench/boot/reset.S
	@mkdir -p $(@D)
	$(CC) -m32 -nostdlib -static -no-pie -Wl,-Ttext=0,--oformat=binary,--build-id=none -o $@ $<

bench-boot: $(B)/disco $(addprefix $(BENCH_BOOT)/,runvmm report halt reset.bin)
	@tools/deps.sh lab
	@B='$(B)' BOOT_REPS='$(BOOT_REPS)' bench/boot/boot.sh docs/results

# The model: a plugin for the lab's emulator, programs that run in the lab and in its guests, and
# what checks all of it against known answers.
MEMSYS      := $(B)/bench/memsys
MEMSYS_LIB  := $(MEMSYS)/libmemsys.a
MEMSYS_SRC  := $(patsubst %,bench/memsys/%.c,plugin args clock decode model qemu ranges region trace) \
               numa/machine_model.c
MEMSYS_UNIT := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/unit/test_memsys*.c)))
MEMSYS_REPS ?= 5

.PHONY: memsys-build memsys-check

memsys-build: $(addprefix $(MEMSYS)/,memsys.so memsys roi cases guestload report)

memsys-check: memsys-build $(B)/disco
	@tools/deps.sh lab
	@B='$(B)' MEMSYS_REPS='$(MEMSYS_REPS)' bench/memsys/check.sh docs/results

$(MEMSYS)/memsys.so: $(MEMSYS_SRC) $(wildcard bench/memsys/*.h numa/*.h) | $(B)/.deps
	@mkdir -p $(@D)
	$(CC) $(ALL) -fPIC -shared -fvisibility=hidden -o $@ $(filter %.c,$^)

$(MEMSYS_LIB): $(patsubst %.c,$(B)/%.o,$(filter-out %/plugin.c %/clock.c,$(MEMSYS_SRC)) bench/memsys/reader.c numa/flash.c)
	@rm -f $@
	$(AR) rcs $@ $^

$(MEMSYS)/memsys: $(MEMSYS)/memsys.o $(MEMSYS_LIB)
	$(CC) $(LINK) -o $@ $^ -ljansson

$(MEMSYS)/report: $(MEMSYS)/report.o $(MEMSYS)/markdown.o $(BENCH_LIB)
	$(CC) $(LINK) -o $@ $^ -ljansson -lm

$(MEMSYS)/cases: $(patsubst %,$(MEMSYS)/%.o,cases cases_one cases_many casekit) $(MEMSYS_LIB)
	$(CC) $(LINK) -o $@ $^ -lnuma -lm

# Static: they run in guests of any userland.
$(MEMSYS)/roi $(MEMSYS)/guestload: %: %.o
	$(CC) $(LINK) -static -o $@ $^

# Their tests need what is not in the program.
$(MEMSYS_UNIT): $(B)/%: %.c $(MEMSYS_LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL) -MMD -MP $(LINK) -o $@ $< $(MEMSYS_LIB) -ldl -lcmocka

-include bench/replay/replay.mk
-include $(wildcard $(B)/bench/*/*.d)

# What memory costs a guest, by where its pages are: bench/numa/numa --help.
NUMA := $(B)/bench/numa

.PHONY: numa-build bench-numa

# Static: they run in guests of any userland.
$(addprefix $(NUMA)/,counters alternate): $(NUMA)/%: $(NUMA)/%.o
	$(CC) $(LINK) -static -o $@ $^

$(NUMA)/report: $(addprefix $(NUMA)/,report.o rows.o runs.o table.o stack.o) $(BENCH_LIB)
	$(CC) $(LINK) -o $@ $^ -ljansson -lm

$(NUMA)/policies: $(addprefix $(NUMA)/,policies.o policies_md.o rows.o runs.o stack.o) $(BENCH_LIB)
	$(CC) $(LINK) -o $@ $^ -ljansson -lm

numa-build: $(B)/disco $(addprefix $(NUMA)/,report policies counters alternate) $(addprefix $(MEMSYS)/,memsys.so memsys roi)

bench-numa: numa-build
	@tools/deps.sh lab
	@B='$(B)' bench/numa/numa --results docs/results $(NUMA_ARGS)

# What policies that move and copy pages make of it: bench/numa/numa --policies.
.PHONY: bench-numa-policies

bench-numa-policies: numa-build
	@tools/deps.sh lab
	@B='$(B)' bench/numa/numa --policies --results docs/results $(NUMA_ARGS)

# What page work costs on this host.
.PHONY: bench-pagecost

$(B)/bench/pagecost/pagecost: $(B)/bench/pagecost/pagecost.o $(BENCH_LIB) $(B)/libdisco.a
	$(CC) $(LINK) -o $@ $^ $(LIBS) -lm

bench-pagecost: $(B)/bench/pagecost/pagecost $(B)/tests/guest/pages.bin
	PAGES_BIN=$(B)/tests/guest/pages.bin $< docs/results "$$(git rev-parse --short HEAD 2>/dev/null)"
