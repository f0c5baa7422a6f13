#!/bin/bash
# SPDX-License-Identifier: MIT
#
# inlab.sh: part of the check of the memory-system model, runs in the lab: the programs with known answers, and guests
# with known loads.
#
# Use:      inlab.sh PART REPS WHAT...      WHAT: cases guests pages tlb     (by check.sh, through lab/run.sh)
# Takes:    /in/initrd.img, the small guest with guestload and the job memload
# Gives:    /out/PART.jsonl, a line for each figure; /out/PART.map and .pages, where the pages of a guest are and what
#           it does to them, to be held against the trace
# Holds:    status 0 only if everything ran; nothing is judged here.
set -uo pipefail
part=$1
reps=$2
shift 2
what=" $* "
tools=/build/bench/memsys
rows=/out/$part.jsonl
T=/tmp/memsys
mb=32
mkdir -p $T

fail() {
	echo "inlab.sh: $*" >&2
	exit 1
}

# await FILE PATTERN COUNT: waits until so many lines match.
await() {
	local i
	for ((i = 0; i < 6000; i++)); do
		[ "$(grep -acE "$2" "$1" 2>/dev/null)" -lt "$3" ] || return 0
		# A second takes a minute while the model is on.
		sleep 0.01
	done
	tail -n 20 "$1" >&2
	fail "$2 did not come"
}

# start NAME NODE LOAD: a guest with all its memory on a node; its process is in $cell, its console $T/NAME.con, it is
# typed to by $T/NAME.keys.
start() {
	cat >$T/"$1.cfg" <<-END
		name = "$1";
		kernel = "/lab/guest-vmlinux";
		initrd = "/in/initrd.img";
		memory = "192M";
		nodes = [$2];
		console = "stdio";
		rng = false;
		balloon = false;
		cmdline = "console=ttyS0 quiet panic=-1 job=memload load=$3";
	END
	mkfifo $T/"$1.keys"
	/build/disco run $T/"$1.cfg" <>$T/"$1.keys" >$T/"$1.con" 2>$T/"$1.err" &
	cell=$!
}

# place PID CPU TAG: a guest's vCPU runs there, and what it does is counted for the tag.
place() {
	local task
	for task in /proc/"$1"/task/*; do
		[ "$(cat "$task/comm")" != vcpu0 ] || taskset -p -c "$2" "${task##*/}" >/dev/null || fail "taskset $2"
	done
	$tools/roi tag "$3" "$2"
}

# Two guests at a time, each with a CPU and a node's memory: the first near, the second far from it.
guests() {
	local last=$((LAB_NODES - 1)) far=$((LAB_CPUS - 1)) near=$((LAB_NODES * LAB_CPUS - 1)) rep lines a b
	lines=$((mb * 16384))
	start near $last stream,$mb,1
	a=$cell
	start far $last stream,$mb,1
	b=$cell
	await $T/near.con 'GUESTLOAD READY' 1
	await $T/far.con 'GUESTLOAD READY' 1
	place $a $near 1
	place $b $far 2
	for ((rep = 1; rep <= reps; rep++)); do
		$tools/roi empty
		$tools/roi zero
		echo >$T/near.keys
		echo >$T/far.keys
		await $T/near.con 'GUESTLOAD DONE' $rep
		await $T/far.con 'GUESTLOAD DONE' $rep
		$tools/roi off
		$tools/cases --part "$part" --rep $rep guest 1 $last $lines $near >>"$rows" || fail "cases guest"
		$tools/cases --part "$part" --rep $rep guest 2 $last $lines $far >>"$rows" || fail "cases guest"
	done
	$tools/roi check
	kill $a $b
	wait $a $b
	$tools/roi tag 0 $near
	$tools/roi tag 0 $far
}

# A guest that touches known pages a known number of times, for the trace.
pages() {
	start pages 0 pages,16,6400
	await $T/pages.con 'GUESTLOAD READY' 1
	place $cell $((LAB_NODES * LAB_CPUS - 1)) 3
	$tools/memsys map $cell 3 >"/out/$part.map" || fail "memsys map"
	echo >$T/pages.keys
	await $T/pages.con 'GUESTLOAD DONE' 1
	$tools/roi off
	tr -d '\r' <$T/pages.con | sed -n 's/^GUESTLOAD PAGE //p' >"/out/$part.pages"
	kill $cell
	wait $cell
}

if [[ $what == *" cases "* ]]; then
	for ((rep = 1; rep <= reps; rep++)); do
		$tools/cases --part "$part" --rep $rep all >>"$rows" || fail "cases"
	done
fi
[[ $what != *" guests "* ]] || guests
[[ $what != *" pages "* ]] || pages
[[ $what != *" tlb "* ]] || $tools/cases --part "$part" tlb >>"$rows" || fail "cases tlb"
exit 0
