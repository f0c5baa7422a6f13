#!/bin/bash
# SPDX-License-Identifier: MIT
#
# lab.sh: part of bench/numa, runs in the lab: boots a guest for each line of /out/list that no other
# lab has taken, and keeps what the model counted.
#
# Use:      lab.sh            (by bench/numa/numa, through lab/run.sh --memsys, with /in and /out)
# Gives:    for each "NUMBER WORKLOAD PLACEMENT REPETITION": /out/WORKLOAD.PLACEMENT.REPETITION.json (memsys show),
#           .con (console), .run (disco's own figures); one line on standard output.
# Holds:    a guest that fails leaves no .json; nothing new begins once /out/stop is there.
set -uo pipefail
export PATH=$PATH:/build/bench/memsys
memory=512M
cpus=$((LAB_NODES * LAB_CPUS))
# What needs no explanation makes the boot quicker; nokaslr: the same addresses in every guest.
words='console=ttyS0 quiet nokaslr mitigations=off cryptomgr.notests audit=0 random.trust_cpu=on'
words="$words rcupdate.rcu_expedited=1 maxcpus=1 root=/dev/vda"
T=/tmp/numa
mkdir -p $T

# one NUMBER WORKLOAD PLACEMENT REPETITION
one() {
	local name=$2.$3.$4 status
	rm -f "$T"/*
	cat >"$T/$2.cfg" <<-END
		name = "$2"; kernel = "/lab/guest-vmlinux"; initrd = "/in/initrd.img"; memory = "$memory";
		vcpus = $cpus; nodes = "0-$((LAB_NODES - 1))"; balloon = false; rng = false;
		disks = ( { path = "/dev/vda"; readonly = true; } ); console = "file:$T/con";
		cmdline = "$words job=numa cpus=$cpus work=$2";
		$(awk -v name="$3" '$1 == name { $1 = ""; print }' /repo/bench/numa/placements)
	END
	timeout -k 5 100 "$DISCO" run "$T/$2.cfg" --json </dev/null >"$T/run" 2>"$T/err"
	status=$?
	cp "$T/con" "/out/$name.con" 2>/dev/null
	cp "$T/run" "/out/$name.run"
	if [ $status = 0 ] && grep -q '^NUMA-STATUS 0' "$T/con"; then
		memsys --json show >"$T/json" && mv "$T/json" "/out/$name.json"
		echo "$1 $name done"
	else
		echo "$1 $name FAILED with status $status: $(tail -n 1 "$T/err")"
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
