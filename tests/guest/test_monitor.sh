#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_monitor.sh: the monitor with real guests, tiny ones: commands, consoles, errors, and that cells and
# monitors that die take nobody with them and leave nothing behind.
#
# Use:    B=build tests/guest/test_monitor.sh [TEST...]     after make disco and make guest-kernels
# Gives:  one line a test, "ok NAME" or "FAIL NAME: why", and a sum; status 0 if all passed, 77 without KVM.
# Holds:  status 77 is a skip; everything it makes is in a directory of its own that goes at the end; KILLS (50) cells are killed.
# shellcheck disable=SC2015 # "a && b || fail" is how a test stops here, and fail is meant for both
set -u
cd "$(dirname "$0")/../.." || exit 1
B=${B:-build}
DISCO=$PWD/$B/disco
KERNEL=$PWD/$B/tests/guest/tenant.elf
KILLS=${KILLS:-50}
[ -x "$DISCO" ] && [ -f "$KERNEL" ] || { echo "test_monitor: build $DISCO and $KERNEL first" >&2; exit 1; }
[ -r /dev/kvm ] && [ -w /dev/kvm ] || { echo "test_monitor: no /dev/kvm: skipped"; exit 77; }
command -v jq >/dev/null || { echo "test_monitor: no jq: skipped"; exit 77; }

D=$(mktemp -d /tmp/disco-mon.XXXXXX)
cd "$D" || exit 1
SOCK=$D/m.sock
export DISCO_TEST=$D
monitor='' why=''

# disco ARGUMENTS...: under a time limit, so that nothing can hang the test.
disco() {
	timeout 60 "$DISCO" "$@"
}

# site FILE GUESTS [MORE]: a site whose guests are tenants unless they say otherwise.
site() {
	cat >"$1" <<-END
		name = "mon";
		socket = "$SOCK";
		rundir = "$D/run";
		templates = { base = { vcpus = 1; memory = "8M"; kernel = "$KERNEL"; boot = "multiboot"; ready = "tenant up";
			console = "monitor"; debug_exit = true; }; };
		guests = ( $2 );
	END
}

# up FILE: starts a monitor in the background and waits until all of its guests are ready.
up() {
	"$DISCO" up "$1" --result "$D/result.json" >"$D/up.out" 2>&1 &
	monitor=$!
	for _ in $(seq 100); do
		kill -0 $monitor 2>/dev/null || return 1
		[ "$(disco ps -s "$SOCK" --json 2>/dev/null | jq '[.guests[] | select(.ready_ms == null)] | length')" = 0 ] && return 0
		sleep 0.1
	done
	return 1
}

# down: ends the site; the monitor's exit status.
down() {
	disco down -s "$SOCK" "$@" 2>/dev/null
	wait "$monitor"
}

# guest NAME FIELD: of ps.
guest() {
	disco ps -s "$SOCK" --json | jq -r --arg g "$1" ".guests[] | select(.name == \$g) | .$2"
}

# echoes NAME: what is typed comes back.
echoes() {
	local token=t$RANDOM$RANDOM
	echo "$token" | disco console "$1" -s "$SOCK" | grep -q "$token"
}

# no WHY...: the test has failed.
no() {
	why="$*"
	return 1
}

# status WANTED COMMAND...: runs it, output in out; complains about another status.
status() {
	local want=$1 got
	shift
	"$@" >"$D/out" 2>&1
	got=$?
	[ $got = "$want" ] || no "status $got instead of $want of: $*: $(head -c 300 "$D/out")"
}

# says TEXT: the last status' output has it.
says() {
	grep -qF -- "$1" "$D/out" || no "no '$1' in: $(head -c 300 "$D/out")"
}

# ours: processes this test started, /proc/PID each; others may run guests at the same time.
ours() {
	grep -lsz "^DISCO_TEST=$D\$" /proc/[0-9]*/environ | sed 's,/environ$,,'
}

# cells: processes of guests that run now. memfds: guest memory that processes hold.
cells() {
	local n=0 p cmd
	for p in $(ours); do
		{ read -r -d '' cmd && read -r -d '' cmd; } 2>/dev/null <"$p/cmdline" || continue
		[ "$cmd" != cell ] || n=$((n + 1))
	done 2>/dev/null
	echo $n
}
memfds() {
	local p
	for p in $(ours); do find "$p/fd" -lname '/memfd:*' 2>/dev/null; done | wc -l
}
taps() {
	find /sys/class/net -name 'dmon*' | wc -l
}
fds() {
	find "/proc/$1/fd" -mindepth 1 | wc -l
}

