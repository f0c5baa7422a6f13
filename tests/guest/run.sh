#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh: runs the tiny guests and the C harnesses of tests/guest on this machine's /dev/kvm.
#
# Use:      tests/guest/run.sh [PREFIX...]   only tests whose names begin so; B: build directory (build)
# Gives:    a line a test, PASS, FAIL or SKIP with seconds; of a failed one what it said; last
#           "guest: N passed, N failed, N skipped". Logs in $GUEST_LOGS ($B/guest-test).
# Holds:    status 0 only if none failed. Time limits are multiplied by GUEST_SLOW (1). Built before: guest-tests.
#           A KVM that emulates kernels may not know IRET: the kernels then return from handlers without it.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
B=${B:-build}
bin=$B/tests/guest
logs=${GUEST_LOGS:-$B/guest-test}
export GUEST_SLOW=${GUEST_SLOW:-1}
slow=$GUEST_SLOW
wanted=("$@")
passed=0 failed=0 skipped=0
iret=
no_irq=
mkdir -p "$logs" || exit 1
logs=$(cd "$logs" && pwd -P)
disk=$logs/disk.img
module=$logs/module.bin
running=
trap '[ -z "$running" ] || kill -KILL "$running" 2>/dev/null' EXIT
trap 'exit 130' INT TERM

# is_wanted NAME
is_wanted() {
	local prefix
	[ ${#wanted[@]} != 0 ] || return 0
	for prefix in "${wanted[@]}"; do [[ $1 != "$prefix"* ]] || return 0; done
	return 1
}

# result WORD NAME [WHY]: one line, with the time since $began.
result() {
	local ms=$((($(date +%s%N) - began) / 1000000))
	printf '%s %-22s %d.%02d s%s\n' "$1" "$2" $((ms / 1000)) $((ms % 1000 / 10)) "${3:+  ($3)}"
	case $1 in
	PASS) passed=$((passed + 1)) ;;
	SKIP) skipped=$((skipped + 1)) ;;
	*)
		failed=$((failed + 1))
		tail -n 12 "$logs/$2.con" "$logs/$2.err" 2>/dev/null | sed 's/^/    /'
		;;
	esac
}

# config NAME KERNEL CMDLINE KEYS: writes $logs/NAME.cfg; boot and memory may be set for it.
config() {
	cat >"$logs/$1.cfg" <<-END
		name = "$1";
		memory = "${memory:-64M}";
		kernel = "$(realpath "$bin/$2.elf")";
		cmdline = "$3";
		console = { type = "file"; path = "$logs/$1.con"; };
		debug_exit = true;
		fwcfg = true;
		boot = "${boot:-pvh}";
		$4
	END
	rm -f "$logs/$1.con"
}

# run_guest NAME SECONDS: runs it; sets status and end.
run_guest() {
	timeout --kill-after=5 $(($2 * slow)) "$B/disco" run "$logs/$1.cfg" --json \
		>"$logs/$1.json" 2>"$logs/$1.err" </dev/null
	status=$?
	end=$(grep -o '"end":"[a-z-]*"' "$logs/$1.json" | cut -d'"' -f4)
}

# guest NAME KERNEL CMDLINE [KEYS [STATUS [END [SECONDS]]]]: one guest, its status and its end.
guest() {
	local name=$1 want=${5:-33} want_end=${6:-debug-exit}
	is_wanted "$name" || return 0
	began=$(date +%s%N)
	if [ -n "$no_irq" ] && [[ $2 =~ ^(lapic|ioapic|smp)$ ]]; then
		result SKIP "$name" "$no_irq"
		return 0
	fi
	config "$name" "$2" "$3 $iret" "${4:-}"
	run_guest "$name" "${7:-60}"
	if [ $status = "$want" ] && [ "$end" = "$want_end" ]; then
		result PASS "$name"
	elif [ $status = 35 ]; then
		result SKIP "$name" "$(sed -n 's/^SKIP: //p' "$logs/$name.con" | tr -d '\r')"
	elif [ $status = 6 ]; then
		result SKIP "$name" "not enough memory here"
	else
		result FAIL "$name" "status $status, not $want; end '$end', not '$want_end'"
		return 1
	fi
}

