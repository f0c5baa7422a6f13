# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# lib.sh: what the lab's tests have in common; sourced. A test is one script that runs twice: on this machine, where
# it boots a lab, and once more with the argument "inside" in that lab, where the guests are started.
#
# Use:      define inside(), then call: both [OPTION of lab/run.sh...]      (or call boot_lab oneself, then finish)
# Gives:    here:    boot_lab, tool, image, check, finish, IN (is /in there) and OUT (is /out there)
#           inside:  D (the program), T (a directory for this run), keys, guest, site, run, attach, type_in, wait_text,
#                    wait_gone, processes, json, show, check, finish
# Holds:    every check prints one line; the status is 0 only if no check failed. Nothing stays behind. Limits in
#           seconds are what a machine with nothing else to do is given; all are PATIENCE times that, for there are slow
#           and busy ones, and who waits for what comes goes on as soon as it has come.
set -uo pipefail

SELF=$(basename "$0")
FAILED=0
PATIENCE=3
D=/build/disco

# check WHAT COMMAND...: runs the command; says whether it held.
check() {
	local what=$1
	shift
	if "$@"; then
		printf 'ok    %s\n' "$what"
	else
		printf 'FAIL  %s   (%s)\n' "$what" "$*"
		FAILED=$((FAILED + 1))
		return 1
	fi
}

# Comparisons for check.
is() { [ "$1" = "$2" ]; }
above() { [ "${1:-0}" -gt "$2" ]; }
below() { [ "${1:-0}" -lt "$2" ]; }
has() { grep -aqE -e "$2" "$1"; }

# The end of the test.
finish() {
	[ "$FAILED" = 0 ] || echo "$SELF: $FAILED checks failed"
	[ "$FAILED" = 0 ]
	exit
}

# ---- on this machine ----

# The directories that the lab sees as /in and /out; gone when the test ends.
prepare() {
	cd "$(dirname "$0")/../.." || exit 1
	export B=${B:-build}
	export LAB=${LAB:-$B/lab}
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/disco-test.XXXXXX")
	IN=$WORK/in
	OUT=$WORK/out
	mkdir "$IN" "$OUT"
	trap 'rm -rf "$WORK"' EXIT
	trap 'exit 143' TERM INT
}

# tool FILE.c: compiles a program for guests, without libraries; in /in it is FILE.
tool() {
	gcc -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -static -pthread \
		-o "$IN/$(basename "$1" .c)" "tests/lab/guest/$1" || exit 1
}

# image TOOL...: makes /in/initrd.img: the small guest with the jobs of tests/lab/guest and the tools on top.
image() {
	local name dir=$WORK/top
	mkdir -p "$dir/jobs" "$dir/bin"
	cp lab/guest/jobs/*.sh tests/lab/guest/*.sh "$dir/jobs/"
	for name; do
		tool "$name.c"
		strip -o "$dir/bin/$name" "$IN/$name"
	done
	cp "$LAB/guest-busybox.cpio.gz" "$IN/initrd.img"
	# Archives may follow each other on four-byte boundaries.
	truncate -s %4 "$IN/initrd.img"
	(cd "$dir" && find . -mindepth 1 | sort | cpio --quiet -o -H newc -R 0:0) >>"$IN/initrd.img"
}

# boot_lab OPTION...: boots the lab and runs inside() there; its status becomes a check of its own.
boot_lab() {
	local status word last='' words=()
	for word; do
		[ "$last" != --timeout ] || word=$((word * PATIENCE))
		words+=("$word")
		last=$word
	done
	lab/run.sh --in "$IN" --out "$OUT" "${words[@]}" -- "tests/lab/$SELF" inside
	status=$?
	[ $status = 0 ] && return
	printf 'FAIL  in the lab: status %s\n' $status
	FAILED=$((FAILED + 1))
}

# both OPTION...: the usual course.
both() {
	if [ "${ARG:-}" = inside ]; then
		T=/tmp/t
		mkdir -p $T
		inside
		finish
	fi
	boot_lab "$@"
	finish
}

# ---- inside ----

# keys NAME KEY=VALUE...: a guest's keys as configuration text; KERNEL, INITRD and CON may be set before.
keys() {
	local name=$1
	shift
	printf 'name = "%s"; kernel = "%s"; initrd = "%s"; console = "%s";\n' "$name" "${KERNEL:-/lab/guest-vmlinux}" \
		"${INITRD:-/in/initrd.img}" "${CON:-file:$T/$name.con}"
	printf '%s;\n' "$@"
	# Pages that move make emulated guests slow: only tests that ask for it have a pager.
	[[ " $*" == *" policy"* ]] || [ "${POLICY:-none}" = default ] || printf 'policy = "none";\n'
}

# guest NAME KEY=VALUE...: writes $T/NAME.cfg, the configuration of a single guest.
guest() {
	keys "$@" >"$T/$1.cfg"
	rm -f "$T/$1.con"
}

# site NAME, guests' text from standard input (keys of each, in braces): writes $T/NAME.cfg.
site() {
	{
		printf 'name = "%s"; guests = (\n' "$1"
		cat
		printf ');\n'
	} >"$T/$1.cfg"
}

# run NAME SECONDS: runs a guest to its end; its figures are in $T/NAME.json. Gives disco's status, 124 after the time.
run() {
	timeout -k 5 $(($2 * PATIENCE)) $D run "$T/$1.cfg" --json </dev/null >"$T/$1.json" 2>"$T/$1.err"
}

# wait_text FILE PATTERN SECONDS: waits until a file has a line of that pattern.
wait_text() {
	local end=$((SECONDS + $3 * PATIENCE))
	until [ -e "$1" ] && grep -aqE -e "$2" "$1"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}

# attach GUEST [OPTION...]: a guest's console, of the monitor at $T/sock: keys by type_in, output in $T/GUEST.out.
attach() {
	mkfifo "$T/$1.keys"
	exec 7<>"$T/$1.keys"
	$D console "$@" --socket $T/sock <"$T/$1.keys" >"$T/$1.out" 2>"$T/$1.conerr" &
	CONSOLE=$T/$1.out
}

# type_in LINE PATTERN SECONDS: types a line there and waits for what must come. What the terminal echoes has no
# results of $(( )) in it.
type_in() {
	printf '%s\n' "$1" >&7
	wait_text "$CONSOLE" "$2" "$3"
}

# wait_gone PID SECONDS: waits for the end of a process that need not be our child.
wait_gone() {
	local end=$((SECONDS + $2 * PATIENCE))
	while kill -0 "$1" 2>/dev/null; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}

# processes: how many processes of the program there are, monitors and cells.
processes() { readlink /proc/[0-9]*/exe | grep -c '/disco$'; }

# json NAME FILTER: one figure of $T/NAME.json.
json() {
	jq -r "$2" "$T/$1.json"
}

# What it looked like, for a failure.
show() {
	echo "---- the end of $1"
	tail -n "${2:-15}" "$1" | tr -d '\r'
}

ARG=${1:-}
[ "$ARG" = inside ] || prepare