# nothing_left: after a site, all is as before the test.
nothing_left() {
	local i
	for i in $(seq 50); do
		[ "$(cells)" = 0 ] && [ "$(memfds)" = 0 ] && [ "$(taps)" = 0 ] && break
		sleep 0.1
	done
	[ "$(cells)" = 0 ] || no "$(cells) cells are left" || return 1
	[ "$(memfds)" = 0 ] || no "$(memfds) memfds are left" || return 1
	[ "$(taps)" = 0 ] || no "taps are left" || return 1
	[ ! -e "$SOCK" ] || no "the control socket is left" || return 1
	[ ! -e "$SOCK.lock" ] || no "the lock is left"
}

# ---- tests ----

test_commands() {
	site s.cfg '{ name = "a"; template = "base"; }, { name = "b"; template = "base"; vcpus = 2; },
		{ name = "x"; template = "base"; cmdline = "exit=0"; }'
	up s.cfg || no "no start: $(cat up.out)" || return 1
	[ "$(guest a state)/$(guest b state)/$(guest x end)" = "running/running/debug-exit 1" ] || no "states" || return 1
	echoes a || no "no echo" || return 1
	status 0 disco stat a -s "$SOCK" && says pio && says vcpu || return 1
	status 0 disco stat b -s "$SOCK" --json || return 1
	[ "$(jq '.vcpus | length' out)" = 2 ] || no "stat --json" || return 1
	status 0 disco pause a -s "$SOCK" || return 1
	[ "$(guest a state)" = paused ] || no "not paused" || return 1
	! echoes a || no "a paused guest answers" || return 1
	status 0 disco resume a -s "$SOCK" || return 1
	echoes a || no "no echo after resume" || return 1
	status 0 disco balloon a 2M -s "$SOCK" || return 1
	status 2 disco balloon a 9M -s "$SOCK" && says "guest's memory" || return 1
	status 2 disco balloon a much -s "$SOCK" && says "no size" || return 1
	status 2 disco move a 0 7 -s "$SOCK" && says "1 views" || return 1
	status 2 disco stop nobody -s "$SOCK" && says "disco ps" || return 1
	status 1 disco wait a --timeout 100ms -s "$SOCK" && says "still runs" || return 1
	status 0 disco stop a -s "$SOCK" || return 1
	status 0 disco wait a -s "$SOCK" || return 1
	status 1 disco pause a -s "$SOCK" && says "does not run" || return 1
	status 0 disco down -s "$SOCK" || return 1
	wait "$monitor" || no "status of up: $(cat up.out)" || return 1
	[ "$(jq -c '[.guests[] | [.name, .result, .end]]' result.json)" = \
		'[["a","ok","poweroff"],["b","ok","poweroff"],["x","ok","debug-exit 1"]]' ] || no "$(cat result.json)" || return 1
	[ "$(jq '[.guests[] | select(.boot_ms > 0 and .run_ms > 0 and .exits.total > 0 and .memory == 8388608)] | length' \
		result.json)" = 3 ] || no "$(cat result.json)"
}

test_ends() {
	site s.cfg '{ name = "bad"; template = "base"; cmdline = "exit=3"; }, { name = "off"; template = "base"; cmdline = "off=1"; }'
	status 1 disco up s.cfg --result result.json && says "ready after" && says "debug-exit 7" || return 1
	[ "$(jq -c '[.guests[].result]' result.json)" = '["failed: debug-exit 7","ok"]' ] || no "$(cat result.json)" || return 1
	site s.cfg '{ name = "deaf"; template = "base"; cmdline = "deaf=1"; }, { name = "k"; template = "base"; }'
	up s.cfg || no "no start" || return 1
	status 0 disco kill k -s "$SOCK" || return 1
	status 1 disco down --timeout 300ms -s "$SOCK" && says "in time" || return 1
	! wait "$monitor" || no "up succeeded" || return 1
	[ "$(jq -c '[.guests[].result]' result.json)" = \
		'["failed: did not switch itself off in time and was ended","failed: ended by the user"]' ] || no "$(cat result.json)" || return 1
	up s.cfg || no "no second start" || return 1
	down --now || no "down --now is as asked: $(cat up.out)"
}

