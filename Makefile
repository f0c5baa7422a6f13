# SPDX-License-Identifier: MIT
#
# Builds disco, runs its tests and its demonstration.
#
#   make              the program, build/disco
#   make demo         four Debian guests on a NUMA machine (emulated where there is none)
#   make check        all tests: unit, guest (tiny guests on /dev/kvm), lab (emulated machine)
#   make lint         format, cppcheck, clang-tidy
#   make lab          a shell in the emulated NUMA machine; make lab-test runs its tests
#   make bench-boot   boot time and memory beside QEMU, into docs/results
#   make memsys-check the lab's model of caches and memories, held against known answers (memsys-build builds it)
#   make install      into $(DESTDIR)$(PREFIX); make uninstall takes it away
#   make clean
#
# SANITIZER=address|undefined|thread instruments everything (best with its own B=build-asan).

B         ?= build
CC        ?= gcc
PREFIX    ?= /usr/local
SANITIZER ?=
VERSION   := $(shell cat VERSION)

, := ,
PKGS   := hwloc libconfig liburing jansson
CFLAGS ?= -O2 -g
WARN   := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual \
          -Wwrite-strings -Wundef -Wvla -Werror
SAN    := $(if $(SANITIZER),-fsanitize=$(SANITIZER) -fno-omit-frame-pointer)
DEFS   := -D_GNU_SOURCE -DDISCO_VERSION='"$(VERSION)"'
ALL    := -std=gnu11 $(DEFS) -I. -I$(B)/gen $(WARN) $(SAN) $(CFLAGS) -pthread
LINK   := $(SAN) -pthread -Wl,--as-needed $(LDFLAGS)
# Small libraries become part of the program: loading them took a fifth of a guest's start.
STATIC := $(foreach l,config uring jansson numa,\
            $(if $(wildcard $(shell $(CC) -print-file-name=lib$l.a)),-l$l))
LIBS    = $(if $(STATIC),-Wl$(,)-Bstatic $(STATIC) -Wl$(,)-Bdynamic) \
          $(shell pkg-config --libs $(PKGS)) -ldl -lnuma

SRC  := $(sort $(wildcard base/*.c numa/*.c memshare/*.c sched/*.c vmm/*/*.c))
OBJ  := $(SRC:%.c=$(B)/%.o)
UNIT := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/unit/test_*.c)))
FUZZ := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all deps demo check unit fuzz lint install uninstall clean
all: $(B)/disco

-include lab/lab.mk tests/guest/guest.mk bench/bench.mk

deps:
	@tools/deps.sh build

# Objects need the packages; make sure of them before the first is compiled, once.
$(B)/.deps: tools/deps.sh
	@tools/deps.sh build
	@mkdir -p $(B)
	@touch $@

$(B)/disco: $(B)/vmm/main.o $(B)/libdisco.a
	$(CC) $(LINK) -o $@ $^ $(LIBS)

$(B)/libdisco.a: $(OBJ)
	@rm -f $@
	$(AR) rcs $@ $(OBJ)

$(B)/%.o: %.c VERSION | $(B)/.deps
	@mkdir -p $(@D)
	$(CC) $(ALL) -MMD -MP -c -o $@ $<

$(B)/gen/%.h: vmm/boot/%.asl | $(B)/.deps
	@mkdir -p $(@D)
	@iasl -vs -p $(B)/gen/$* -tc $< >$(B)/gen/$*.log 2>&1 || { cat $(B)/gen/$*.log; exit 1; }
	sed -e 's/unsigned char/static const unsigned char/' $(B)/gen/$*.hex > $@

$(B)/vmm/boot/acpi.o: $(B)/gen/dsdt.h $(B)/gen/pci.h

$(B)/tests/%: tests/%.c $(B)/libdisco.a
	@mkdir -p $(@D)
	$(CC) $(ALL) -MMD -MP $(LINK) -o $@ $< $(B)/libdisco.a $(LIBS) -lcmocka

unit: $(UNIT)
	@tests/unit/run.sh $(UNIT)

fuzz: $(FUZZ)
	@for f in $(FUZZ); do echo $$f; $$f || exit 1; done

check:
	@tools/deps.sh build check lab
	@$(MAKE) --no-print-directory $(B)/disco $(UNIT) $(FUZZ)
	@B=$(B) tests/check.sh

demo: $(B)/disco
	@B=$(B) tools/demo.sh

lint:
	@tools/lint.sh

install: $(B)/disco $(B)/disco.1 $(B)/disco.cfg.5
	install -D -m 755 $(B)/disco $(DESTDIR)$(PREFIX)/bin/disco
	install -D -m 644 $(B)/disco.1 $(DESTDIR)$(PREFIX)/share/man/man1/disco.1
	install -D -m 644 $(B)/disco.cfg.5 $(DESTDIR)$(PREFIX)/share/man/man5/disco.cfg.5
	install -D -m 644 configs/example.cfg $(DESTDIR)$(PREFIX)/share/doc/disco/example.cfg

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/disco $(DESTDIR)$(PREFIX)/share/man/man1/disco.1 \
	      $(DESTDIR)$(PREFIX)/share/man/man5/disco.cfg.5
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/disco

$(B)/disco.1: docs/disco.1.in $(B)/disco
	sed -e 's/@VERSION@/$(VERSION)/' $< > $@

# The keys come from the table that the parser uses.
$(B)/disco.cfg.5: docs/disco.cfg.5.in $(B)/disco
	sed -e 's/@VERSION@/$(VERSION)/' $< > $@
	$(B)/disco check --schema=man >> $@

clean:
	rm -rf $(B)

-include $(OBJ:.o=.d) $(B)/vmm/main.d $(UNIT:=.d) $(FUZZ:=.d)
