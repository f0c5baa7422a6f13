# SPDX-License-Identifier: MIT
#
# guest.mk: tiny guests of our own; included by the Makefile at the root.
#
#   guest-kernels   builds tests/guest/kernels/*.c, 32-bit kernels, into $(B)/tests/guest
#   guest-build     builds them, the user-mode programs and the C harnesses
#   guest-tests     builds and runs all: kernels under `disco run` and the C harnesses

GUEST_DIR   := tests/guest
GUEST_OUT   := $(B)/tests/guest
GUEST_CC    ?= gcc
GUEST_FLAGS := -m32 -march=i686 -mgeneral-regs-only -std=gnu11 -O1 -g -ffreestanding -fno-pic \
               -fno-stack-protector -fno-asynchronous-unwind-tables -fno-builtin -fcf-protection=none \
               -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror \
               -MMD -MP -I$(GUEST_DIR)/lib
GUEST_LINK  := -m32 -nostdlib -static -no-pie -Wl,-n,--build-id=none,--no-warn-rwx-segments,-z,noexecstack \
               -Wl,-T,$(GUEST_DIR)/lib/kernel.ld
GUEST_SRC   := $(sort $(wildcard $(GUEST_DIR)/kernels/*.c))
GUEST_ELF   := $(GUEST_SRC:$(GUEST_DIR)/kernels/%.c=$(GUEST_OUT)/%.elf)
GUEST_TEST  := $(patsubst $(GUEST_DIR)/%.c,$(GUEST_OUT)/%,$(sort $(wildcard $(GUEST_DIR)/test_*.c)))

.PHONY: guest-kernels guest-build guest-tests
guest-kernels: $(GUEST_ELF)

guest-build: $(B)/disco guest-kernels $(GUEST_OUT)/user.bin $(GUEST_OUT)/pages.bin $(GUEST_TEST)

guest-tests: guest-build
	@B=$(B) $(GUEST_DIR)/run.sh

$(GUEST_OUT)/lib/%.o: $(GUEST_DIR)/lib/%.S
	@mkdir -p $(@D)
	$(GUEST_CC) -m32 -MMD -MP -c -o $@ $<

$(GUEST_OUT)/lib/%.o: $(GUEST_DIR)/lib/%.c
	@mkdir -p $(@D)
	$(GUEST_CC) $(GUEST_FLAGS) -c -o $@ $<

$(GUEST_OUT)/kernels/%.o: $(GUEST_DIR)/kernels/%.c
	@mkdir -p $(@D)
	$(GUEST_CC) $(GUEST_FLAGS) -c -o $@ $<

$(GUEST_OUT)/%.elf: $(GUEST_OUT)/kernels/%.o $(GUEST_OUT)/lib/start.o $(GUEST_OUT)/lib/guest.o $(GUEST_DIR)/lib/kernel.ld
	$(GUEST_CC) $(GUEST_LINK) -o $@ $(filter %.o,$^)

# Programs that stay in user mode: 64-bit, flat, no library.
USER_FLAGS := -m64 -std=gnu11 -O2 -ffreestanding -fno-pic -mgeneral-regs-only -fno-stack-protector \
              -mno-red-zone -fno-asynchronous-unwind-tables -fcf-protection=none -Wall -Wextra -Wshadow -Werror -MMD -MP

$(GUEST_OUT)/user/%.o: $(GUEST_DIR)/user/%.c
	@mkdir -p $(@D)
	$(GUEST_CC) $(USER_FLAGS) -c -o $@ $<

$(GUEST_OUT)/user/%.o: $(GUEST_DIR)/user/%.S
	@mkdir -p $(@D)
	$(GUEST_CC) -m64 -MMD -MP -c -o $@ $<

$(GUEST_OUT)/user.bin: $(GUEST_OUT)/user/state.o $(GUEST_OUT)/user/user.o $(GUEST_DIR)/user/user.ld
	$(GUEST_CC) -m64 -nostdlib -static -no-pie -Wl,--build-id=none,-z,noexecstack -Wl,-T,$(GUEST_DIR)/user/user.ld \
		-o $(GUEST_OUT)/user.elf $(filter %.o,$^)
	objcopy -O binary $(GUEST_OUT)/user.elf $@

PAGES_OBJ := $(addprefix $(GUEST_OUT)/user/,pages.o pages_access.o pages_kernel.o pages_trap.o)

$(GUEST_OUT)/pages.bin: $(PAGES_OBJ) $(GUEST_DIR)/user/user.ld
	$(GUEST_CC) -m64 -nostdlib -static -no-pie -Wl,--build-id=none,-z,noexecstack -Wl,-T,$(GUEST_DIR)/user/user.ld \
		-o $(GUEST_OUT)/pages.elf $(filter %.o,$^)
	objcopy -O binary $(GUEST_OUT)/pages.elf $@

-include $(wildcard $(GUEST_OUT)/lib/*.d $(GUEST_OUT)/kernels/*.d $(GUEST_OUT)/user/*.d $(GUEST_OUT)/*.d)
