#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t36_lesser.sh: what a host does not allow makes a pager do less, never a wrong guest: without userfaultfd, without
# sampling here, with pages that only move by copy, with a node that is full and with one whose
# CPUs go away while the guest runs. Each says one line in the log, and the guest's checksums stay right.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
POLICY=default
load=6
eager='policy_interval="20ms"; policy_set="trigger=1,sharing=1,margin=0,gate=0,cpu=300"; page_check="1s"'
nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)

# one NAME PATTERN [COMMAND...]: a guest under the command ends well; its log has the pattern in one line ('' none).
one() {
	local name=$1 pattern=$2
	shift 2
	CON=file:$T/con/$name guest "$name" vcpus=4 views=2 'nodes=[0,1]' 'memory="96M"' 'balloon=false' "$eager" "sampling_share=${share:-60}" \
		"sampling=\"${sampling:-faults}\"" "cmdline=\"console=ttyS0 quiet job=burn,log load=$load\""
	timeout -k 5 $((150 * PATIENCE)) "$@" $D run "$T/$name.cfg" --json </dev/null >"$T/$name.json" 2>"$T/$name.err"
	check "$name: ended well" is $? 0 || show "$T/$name.err"
	check "$name: checksums right" has "$T/con/$name" 'SMP cpus 4 rounds [1-9][0-9]* wrong 0 warnings 0'
	if [ -n "$pattern" ]; then
		check "$name: one line says so" is "$(grep -cE "$pattern" "$T/$name.err")" 1 || show "$T/$name.err"
	fi
	jq -c '.pages | [.policy, .why, .done.migrated, .done.replicated, .done.refused, .done.kernel_moves, .checks]' "$T/$name.json"
}

# figure NAME EXPRESSION
figure() { jq -r "$2" "$T/$1.json"; }

# Later than the guest has begun node 1 loses its CPUs, then has them again.
take_cpus() {
	wait_text "$T/con/cpuless" BURN-BEGIN 100
	for cpu in 2 3; do echo 0 >/sys/devices/system/cpu/cpu$cpu/online; done
	sleep 4
	for cpu in 2 3; do echo 1 >/sys/devices/system/cpu/cpu$cpu/online; done
}

inside() {
	local mb
	mkdir -p $T/con
	chmod 777 $T $T/con
	chmod 666 /dev/kvm
	one whole ''
	check "whole: pages are copied and moved" above "$(figure whole '[.pages.done.replicated, .pages.done.migrated] | min')" 0
	one nouffd 'policy replicate is off\): userfaultfd' "${nobody[@]}"
	check "nouffd: pages stay" is "$(figure nouffd .pages.policy)" none
	sysctl -qw vm.unprivileged_userfaultfd=1
	one nonice '' "${nobody[@]}"
	check "nonice: pages move by copy" is "$(figure nonice '.pages.done.kernel_moves, (.pages.done.migrated > 0)' | tr '\n' ' ')" "false true "
	sysctl -qw vm.unprivileged_userfaultfd=0
	sampling=flash one nosource 'policy replicate is off\): '
	sysctl -qw vm.max_map_count=400
	share=200 one fewmaps 'raise vm.max_map_count'
	sysctl -qw vm.max_map_count=65530
	check "fewmaps: pages are copied all the same" above "$(figure fewmaps .pages.done.replicated)" 0
	mb=$(awk '/MemFree/ { print int($4 / 1024) - 70 }' /sys/devices/system/node/node1/meminfo)
	mount -t tmpfs -o "size=${mb}M,mpol=bind:1" full /mnt
	dd if=/dev/zero of=/mnt/fill bs=1M count="$mb" 2>/dev/null
	one full 'node 1 has less than .*no replica'
	umount /mnt
	take_cpus &
	load=12 one cpuless 'node 1 has no CPU any more'
	check "cpuless: it has them again" is "$(grep -c 'node 1 has CPUs again' $T/cpuless.err)" 1
}

[ "$ARG" = inside ] || image
both --nodes 2 --cpus-per-node 2 --mem 512 --timeout 500
