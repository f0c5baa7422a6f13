#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh: runs the lab's tests, tests/lab/tNN_*.sh, on this machine; each starts the emulated
# machine it wants.
#
# Use:      tests/lab/run.sh [PREFIX...]     only tests whose names begin so; LAB_JOBS=N runs N at a time (1)
# Gives:    a line for each test, PASS, FAIL or SKIP (status 77) with its seconds; of a failed one
#           the end of its output too; all outputs in $B/lab-test/NAME.log; last "lab: N passed, N
#           failed, N skipped".
# Holds:    status 0 only if none failed. A test has a time limit of LAB_TEST_TIMEOUT seconds (2400).
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
export B=${B:-build}
export LAB=${LAB:-$B/lab}
jobs=${LAB_JOBS:-1}
logs=$B/lab-test
mkdir -p "$logs"
# ^C ends the tests that run: each is a group of its own, by timeout, and passes the signal on.
trap 'trap - INT TERM; kill $(jobs -p) 2>/dev/null; wait; exit 130' INT TERM

# one TEST: runs a test and leaves "STATUS SECONDS" beside its log.
one() {
	local name=$1 log=$logs/$1.log began status word
	began=$(date +%s)
	timeout --kill-after=10 "${LAB_TEST_TIMEOUT:-2400}" "tests/lab/$name.sh" >"$log" 2>&1 </dev/null &
	trap 'kill $! 2>/dev/null; wait; exit 130' TERM
	wait $!
	status=$?
	case $status in
	0) word=PASS ;;
	77) word=SKIP ;;
	*) word=FAIL ;;
	esac
	printf '%s %s %d s%s\n' "$word" "$name" $(($(date +%s) - began)) \
		"$([ $word != FAIL ] || echo ", status $status, $log")"
	[ $word != SKIP ] || tail -n 1 "$log" | sed 's/^/    /'
	[ $word != FAIL ] || tail -n 25 "$log" | sed 's/^/    /'
	echo $word >"$logs/$name.result"
}

names=()
for file in tests/lab/t[0-9]*.sh; do
	name=$(basename "$file" .sh)
	wanted=$([ $# = 0 ] && echo yes || echo no)
	for prefix; do [[ $name != "$prefix"* ]] || wanted=yes; done
	[ "$wanted" = no ] || names+=("$name")
done
[ ${#names[@]} != 0 ] || { echo "lab: no test of that name" >&2 && exit 2; }

rm -f "$logs"/*.result
for name in "${names[@]}"; do
	while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
	one "$name" &
done
wait

count() { cat "$logs"/*.result 2>/dev/null | grep -c "^$1$"; }
passed=$(count PASS)
skipped=$(count SKIP)
failed=$((${#names[@]} - passed - skipped))
echo "lab: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