# CPU time of a process so far, in ticks of 10 ms.
ticks() {
	sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

# killed NAME HOW LIMIT: a guest that never ends by itself; if LIMIT is given it may use so many percent of a CPU. SIGTERM
# must end it within two seconds.
killed() {
	local name=$1 before used tries code
	is_wanted "$name" || return 0
	began=$(date +%s%N)
	config "$name" power "how=$2" ""
	"$B/disco" run "$logs/$name.cfg" --json >"$logs/$name.json" 2>"$logs/$name.err" </dev/null &
	running=$!
	for ((tries = 0; tries < 100 * slow; tries++)); do
		if grep -q ready "$logs/$name.con" 2>/dev/null; then break; fi
		sleep 0.05
	done
	sleep 0.3
	before=$(ticks $running)
	sleep 2
	used=$((($(ticks $running) - before) / 2))
	kill -TERM $running
	for ((tries = 0; tries < 20 * slow; tries++)); do
		kill -0 $running 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL $running 2>/dev/null
	wait $running 2>/dev/null
	code=$?
	if [ $code = 137 ]; then
		result FAIL "$name" "still there $((2 * slow)) s after SIGTERM"
	elif [ $code != 1 ]; then
		result FAIL "$name" "status $code, not 1"
	elif ! grep -q '"end":"stopped"' "$logs/$name.json"; then
		result FAIL "$name" "its end is not 'stopped'"
	elif [ -n "${3:-}" ] && [ "$used" -ge "$3" ]; then
		result FAIL "$name" "used $used % of a CPU, not under $3 %"
	else
		result PASS "$name" "$used % CPU"
	fi
	running=
}

# sleeps NAME MS: a guest that sleeps in HLT until its timer comes: idle nearly all of the time.
sleeps() {
	local name=$1 idle
	is_wanted "$name" || return 0
	began=$(date +%s%N)
	if [ -n "$no_irq" ]; then
		result SKIP "$name" "$no_irq"
		return 0
	fi
	config "$name" power "how=sleep ms=$2 $iret" ""
	run_guest "$name" 60
	idle=$(grep -o '"idle_ms":[0-9]*' "$logs/$name.json" | head -n 1 | cut -d: -f2)
	if [ $status != 33 ] || [ "${idle:-0}" -lt $(($2 * 95 / 100)) ]; then
		result FAIL "$name" "status $status, idle $idle of $2 ms"
	else
		result PASS "$name" "idle $idle ms"
	fi
}

# spoiled NAME: the malformed virtqueues; each log line is one stop, and not more of them than logged at most (16 each).
spoiled() {
	local name=$1 lines other
	is_wanted "$name" || return 0
	guest "$name" virtio "sectors=16" 'disks = ({ path = "'"$disk"'"; readonly = true; });' || return 0
	lines=$(grep -c 'stopped until the guest resets it' "$logs/$name.err")
	other=$(grep -vc 'stopped until the guest resets it' "$logs/$name.err")
	began=$(date +%s%N)
	if [ "$lines" = 32 ] && [ "$other" = 0 ]; then
		result PASS "$name-log" "$lines lines"
	else
		result FAIL "$name-log" "$lines lines of stops, not 32; $other other lines"
	fi
}

# harness NAME: a C program of ours; its status 77 means that it skipped everything.
harness() {
	local name=$1
	is_wanted "$name" || return 0
	began=$(date +%s%N)
	rm -f "$logs/$name.con"
	timeout --kill-after=5 $((${2:-60} * slow)) "$bin/$name" >"$logs/$name.con" 2>"$logs/$name.err"
	status=$?
	case $status in
	0) result PASS "$name" "$(grep -ho 'SKIP: .*' "$logs/$name.con" "$logs/$name.err" | head -n 1)" ;;
	77) result SKIP "$name" "$(tail -n 1 "$logs/$name.err")" ;;
	*) result FAIL "$name" "status $status" ;;
	esac
}

