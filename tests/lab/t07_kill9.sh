#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t07_kill9.sh: seven Linux guests of one site; five of their cells are killed with -9 at random
# moments between the start and their work. The monitor lives and has no descriptor more than one
# that never had those guests, the other two work on with right checksums until they are told to
# end, and no process, tap or memory stays behind.
# shellcheck disable=SC2016,SC2086,SC2317 # commands for the guest; names without blanks
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
victims=5

# write_site NAME COUNT: two guests that work, COUNT that are going to die, each with a tap, a disk
# and a subnet card.
write_site() {
	local words='console=ttyS0 quiet' CON="file:$T/%g.con"
	{
		echo '{ count = 2;'
		keys keep vcpus=2 views=2 'memory="160M"' 'nets=({type="subnet";})' \
			"disks=({path=\"$T/keep%n\";})" "cmdline=\"$words job=keep,log load=4\""
		[ "$2" = 0 ] || {
			echo "}, { count = $2;"
			keys victim 'memory="128M"' 'nets=({type="subnet";}, {type="tap"; tap="t07.%n";})' \
				"disks=({path=\"$T/disk%n\";})" \
				"cmdline=\"$words job=smp load=200\""
		}
		echo '}'
	} | site "$1"
}

# Open descriptors of the monitor.
descriptors() { find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l; }

# Network devices of ours; memory in shared files, in MiB: what must not grow.
taps() { find /sys/class/net -name 't07.*' | wc -l; }
shared() { awk '/^Shmem:/ { print int($2 / 1024) }' /proc/meminfo; }

inside() {
	local up n pid shmem left alone
	shmem=$(shared)
	modprobe tun
	for ((n = 0; n < victims; n++)); do truncate -s 8M $T/disk$n; done
	truncate -s 1M $T/keep0 $T/keep1
	write_site kills $victims
	$D up $T/kills.cfg --socket $T/sock --result $T/result.json >$T/up.out 2>&1 &
	up=$!
	for ((n = 0; n < 60; n++)); do
		[ "$(grep -c started: $T/up.out)" != $((victims + 2)) ] || break
		sleep 0.2
	done
	check "all guests started, each victim with a tap" \
		is "$(processes) $(taps)" "$((victims + 3)) $victims" || show $T/up.out
	$D ps --socket $T/sock --json >$T/ps.json
	for n in $(shuf -i 0-$((victims - 1))); do
		sleep "$((RANDOM % 7)).$((RANDOM % 10))"
		pid=$(jq -r ".guests[] | select(.name == \"victim$n\") | .pid" $T/ps.json)
		left=$(tail -c 40 "$T/victim$n.con" 2>/dev/null | tr -d '\r\n')
		kill -9 "$pid"
		printf '      victim%s killed; its console: ...%s\n' "$n" "$left"
		check "the monitor says so" \
			wait_text $T/up.out "victim$n +ended after .*killed by signal 9" 10
	done
	check "and it answers" \
		is "$($D ps --socket $T/sock --json | jq -r '[.guests[].state] | sort | join(" ")')" \
		"ended ended ended ended ended running running"
	sleep 0.5
	left=$(descriptors $up)
	check "taps are gone" is "$(taps)" 0
	check "processes are gone" is "$(processes)" 3
	# Now the others may end, each after a round of its work at least.
	for n in 0 1; do wait_text $T/keep$n.con 'SMP cpus 2' 120; done
	for n in 0 1; do printf S | dd of=$T/keep$n conv=notrunc 2>/dev/null; done
	wait_gone $up 200
	wait $up
	check "status tells that guests failed" is $? 1
	for n in keep0 keep1; do
		tr -d '\r' <$T/$n.con | grep -a '^KEEP'
		check "$n: undisturbed" has $T/$n.con 'KEEP rounds [1-9][0-9]* wrong 0'
		check "$n: no complaint in its log" has $T/$n.con 'LOG-COUNT 0'
		check "$n: ended well" \
			is "$(jq -r ".guests[] | select(.name == \"$n\") | .result" $T/result.json)" ok
	done

	write_site alone 0
	$D up $T/alone.cfg --socket $T/sock >$T/alone.out 2>&1 &
	up=$!
	for ((n = 0; n < 60; n++)); do
		[ "$(grep -c started: $T/alone.out)" != 2 ] || break
		sleep 0.2
	done
	# As above: a client has been there and is gone.
	$D ps --socket $T/sock >/dev/null
	sleep 0.5
	alone=$(descriptors $up)
	check "the monitor leaked no descriptor" is "$left" "$alone"
	check "down" $D down --now --socket $T/sock
	wait $up
	check "nothing is left: processes, taps, socket" \
		is "$(processes) $(taps) $(find $T -name 'sock*' ! -name '*.lock' | wc -l)" "0 0 0"
	check "no memory is left" below $(($(shared) - shmem)) 8
}

[ "$ARG" = inside ] || image
both --timeout 480
