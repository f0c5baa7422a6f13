#!/bin/bash
# SPDX-License-Identifier: MIT
#
# boot.sh: the experiment bench/boot: how fast a guest starts and what its VMM costs, beside QEMU.
#
# Use:      make bench-boot; or boot.sh DIRECTORY with B (build directory) and BOOT_REPS (5) in the environment
# Gives:    DIRECTORY/boot.json, boot.svg, boot.md. About five minutes on a quiet machine.
# Needs:    the programs bench.mk builds; /dev/kvm for the native part, which is left out without it.
# Holds:    every measurement is in turn with those it is compared to; a VMM that takes more than 60 s is ended and
#           counted as not measured.
set -euo pipefail
cd "$(dirname "$0")/../.."
B=${B:-build}
reps=${BOOT_REPS:-5}
results=$1
tools=$(cd "$B/bench/boot" && pwd -P)
disco=$(cd "$B" && pwd -P)/disco
raw=$tools/raw
# shellcheck disable=SC2054 # the commas are QEMU's
qemu=(/usr/bin/qemu-system-x86_64 -nodefaults -no-user-config -display none -serial stdio -m 256M -smp 1 -accel kvm
	-cpu max -device isa-debug-exit,iobase=0xf4,iosize=1)
microvm=microvm,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=on
q35=q35,usb=off,smbus=off,sata=off,vmport=off,hpet=off

# start VMM COMMAND...: one start of the tiny guest.
start() {
	local vmm=$1
	shift
	"$tools/runvmm" --text '!' --limit 60 --label part=start --label "vmm=$vmm" --label vcpus=1 \
		--out "$raw/start.jsonl" -- "$@" 2>/dev/null || echo "  $vmm: nothing in 60 s"
}

# The tiny guest on this machine's own KVM.
native() {
	local i
	: >"$raw/start.jsonl"
	if [ ! -w /dev/kvm ]; then
		echo "bench/boot: no /dev/kvm here: no native part"
		return
	fi
	cat >"$raw/halt.cfg" <<-END
		kernel = "$tools/halt";
		boot = "multiboot";
		memory = "256M";
		console = "stdio";
		debug_exit = true;
		rng = false;
		balloon = false;
	END
	echo "bench/boot: a guest that halts at once, on this machine's KVM"
	for ((i = 0; i < 25; i++)); do
		for _ in 1 2; do start disco "$disco" run --json "$raw/halt.cfg"; done
		start microvm-reset "${qemu[@]}" -M $microvm -bios "$tools/reset.bin"
		start q35-reset "${qemu[@]}" -M $q35 -bios "$tools/reset.bin"
		start microvm "${qemu[@]}" -M $microvm -kernel "$tools/halt"
		# The firmware of a q35 machine takes seconds where KVM emulates it.
		((i % 8)) || start q35 "${qemu[@]}" -M $q35 -kernel "$tools/halt"
	done
}

mkdir -p "$raw" "$results"
rm -f "$raw"/*.jsonl
native
echo "bench/boot: Linux in the lab, $reps times each"
lab/run.sh --nodes 1 --cpus-per-node 2 --mem 2048 --timeout 900 --out "$raw" -- bash bench/boot/lab.sh "$reps"
"$tools/report" "$raw" "$results" "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
cat "$results/boot.md"
