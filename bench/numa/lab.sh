#!/bin/bash
# SPDX-License-Identifier: MIT
#
# lab.sh: part of bench/numa, runs in the lab: boots a guest for each line of /out/list that no other
# lab has taken, and keeps what the model counted.
#
# Use:      lab.sh FILE MACHINE DATA SECONDS (by bench/numa/numa, through lab/run.sh --memsys, with /in and
#           /out): FILE describes placements, MACHINE is modelled, DATA is small or large, a guest has so
#           many seconds
# Gives:    for each "NUMBER WORKLOAD PLACEMENT REPETITION SIZE WARM": /out/WORKLOAD.PLACEMENT.REPETITION.json (memsys
#           show), .con (console), .ready and .run (disco's own figures before and after the work);
#           one line on standard output.
# Holds:    a guest that fails leaves no .json; nothing new begins once /out/stop is there.
set -uo pipefail
export PATH=$PATH:/build/bench/memsys
memory=512M
cpus=$((LAB_NODES * LAB_CPUS))
# What needs no explanation makes the boot quicker; nokaslr: the same addresses in every guest.
words='console=ttyS0 quiet nokaslr mitigations=off cryptomgr.notests audit=0 random.trust_cpu=on'
words="$words rcupdate.rcu_expedited=1 maxcpus=1 root=/dev/vda"
file=/repo/bench/numa/$1
machine=$2
data=$3
most=$4
T=/tmp/numa
mkdir -p $T

# config PLACEMENT: what it puts into a guest's configuration; the machine's thresholds for @.
config() {
	awk -v name="$1" -v machine="@$machine" '$1 == machine { tune = $2 }
		$1 == name { $1 = ""; gsub("@", tune); print }' "$file"
}

# watch NAME: reads what the guest says, asks for its figures when it is ready for its work and when that is
# done, and ends it then.  The model is off at both times, and nothing is asked for in between.
watch() {
	local line
	while read -r line; do
		case $line in
		NUMA-READY*) "$DISCO" stat "$1" --json >"$T/ready" 2>>"$T/err" ;;
		NUMA-DONE*) "$DISCO" stat "$1" --json >"$T/run" 2>>"$T/err" ;;
		NUMA-SUM*) "$DISCO" kill "$1" >>"$T/err" 2>&1 ;;
		esac
	done
}

# one NUMBER WORKLOAD PLACEMENT REPETITION SIZE WARM
one() {
	local name=$2.$3.$4 follow suffix
	rm -f "$T"/*
	cat >"$T/$2.cfg" <<-END
		name = "$2"; kernel = "/lab/guest-vmlinux"; initrd = "/in/initrd.img"; memory = "$memory";
		vcpus = $cpus; nodes = "0-$((LAB_NODES - 1))"; balloon = false; rng = false;
		disks = ( { path = "/dev/vda"; readonly = true; } ); console = "file:$T/con";
		cmdline = "$words job=numa cpus=$cpus work=$2 size=$5 warm=$6 data=$data";
		$(config "$3")
	END
	mkfifo "$T/said"
	: >"$T/con"
	tail -n +1 -f "$T/con" >"$T/said" &
	follow=$!
	watch "$2" <"$T/said" &
	timeout -k 5 "$most" "$DISCO" up "$T/$2.cfg" --quiet </dev/null >"$T/up" 2>>"$T/err"
	kill $follow
	wait
	for suffix in con ready run; do cp "$T/$suffix" "/out/$name.$suffix" 2>/dev/null; done
	if [ -s "$T/run" ] && grep -q '^NUMA-STATUS 0' "$T/con"; then
		memsys --json show >"$T/json" && mv "$T/json" "/out/$name.json"
		echo "$1 $name done"
	else
		echo "$1 $name FAILED: $(tail -n 1 "$T/err")"
		[ ! -e "$T/con" ] || tail -n 5 "$T/con"
	fi
}

DISCO=${DISCO:-/build/disco}
for ((cpu = 0; cpu < cpus; cpu++)); do roi tag 1 $cpu; done
while read -r number rest; do
	[ ! -e /out/stop ] || break
	mkdir "/out/claim.$number" 2>/dev/null || continue
	# shellcheck disable=SC2086
	one "$number" $rest
done </out/list
