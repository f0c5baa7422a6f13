#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t32_pager_kernels.sh: the pager under two kernels of the host, the distribution's and Linux 6.12: its tests, every
# kind of access of a guest (also by ring 0, which runs natively here), and litmus tests of memory order with the
# broken build. Faults by threads, and on vCPUs that KVM sends away with EFAULT. Says whether KVM tells those where:
# neither kernel does for plain memory, whatever its capability says; so there the rig opens all pages in work.
#
# Use:      LITMUS_ROUNDS: outcomes of each of the four litmus tests (250000, so a million); LITMUS_ACTIONS: actions on
#           pages meanwhile, at least (1000); PAGES_SECONDS: of each kind of access in each mode (1); PAGER_KERNELS:
#           default 6.12
# Holds:    where no 6.12 kernel can be had, that part is left out and said so.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"

# harness NAME SECONDS: one of the harnesses; what it said is printed if it failed.
harness() {
	local said=/out/$KERNEL_NAME-$1.txt status began=$SECONDS
	timeout -k 5 $(($2 * PATIENCE)) "/build/tests/guest/$1" >"$said" 2>&1
	status=$?
	check "$KERNEL_NAME: $1 ($((SECONDS - began)) s)" is $status 0 || grep -v 'OK \]' "$said" | tail -n 20
}

# outcomes FILE: what all its tests looked at, but for the broken build's.
outcomes() {
	awk '/RUN/ { broken = /broken/ } / outcomes,/ && !broken { n += $1 } END { print n + 0 }' "$1"
}

inside() {
	local litmus
	KERNEL_NAME=$(uname -r | cut -d. -f1,2)
	export PAGES_SECONDS=${PAGES_SECONDS:-1} LITMUS_ROUNDS=${LITMUS_ROUNDS:-250000}
	export LITMUS_ACTIONS=${LITMUS_ACTIONS:-1000}
	# shellcheck source=/dev/null
	[ ! -e /in/env ] || . /in/env
	litmus=/out/$KERNEL_NAME-test_litmus.txt
	harness test_pager 120
	harness test_pages_access 180
	harness test_pages_kernel 180
	harness test_litmus 600
	check "$KERNEL_NAME: $(outcomes "$litmus") outcomes, none forbidden" \
		above "$(outcomes "$litmus")" $((4 * LITMUS_ROUNDS - 1))
	check "$KERNEL_NAME: a collapse that forgets a view is found" has "$litmus" 'OK \] broken_collapse_is_found'
	grep -E 'outcomes|forbidden' "$litmus"
	grep 'KVM tells' "/out/$KERNEL_NAME-test_pages_access.txt"
}

if [ "$ARG" = inside ]; then
	inside
	finish
fi
make --no-print-directory B="$B" "$B"/tests/guest/{pages.bin,test_pager,test_pages_access,test_pages_kernel,test_litmus} \
	>/dev/null || exit 1
for name in LITMUS_ROUNDS LITMUS_ACTIONS PAGES_SECONDS; do
	[ -z "${!name:-}" ] || echo "export $name=${!name}"
done >"$IN/env"
for kernel in ${PAGER_KERNELS:-default 6.12}; do
	if [ "$kernel" != default ] && [ ! -s "$LAB/host-$kernel.cpio" ] && ! lab/build.sh "$kernel"; then
		echo "no kernel $kernel to be had: left out"
		continue
	fi
	boot_lab --kernel "$kernel" --nodes 2 --cpus-per-node 2 --mem 512 --timeout 800
done
finish
