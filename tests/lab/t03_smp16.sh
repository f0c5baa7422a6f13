#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t03_smp16.sh: 16 vCPUs in 4 views under parallel load for 60 s, of the guest's time and of the host's: no stall, soft
# lockup or clock warning; every vCPU gets interrupts from vCPUs of other views; time never steps back between CPUs
# and runs as fast as the host's.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
POLICY=default # pages move meanwhile
load=60

# Each line of the console with the host's time before it.
stamped() {
	while IFS= read -r line; do printf '%s %s\n' "$EPOCHREALTIME" "${line%$'\r'}"; done
}

# total NAME: the sum over all CPUs of a line of /proc/interrupts.
total() {
	awk -v name="$1:" '$2 == name { for (i = 3; i < 19; i++) sum += $i } END { print sum + 0 }' $T/con
}

# field KEYWORD N: the Nth word of the console's line that begins so.
field() { awk -v key="$1" -v n="$2" '$2 == key { print $n }' $T/con; }

# Which part of a thousand the guest's clock gained or lost against the host's, over the load.
drift() {
	awk '$2 == "BURN-BEGIN" { h = $1; g = $3 } $2 == "BURN-END" { h = $1 - h; g = $3 - g; d = (g - h) / h * 1000
		printf "%.1f s there, %.1f s here: %.2f per mille\n", g, h, d > "/dev/stderr"
		print int(d < 0 ? -d : d) }' $T/con
}

inside() {
	CON=stdio guest smp16 vcpus=16 views=4 'memory="512M"' "cmdline=\"console=ttyS0 quiet job=burn,log load=$load\""
	timeout -k 5 $((220 * PATIENCE)) $D run $T/smp16.cfg --json </dev/null 2>$T/err | stamped >$T/con
	status=${PIPESTATUS[0]}
	grep -a '{"name"' $T/con | cut -d ' ' -f 2- >$T/smp16.json
	grep -a ' *\(CPU0\|LOC\|RES\|CAL\|TLB\|LOG.*\|SMP.*\|CLOCK.*\|DISCO.*\):* ' $T/con | cut -c 1-200
	check "exit status" is "$status" 0 || show $T/con 30
	check "the job went well" has $T/con 'DISCO-GUEST-DONE 0'
	check "16 CPUs" is "$(field LOG-CPUS 3)" 16
	check "clock is the TSC" is "$(field LOG-CLOCK 3)" tsc
	check "no complaint in the guest's log" is "$(field LOG-COUNT 3)" 0
	check "checksums right" has $T/con 'SMP cpus 16 rounds [1-9][0-9]* wrong 0 warnings 0'
	check "time never steps back" has $T/con 'CLOCK cpus 16 reads [1-9][0-9]* backwards 0 '
	check "load lasted for ${load} s" above "$(awk '$2 ~ /BURN-/ { t = $1 - t } END { print int(t) }' $T/con)" $((load - 1))
	check "the guest's clock runs as the host's" below "$(drift)" 10
	for kind in RES CAL TLB; do
		printf '      %s interrupts: %s\n' $kind "$(total $kind)"
		check "$kind interrupts happen" above "$(total $kind)" 0
	done
	echo "      IPIs from other views: $(json smp16 '[.vcpus[].ipis_cross_view] | join(" ")')"
	check "each vCPU gets IPIs from other views" is "$(json smp16 '[.vcpus[] | select(.ipis_cross_view > 0)] | length')" 16
	check "4 vCPUs in each view" is "$(json smp16 '[.vcpus[].view] | group_by(.) | map(length) | join(" ")')" "4 4 4 4"
	check "clean end" is "$(json smp16 .end)" poweroff
}

[ "$ARG" = inside ] || image
both --timeout 300
