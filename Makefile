# SPDX-License-Identifier: MIT
# Builds disco.  `make`, `make check`, `make demo`, `make lab`, `make install`, `make clean`.
# B is the build directory; SANITIZER=address|undefined|thread instruments everything.

B          ?= build
CC         ?= gcc
PREFIX     ?= /usr/local
SANITIZER  ?=
PKGS       := hwloc libconfig liburing jansson
CFLAGS     ?= -O2 -g
WARN       := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual \
              -Wwrite-strings -Wundef -Wvla -Werror
SAN        := $(if $(SANITIZER),-fsanitize=$(SANITIZER) -fno-omit-frame-pointer)
ALL_CFLAGS  = -std=gnu11 -D_GNU_SOURCE -I. -I$(B)/gen $(WARN) $(SAN) $(CFLAGS) -pthread -MMD -MP \
              $(shell pkg-config --cflags $(PKGS))
LIBS        = $(shell pkg-config --libs $(PKGS)) -ldl -lnuma -pthread

SRC  := $(sort $(wildcard base/*.c numa/*.c memshare/*.c sched/*.c vmm/*/*.c))
OBJ  := $(SRC:%.c=$(B)/%.o)
UNIT := $(patsubst tests/unit/%.c,$(B)/tests/unit/%,$(sort $(wildcard tests/unit/test_*.c)))

.DELETE_ON_ERROR:
.PHONY: all clean unit
all: $(B)/disco

$(B)/disco: $(B)/vmm/main.o $(B)/libdisco.a
	$(CC) $(SAN) -o $@ $^ $(LIBS)

$(B)/libdisco.a: $(OBJ)
	rm -f $@
	$(AR) rcs $@ $^

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(B)/gen/%.h: vmm/boot/%.asl
	@mkdir -p $(@D)
	@iasl -vs -p $(B)/gen/$* -tc $< >$(B)/gen/$*.log 2>&1 || { cat $(B)/gen/$*.log; exit 1; }
	sed -e 's/unsigned char/static const unsigned char/' $(B)/gen/$*.hex > $@

$(B)/vmm/boot/acpi.o: $(B)/gen/dsdt.h $(B)/gen/pci.h

$(B)/tests/unit/%: tests/unit/%.c $(B)/libdisco.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(B)/libdisco.a $(LIBS) -lcmocka

unit: $(UNIT)
	@for t in $(UNIT); do $$t || exit 1; done

clean:
	rm -rf $(B)

-include $(OBJ:.o=.d) $(B)/vmm/main.d
