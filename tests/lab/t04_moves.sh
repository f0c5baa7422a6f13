#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t04_moves.sh: under load the vCPUs of a guest are moved between its four views at random, hundreds of times, and the
# guest is paused and resumed ten times: checksums stay right, its log stays clean, the TSC stays its clock, and time
# never steps back between CPUs.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
POLICY=default # pages move meanwhile
load=50

# field KEYWORD N: the Nth word of the console's line that begins so.
field() { tr -d '\r' <$T/g.con | awk -v key="$1" -v n="$2" '$1 == key { print $n }'; }

inside() {
	local up
	{
		echo "{"
		keys g vcpus=4 views=4 'memory="256M"' "cmdline=\"console=ttyS0 quiet job=burn,log load=$load\""
		echo "}"
	} | site moves
	$D up $T/moves.cfg --socket $T/sock >$T/up.out 2>&1 &
	up=$!
	check "the load began" wait_text $T/g.con BURN-BEGIN 60
	/in/mover $T/sock g 4 4 $((load - 10)) 10 "$RANDOM" >$T/mover
	check "all moves and pauses done" is $? 0
	cat $T/mover
	$D stat g --socket $T/sock --json >$T/stat.json
	$D stat g --socket $T/sock | sed -n '/vcpu/,/^$/p'
	wait_gone $up 60
	wait $up
	check "the guest ended well" is $? 0 || show $T/up.out
	grep -aE '^(SMP|CLOCK|LOG)' $T/g.con
	check "several hundred moves" above "$(sed -n 's/^MOVER moves \([0-9]*\).*/\1/p' $T/mover)" 300
	check "ten pauses" has $T/mover 'pauses 10'
	check "each vCPU was moved often" is "$(jq '[.vcpus[] | select(.moves > 40)] | length' $T/stat.json)" 4
	check "the job went well" has $T/g.con 'DISCO-GUEST-DONE 0'
	check "checksums right" has $T/g.con 'SMP cpus 4 rounds [1-9][0-9]* wrong 0 warnings 0'
	check "time never steps back" has $T/g.con 'CLOCK cpus 4 reads [1-9][0-9]* backwards 0 '
	check "clock is the TSC" is "$(field LOG-CLOCK 2)" tsc
	check "no complaint in the guest's log" is "$(field LOG-COUNT 2)" 0
}

if [ "$ARG" != inside ]; then
	image
	tool mover.c
fi
both --timeout 240
