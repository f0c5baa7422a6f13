# SPDX-License-Identifier: MIT
#
# bench.mk: the experiments, for the Makefile at the root.  Each writes docs/results/NAME.{json,svg,md}.
#
#   bench-boot    boot time, CPU time, exits and private memory beside QEMU; BOOT_REPS=5 boots of each

BENCH_BOOT := $(B)/bench/boot
BENCH_LIB  := $(B)/bench/lib/result.o $(B)/bench/lib/bars.o
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

-include $(wildcard $(B)/bench/*/*.d)