# A script that drives the program from outside; GUEST_SCRIPTS=no leaves these out.
script() {
	local name=$1
	is_wanted "$name" || return 0
	[ "${GUEST_SCRIPTS:-yes}" != no ] || return 0
	began=$(date +%s%N)
	B=$B timeout --kill-after=5 $(($2 * slow)) "tests/guest/$name.sh" >"$logs/$name.con" 2>"$logs/$name.err"
	status=$?
	case $status in
	0) result PASS "$name" "$(tail -n 1 "$logs/$name.con")" ;;
	77) result SKIP "$name" "$(cat "$logs/$name.con" "$logs/$name.err" | tail -n 1)" ;;
	*) result FAIL "$name" "status $status" && grep -h FAIL "$logs/$name.con" | head -n 10 ;;
	esac
}

# How interrupts of a guest's kernel behave here.
probe() {
	config probe irqprobe "" ""
	run_guest probe 20
	if [ $status != 33 ]; then
		iret="iret=no"
		config probe irqprobe "$iret" ""
		run_guest probe 20
		echo "     this KVM does not execute a guest kernel's IRET: handlers return without it, no NMIs"
	fi
	[ $status = 33 ] || no_irq="this KVM does not interrupt a guest's kernel"
}

# Files the guests are given: 16 sectors, each full of its number; and the module's 5000 bytes.
files() {
	local i
	for ((i = 1; i <= 16; i++)); do
		printf '%512s' '' | tr ' ' "\\$(printf %03o $i)"
	done >"$disk"
	for ((i = 0; i < 5000; i++)); do
		printf '\\x%02x' $(((i * 7 + 3) % 256))
	done >"$module.txt"
	printf '%b' "$(cat "$module.txt")" >"$module"
	rm -f "$module.txt"
}

if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
	echo "SKIP all: no usable /dev/kvm here"
	echo "guest: 0 passed, 0 failed, 1 skipped"
	exit 0
fi
files
probe

initrd="initrd = \"$module\";"
boot=multiboot guest boot-multiboot boot "module=1 last=word" "$initrd"
boot=multiboot memory=128M guest boot-no-module boot "cpus=3 ram=128 last=word" "vcpus = 3;"
guest boot-pvh boot "proto=pvh module=1 last=word" "$initrd"
memory=4G guest boot-4g boot "proto=pvh ram=4096 last=word"
boot=auto guest boot-auto boot "proto=pvh last=word"
guest exit-0 exit "code=0" "" 1
guest exit-16-byte exit "code=16 width=1" "" 33
guest exit-3-word exit "code=3 width=2" "" 7
guest exit-127 exit "code=127" "" 255
guest lapic lapic ""
guest ioapic ioapic ""
for v in 1 2 4; do
	guest smp-$v-view smp "" "vcpus = 4; views = $v;"
	guest time-$v-view time "" "vcpus = 4; views = $v;"
done
guest smp-x2apic smp "apic=x2 incs=2000" "vcpus = 4; views = 2;"
guest smp-8-vcpus smp "incs=2000" "vcpus = 8; views = 4;"
spoiled virtio
guest end-acpi-off power "how=acpi-off" "" 0 poweroff
guest end-acpi-reset power "how=acpi-reset" "" 0 reset
guest end-kbd power "how=kbd" "" 0 reset
guest end-cf9 power "how=cf9" "" 0 reset
guest end-triple-reset power "how=triple-reset" "" 0 reset
guest end-triple-fault power "how=triple-fault" "" 1 failed
killed kill-hang hang
killed kill-halt halt 5
sleeps idle-sleep 2000
guest hostile-sweep sweep "ram=64 step=16" "disks = ({ path = \"$disk\"; readonly = true; });" 33 debug-exit 180
for t in "$bin"/test_*; do
	[[ ! -x $t || $t = *.* ]] || harness "$(basename "$t")" 240
done
for t in tests/guest/test_*.sh; do script "$(basename "$t" .sh)" 240; done
echo "guest: $passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
