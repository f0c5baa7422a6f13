#!/bin/bash
# SPDX-License-Identifier: MIT
#
# lab.sh: part of bench/boot, runs in the lab: boots the same Linux under disco and under QEMU, in turn.
#
# Use:      lab.sh REPS            (by boot.sh, through lab/run.sh)
# Gives:    /out/runs.jsonl, a line per boot; /out/lab.txt, what the machine is: "NAME VALUE" lines.
# Holds:    kernel, initrd, command line, memory and CPUs are the same for all; no one has a disk, a network card or
#           another device that the others lack, but for what belongs to a QEMU machine and cannot be left out.
set -uo pipefail

reps=$1
# Seconds after which no further boot of the lesser tables begins, so that a busy machine costs figures, not hours.
limit=270
tools=/build/bench/boot
words='console=ttyS0 quiet panic=-1 job=poweroff'
mem=256
qemu=(/usr/bin/qemu-system-x86_64 -nodefaults -no-user-config -display none -serial stdio -accel kvm -cpu max -m "${mem}M"
	-initrd /lab/guest-busybox.cpio.gz -append "$words")
part=boot
kernel=/lab/guest-vmlinuz

# one VMM VCPUS COMMAND...: one boot.
one() {
	local vmm=$1 vcpus=$2
	shift 2
	"$tools/runvmm" --text DISCO-GUEST-UP --ram $mem --limit 60 --sample --label "part=$part" --label "vmm=$vmm" \
		--label "vcpus=$vcpus" --out /out/runs.jsonl -- "$@" 2>/tmp/said || { echo "$vmm failed:" && tail -n 5 /tmp/said; }
	echo "  $part: $vmm, $vcpus vCPU: $(tail -n 1 /out/runs.jsonl | sed -nE 's/.*"text_ms":([0-9]+).*/\1 ms/p')"
}

# boot VMM VCPUS: the VMM's command.  The microvm options are those QEMU's manual gives for the fastest boot; without
# its clock chip Linux waits for one, so there is a variant with it.  The q35 machine loses all it can do without.
boot() {
	case $1 in
	disco)
		cat >/tmp/guest.cfg <<-END
			kernel = "$kernel";
			initrd = "/lab/guest-busybox.cpio.gz";
			cmdline = "$words";
			memory = "${mem}M";
			vcpus = $2;
			console = "stdio";
			rng = false;
			balloon = false;
		END
		one disco "$2" /build/disco run --json /tmp/guest.cfg
		;;
	microvm)
		one microvm "$2" "${qemu[@]}" -kernel $kernel -smp "$2" -M microvm,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=on
		;;
	microvm-rtc)
		one microvm-rtc "$2" "${qemu[@]}" -kernel $kernel -smp "$2" -M microvm,x-option-roms=off,pit=off,pic=off,rtc=on,isa-serial=on
		;;
	q35)
		one q35 "$2" "${qemu[@]}" -kernel $kernel -smp "$2" -M q35,usb=off,smbus=off,sata=off,vmport=off,hpet=off
		;;
	esac
}

{
	echo "cpu $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
	echo "cpus $(grep -c ^processor /proc/cpuinfo)"
	echo "kernel $(uname -r)"
	echo "guest_kernel $(cat /lab/guest/version)"
	echo "memory_mib $(($(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo) / 1024))"
	echo "qemu $(qemu-system-x86_64 --version | head -n 1)"
} >/out/lab.txt

# The first of all reads programs, libraries and kernel into memory; it does not count.
mv /out/runs.jsonl /out/old.jsonl 2>/dev/null
cat /lab/guest-vmlinux >/dev/null
for vmm in disco microvm q35; do boot $vmm 1; done
rm -f /out/runs.jsonl
for ((i = 0; i < reps; i++)); do
	for vmm in disco microvm microvm-rtc q35; do boot $vmm 1; done
done
for ((i = 0; i < reps && SECONDS < limit; i++)); do
	for vmm in disco microvm-rtc q35; do boot $vmm 2; done
done
part=boot-elf
kernel=/lab/guest-vmlinux
for ((i = 0; i < reps && SECONDS < limit; i++)); do
	for vmm in disco microvm-rtc; do boot $vmm 1; done
done
exit 0
