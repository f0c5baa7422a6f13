#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t09_power.sh: what people do to a guest that runs: they use its console, take memory by the balloon and give it back,
# kill it; freed memory comes back to the host by itself; a reset ends the guest or boots it again, as configured;
# the virtio console prints, the entropy device gives bytes. (The power button: t05. Pause and resume: t04.)
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"

# figure FILTER: of the guest held.
figure() { $D stat held --socket $T/sock --json | jq -r "$1"; }

# until_figure FILTER: waits until that is true.
until_figure() {
	local n
	for n in $(seq $((40 * PATIENCE))); do
		[ "$(figure "$1")" != true ] || return 0
		sleep 0.5
	done
	echo "      after $n looks: $(figure '{memory, balloon}' | tr -d ' \n')"
	return 1
}

# free_mb TAG: the guest's free memory in MiB.
free_mb() {
	type_in "echo \"$1 \$(awk '/MemFree/ { print int(\$2 / 1024) }' /proc/meminfo) \$((3*3))\"" "$1 [0-9]+ 9" 40
	tr -d '\r' <$CONSOLE | sed -n "s/^$1 \([0-9]*\) 9\$/\1/p"
}

memory() {
	local used free less
	check "shell on the console" type_in 'echo "hello $((4*4))"' 'hello 16' 60 || show $CONSOLE
	check "100 MiB filled" type_in 'head -c 104857600 /dev/zero >/tmp/f; echo "full $((5*5))"' 'full 25' 30
	used=$(figure .memory.used)
	check "they are in use" above "$used" 110000000
	type_in 'rm /tmp/f; echo "gone $((6*6))"' 'gone 36' 40
	check "freed memory comes back to the host" until_figure ".memory.used < $used - 70000000 and .balloon.reported > 70000000"
	echo "      in use $used before, $(figure .memory.used) after; $(figure .balloon.reported) reported in all"

	free=$(free_mb before)
	check "balloon" $D balloon held 64M --socket $T/sock
	check "it inflates" until_figure '.balloon.actual == 67108864'
	less=$(free_mb inflated)
	echo "      free in the guest: $free MiB, then $less MiB"
	check "the guest has less" above $((free - less)) 50
	check "no more of the host's memory than before" below "$(figure .memory.used)" "$used"
	check "balloon given back" $D balloon held 0 --socket $T/sock
	check "it deflates" until_figure '.balloon.actual == 0'
	check "the guest has its memory again" above "$(free_mb deflated)" $((less + 50))
}

devices() {
	check "entropy" type_in 'echo "rng $(cat /sys/class/misc/hw_random/rng_current) $(head -c 64 /dev/hwrng | wc -c)"' \
		'rng virtio_rng[.0-9]* 64' 20
	type_in 'echo "from hvc0" >/dev/hvc0; echo "sent $((7*7))"' 'sent 49' 40
	check "virtio console" wait_text $T/hvc0 'from hvc0' 10
	check "no complaint in its log" type_in 'echo "bad $(dmesg | grep -cE "stall|lockup|unstable|BUG:|WARNING:") $((8*8))"' \
		'bad 0 64' 20
}

resets() {
	check "a reset ends the guest" wait_text $T/up.out 'reset +ended after .*: reset' 150
	check "or boots it again" wait_text $T/again.con 'DISCO-GUEST-UP.*' 10
	for _ in $(seq $((60 * PATIENCE))); do
		[ "$(grep -ac DISCO-GUEST-UP $T/again.con)" -lt 3 ] || break
		sleep 1
	done
	check "and again" above "$(grep -ac DISCO-GUEST-UP $T/again.con)" 1
	check "kill" $D kill again --socket $T/sock
	check "it is dead" has <($D ps --socket $T/sock) 'again .*ended'
}

inside() {
	local words='console=ttyS0 quiet' up
	{
		echo '{'
		CON=monitor keys held vcpus=2 views=2 'memory="256M"' "vconsole=\"file:$T/hvc0\"" "cmdline=\"$words job=sh\""
		echo '}, {'
		keys reset 'memory="128M"' "cmdline=\"$words job=reboot\""
		echo '}, {'
		keys again 'memory="128M"' 'on_reset="restart"' "cmdline=\"$words job=reboot\""
		echo '}'
	} | site power
	$D up $T/power.cfg --socket $T/sock >$T/up.out 2>&1 &
	up=$!
	wait_text $T/up.out held.*started: 20
	attach held
	resets
	memory
	devices
	type_in exit 'reboot: Power down' 40
	wait_gone $up 30
	wait $up
	check "status tells that a guest was killed" is $? 1
	tail -n 4 $T/up.out
	check "held ended well" has $T/up.out 'held .* ok \(poweroff\)'
	check "the killed one is said to be" has $T/up.out 'again .* failed: ended by the user'
	[ $FAILED = 0 ] || show $CONSOLE 40
}

[ "$ARG" = inside ] || image
both --timeout 240
