#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t01_shape.sh: the lab is the machine that was asked for: nodes, CPUs of each, memory, distances;
# KVM works there with nested paging; what is shared is there and read-only, /out is kept, an exit
# status comes back.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# shellcheck disable=SC2016 # for the shell in there
# in_lab: runs in the lab; prints one line for each fact, compared below.
in_lab='
	for node in /sys/devices/system/node/node[0-9]*; do
		echo "$(basename $node) cpus $(cat $node/cpulist) dist $(cat $node/distance)" \
			"mem_ok $(awk "/MemTotal/ { print (\$4 > 350000 && \$4 <= 524288) }" $node/meminfo)"
	done
	echo "npt $(cat /sys/module/kvm_amd/parameters/npt)"
	[ -c /dev/kvm ] && [ -w /dev/kvm ] && echo "kvm yes"
	echo "balancing $(cat /proc/sys/kernel/numa_balancing) clock $(cat /sys/devices/system/clocksource/*0/current_clocksource)"
	ls -1 /lab/guest-vmlinuz /lab/guest-vmlinux /lab/guest-busybox.cpio.gz
	touch /repo/written 2>/dev/null && echo "repo is writable"
	touch /usr/bin/written 2>/dev/null && echo "usr is writable"
	/usr/bin/env true && echo "programs run"
	ip -o link show lo | grep -q UP && echo "lo up"
	echo kept >/out/file
	exit 42'
want='node0 cpus 0-1 dist 10 20 31 mem_ok 1
node1 cpus 2-3 dist 20 10 20 mem_ok 1
node2 cpus 4-5 dist 31 20 10 mem_ok 1
npt Y
kvm yes
balancing 0 clock tsc
/lab/guest-busybox.cpio.gz
/lab/guest-vmlinux
/lab/guest-vmlinuz
programs run
lo up'

got=$(lab/run.sh --nodes 3 --mem 512 --dist-matrix "10 20 31, 20 10 20, 31 20 10" --out "$out" -- "$in_lab")
status=$?
failed=0
if [ "$got" != "$want" ]; then
	diff <(echo "$want") <(echo "$got")
	failed=1
fi
[ $status = 42 ] || { echo "status $status, not 42" && failed=1; }
[ "$(cat "$out/file" 2>/dev/null)" = kept ] || { echo "/out/file was not kept" && failed=1; }

# The other ways it may end.
lab/run.sh --quiet --nodes 1 --mem 512 --timeout 2 -- 'sleep 60' >/dev/null 2>&1
status=$?
[ $status = 124 ] || { echo "time limit: status $status, not 124" && failed=1; }
lab/run.sh --quiet --nodes 1 --mem 512 -- 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger' >/dev/null 2>&1
status=$?
[ $status = 125 ] || { echo "kernel panic: status $status, not 125" && failed=1; }
exit $failed