test_interrupt() {
	site s.cfg '{ name = "a"; template = "base"; }, { name = "deaf"; template = "base"; cmdline = "deaf=1"; }'
	up s.cfg || no "no start" || return 1
	kill -INT $monitor
	for _ in $(seq 50); do [ "$(guest a state)" = ended ] && break; sleep 0.1; done
	[ "$(guest a end)/$(guest deaf state)" = "poweroff/running" ] || no "the first signal" || return 1
	kill -INT $monitor
	wait "$monitor" || no "the second signal: $(cat up.out)"
}

test_detach() {
	site s.cfg '{ name = "a"; template = "base"; }'
	status 0 disco up -d s.cfg && says background || return 1
	echoes a || no "no echo" || return 1
	status 10 disco up -d s.cfg && says "another monitor" || return 1
	status 0 disco down -s "$SOCK" || return 1
	grep -q poweroff run/monitor.log || no "no log"
}

test_busy() {
	site s.cfg '{ name = "a"; template = "base"; }'
	up s.cfg || no "no start" || return 1
	status 10 disco up s.cfg && says "process $monitor" || return 1
	echoes a || no "the first monitor's guest was disturbed" || return 1
	down || no "down"
}

# A monitor that dies takes its cells along; the next replaces its socket.
test_monitor_dies() {
	site s.cfg '{ name = "a"; template = "base"; count = 3; }'
	up s.cfg || no "no start" || return 1
	kill -STOP "$(guest a1 pid)" # one that cannot notice
	kill -9 $monitor
	wait "$monitor" 2>/dev/null
	for _ in $(seq 30); do [ "$(cells)" = 0 ] && break; sleep 0.1; done
	[ "$(cells)" = 0 ] || no "cells outlive their monitor" || return 1
	status 11 disco ps -s "$SOCK" && says "without a farewell" || return 1
	up s.cfg || no "no second start: $(cat up.out)" || return 1
	down || no "down"
}

# Every cause of failure has its message and status, before anything has started.
test_refusals() {
	truncate -s 1M rw.img
	site s.cfg '{ name = "a"; template = "base"; disks = ( { path = "'"$D"'/rw.img"; } ); }'
	up s.cfg || no "no start: $(cat up.out)" || return 1
	sed "s/m.sock/n.sock/; s/$(basename "$D")\/run/$(basename "$D")\/run2/" s.cfg >t.cfg
	status 5 disco up t.cfg && says "in use by another guest" || return 1
	sed -i 's/path = /readonly = true; path = /' t.cfg
	status 5 disco up t.cfg && says "being written" || return 1
	[ "$(ls run2 2>/dev/null)" = "" ] && [ ! -e n.sock ] || no "something is left of a refused site" || return 1
	echoes a || no "the guest was disturbed" || return 1
	down || no "down" || return 1
	site s.cfg '{ name = "a"; template = "base"; }, { name = "b"; template = "base"; kernel = "/etc/hostname"; }'
	status 4 disco up s.cfg && says "guest b" || return 1
	site s.cfg '{ name = "a"; template = "base"; }, { name = "a"; template = "base"; }'
	status 3 disco up s.cfg || return 1
	site s.cfg '{ name = "a"; template = "base"; disks = ( { path = "'"$D"'/none.img"; } ); }'
	status 5 disco up s.cfg && says none.img || return 1
	site s.cfg '{ name = "a"; template = "base"; memory = "60T"; }'
	status 6 disco up s.cfg || return 1
	site s.cfg '{ name = "a"; template = "base"; nets = ( { type = "subnet"; } ); }'
	status 3 disco run s.cfg && says "disco up" || return 1
	site s.cfg '{ name = "a"; template = "base"; console = "socket:'"$D"'/con"; }, { name = "b"; template = "base"; console = "socket:'"$D"'/no/con"; }'
	status 5 disco up s.cfg || return 1
	[ ! -e con ] || no "a console socket is left" || return 1
	status 2 disco upp s.cfg && says "did you mean 'up'" || return 1
	status 2 disco up || return 1
	status 11 disco ps --site no-such-site && says "no monitor"
}

# children PID: its child processes, on one line.
children() {
	cat "/proc/$1/task/$1/children" 2>/dev/null
}

