#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh: runs unit test programs (cmocka) and adds up what they say.
#
# Use:    tests/unit/run.sh PROGRAM...
# Gives:  a line for each program, its whole output where it failed; last "unit: N passed, N failed, N skipped",
#         counted in tests, not programs.
# Holds:  status 0 only if none failed; a program that dies or hangs (120 s) counts as one failure.
set -u
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# number WORD: the count cmocka printed behind [  WORD  ] at its end.
number() {
	sed -n "s/^\[  $1  \] \([0-9]*\) test(s).*/\1/p" "$log" | tail -n 1
}

for program; do
	began=$(date +%s%N)
	timeout 120 "$program" >"$log" 2>&1
	status=$?
	ms=$((($(date +%s%N) - began) / 1000000))
	p=$(number PASSED) f=$(number FAILED) s=$(number SKIPPED)
	[ "$status" = 0 ] || [ "${f:-0}" != 0 ] || f=1
	passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0})) skipped=$((skipped + ${s:-0}))
	printf '%-4s %-24s %4d tests %6d ms\n' "$([ "$status" = 0 ] && echo ok || echo FAIL)" "$(basename "$program")" \
		"${p:-0}" "$ms"
	[ "$status" = 0 ] || { echo "status $status:" && tail -n 40 "$log"; }
	grep -h '^\[  SKIPPED \]\|^skip:' "$log" | grep -v 'test(s)' | sed 's/^/     /'
done
echo "unit: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
