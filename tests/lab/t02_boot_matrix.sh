#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t02_boot_matrix.sh: 1, 2, 4, 8 and 16 vCPUs boot in 1, 2 and 4 views with x2APIC, and 4 in 2 views with xAPIC; each
# guest sees its CPUs, keeps the TSC as its clock, says nothing alarming and powers off.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"

# boot VCPUS VIEWS X2APIC: one guest, one line.
boot() {
	local name=m$1x$2 began=$SECONDS cpus clock bad views
	[ "$3" = true ] || name+=x
	guest $name vcpus="$1" views="$2" x2apic="$3" 'memory="192M"' 'rng=false' 'balloon=false' \
		'cmdline="console=ttyS0 quiet job=log"'
	run $name 100
	status=$?
	cpus=$(tr -d '\r' <$T/$name.con | sed -n 's/^LOG-CPUS //p')
	clock=$(tr -d '\r' <$T/$name.con | sed -n 's/^LOG-CLOCK //p')
	bad=$(tr -d '\r' <$T/$name.con | sed -n 's/^LOG-COUNT //p')
	views=$(json $name '[.vcpus[].view] | unique | length')
	check "$1 vCPUs in $2 views, x2apic $3: status 0, $1 CPUs, clock tsc, 0 complaints, $2 views used ($((SECONDS - began)) s)" \
		is "$status $cpus $clock $bad $views" "0 $1 tsc 0 $2" || show $T/$name.con
}

inside() {
	for vcpus in 1 2 4 8 16; do
		for views in 1 2 4; do
			[ $views -gt $vcpus ] || boot $vcpus $views true
		done
	done
	boot 4 2 false
	check "which uses the memory-mapped controller only" \
		is "$(json m4x2x '(.exits.msr_x2apic // 0) == 0 and .exits.mmio_apic > 100')" true
}

[ "$ARG" = inside ] || image
both --timeout 400