# stopped UP...: starts UP in the background and stops one of its cells while that is made; false when it was too late.
# Not before the cell runs its own program: until then the monitor itself waits for it (vfork).
stopped() {
	local pids cmd
	"$@" >up.out 2>&1 &
	up=$! monitor=$!
	for _ in $(seq 2000); do
		kill -0 "$up" 2>/dev/null || return 1
		[ "$1" != detached ] || monitor=$(children "$up" | cut -d ' ' -f 1)
		read -r -a pids < <(children "${monitor:-$up}")
		cmd=''
		[ ${#pids[@]} = 0 ] || { read -r -d '' _ && read -r -d '' cmd; } 2>/dev/null <"/proc/${pids[-1]}/cmdline"
		[ "$cmd" != cell ] || break
	done
	[ "$cmd" = cell ] && kill -STOP "${pids[-1]}" 2>/dev/null || return 1
	sleep 0.3
	! grep -qs started up.out run/monitor.log
}
detached() {
	exec "$DISCO" up -d s.cfg
}

# too_late: ends what stopped() failed to stop in time.
too_late() {
	disco down --now -s "$SOCK" 2>/dev/null
	wait "$up"
	nothing_left
}

# A cell that hangs while it is made: the start is given up, by the limit or by whoever asks for that.
test_hangs_starting() {
	local i
	site s.cfg '{ name = "v"; template = "base"; count = 6; }'
	for i in $(seq 20); do
		stopped "$DISCO" up s.cfg --start-limit 1s && break
		too_late || return 1
	done
	! wait "$monitor" || no "a start that hangs succeeds: $(cat up.out)" || return 1
	grep -q 'guest v[0-5]: its cell (process [0-9]*) is not made after 1 s without progress' up.out || no "$(cat up.out)" || return 1
	nothing_left || return 1
	for i in $(seq 20); do
		stopped "$DISCO" up s.cfg && break
		too_late || return 1
	done
	[ "$(guest v0 state)" = starting ] || no "no answer while it starts" || return 1
	status 1 disco down -s "$SOCK" && says "was ended before it ran" || return 1
	! wait "$monitor" || no "a start that was ended succeeds" || return 1
	nothing_left || return 1
	for i in $(seq 20); do
		stopped detached && break
		too_late || return 1
	done
	kill -TERM "$up"
	wait "$up"
	monitor=''
}

# What is another guest's stays, what cannot be is refused, and nobody is taken for all.
test_tricks() {
	site s.cfg '{ name = "a"; template = "base"; console = "socket:'"$D"'/con"; }, { name = "b"; template = "base"; }'
	site t.cfg '{ name = "c"; template = "base"; console = "socket:'"$D"'/con"; }'
	up s.cfg || no "no start: $(cat up.out)" || return 1
	status 5 disco run t.cfg && says "in use" || return 1
	[ -S con ] || no "a refused guest removed another's console" || return 1
	status 2 disco up s.cfg --site $'\xff' && says "want letters" || return 1
	status 2 disco up s.cfg --site ../x && says "want letters" || return 1
	status 2 disco up s.cfg --start-limit never && says "no time" || return 1
	status 2 disco wait $'\xff' --timeout 1s -s "$SOCK" && says "UTF-8" || return 1
	[ "$(disco stat b -s "$SOCK" --json | jq '.memory | .used > 0 and .used == ([.nodes[].used] | add)')" = true ] ||
		no "$(disco stat b -s "$SOCK" --json | jq -c .memory)" || return 1
	down || no "down" || return 1
	# more descriptors than a shell allows at first
	site s.cfg '{ name = "a"; template = "base"; count = 20; cmdline = "exit=0"; }'
	status 0 bash -c "ulimit -Sn 64; exec timeout 60 $DISCO up s.cfg"
}

# Only where root may make namespaces: a host without /dev/kvm, and one that keeps it from us.
test_no_kvm() {
	unshare -m true 2>/dev/null && command -v setpriv >/dev/null || return 0
	site s.cfg '{ name = "a"; template = "base"; }'
	status 7 unshare -m sh -c "mount -t tmpfs none /dev && exec timeout 20 $DISCO up s.cfg" && says "/dev/kvm is not there" || return 1
	status 8 unshare -m sh -c "mkdir kvm.d && mknod kvm.d/kvm c 10 232 && chmod 600 kvm.d/kvm && chmod 755 . && \
		mount --bind kvm.d/kvm /dev/kvm && cp $DISCO $KERNEL . && chmod 777 . && \
		sed 's#kernel = \"[^\"]*\"#kernel = \"$D/tenant.elf\"#' s.cfg >p.cfg && chmod 644 p.cfg && \
		exec timeout 20 setpriv --reuid=65534 --regid=65534 --clear-groups ./disco up p.cfg" && says "group"
}

# KILLS cells die by -9 at random moments; the monitor and two bystanders go on, nothing leaks.
test_kill9() {
	local net='' tap='' i n base pids pid
	[ -w /dev/net/tun ] && [ "$(id -u)" = 0 ] && tap='{ type = "tap"; tap = "dmon%n"; },'
	net="nets = ( $tap { type = \"subnet\"; } );"
	local by='{ name = "by0"; template = "base"; nets = ( { type = "subnet"; } ); }, { name = "by1"; template = "base"; vcpus = 2; }'
	site s.cfg "$by"
	up s.cfg || no "no start: $(cat up.out)" || return 1
	base=$(fds $monitor)
	[ "$(cells)" = 2 ] && [ "$(memfds)" = 2 ] || no "$(cells) cells and $(memfds) memfds instead of 2" || return 1
	down || no "down" || return 1

	site s.cfg "$by, { name = \"v\"; template = \"base\"; count = $KILLS; vcpus = 2; $net }"
	up s.cfg || no "no start of $KILLS: $(tail -n 3 up.out)" || return 1
	pids=$(disco ps -s "$SOCK" --json | jq '.guests[] | select(.name | startswith("v")) | .pid' | shuf)
	n=0
	for pid in $pids; do
		sleep 0.0$((RANDOM % 100))
		[ $((n % 5)) = 0 ] && { disco stat "v$((RANDOM % KILLS))" -s "$SOCK" >/dev/null 2>&1 & }
		kill -9 "$pid" || no "cell $pid was gone before" || return 1
		n=$((n + 1))
		if [ $((n % 10)) = 0 ]; then
			echoes by0 && echoes by1 || no "a bystander does not answer after $n kills" || return 1
		fi
	done
	for i in $(seq 50); do
		[ "$(disco ps -s "$SOCK" --json | jq '[.guests[] | select(.end == "killed by signal 9")] | length')" = "$KILLS" ] && break
		sleep 0.1
	done
	[ "$i" != 50 ] || no "not all are reported killed" || return 1
	[ "$(fds $monitor)" = "$base" ] || no "the monitor holds $(fds $monitor) descriptors instead of $base" || return 1
	[ "$(pgrep -c -P $monitor)" = 2 ] || no "$(pgrep -c -P $monitor) children instead of 2" || return 1
	[ "$(cells)" = 2 ] && [ "$(memfds)" = 2 ] || no "$(cells) cells and $(memfds) memfds instead of 2" || return 1
	[ "$(taps)" = 0 ] || no "taps are left" || return 1
	[ "$(guest by0 state)/$(guest by1 state)" = running/running ] || no "bystanders" || return 1
	echoes by0 && echoes by1 || no "a bystander does not answer" || return 1
	down
	[ "$(jq '[.guests[] | select(.result == "failed: killed by signal 9")] | length' result.json)" = "$KILLS" ] || no "results" || return 1
	[ "$(jq -r '[.guests[] | select(.name | startswith("by")) | .result] | join(" ")' result.json)" = "ok ok" ] || no "bystanders' results"
}

# Cells that die while the site starts: the whole site fails, or runs with that one reported.
test_kill9_starting() {
	local i pid
	site s.cfg '{ name = "v"; template = "base"; count = 4; }'
	for i in $(seq 12); do
		"$DISCO" up s.cfg >up.out 2>&1 &
		monitor=$!
		for _ in $(seq 500); do
			pid=$(pgrep -P $monitor | shuf -n 1)
			[ -n "$pid" ] && break
		done
		sleep 0.00$((RANDOM % 10))
		kill -9 "$pid" 2>/dev/null
		sleep 0.3
		disco down --now -s "$SOCK" 2>/dev/null
		! wait "$monitor" || no "round $i: a site with a killed guest is ok: $(cat up.out)" || return 1
		grep -q 'signal 9' up.out || no "round $i: no word of the signal: $(cat up.out)" || return 1
		nothing_left || return 1
	done
}

# ---- running them ----

passed=0 failed=0
mapfile -t all < <(declare -F | sed -n 's/^declare -f test_//p')
[ $# -gt 0 ] || set -- "${all[@]}"
for t; do
	why=''
	rm -rf run run2 result.json up.out
	began=$(date +%s%N)
	if "test_$t" && nothing_left; then
		passed=$((passed + 1))
		echo "ok   $t ($((($(date +%s%N) - began) / 1000000)) ms)"
	else
		failed=$((failed + 1))
		echo "FAIL $t: $why"
	fi
	[ -z "$monitor" ] || kill -9 "$monitor" 2>/dev/null
	monitor=''
	rm -f "$SOCK" "$SOCK.lock"
done
cd / && rm -rf "$D"
echo "monitor: $passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
