#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh: all tests of the project: unit, fuzz seeds, tiny guests on /dev/kvm, and the emulated NUMA machine.
#
# Use:    make check (which builds first); B is the build directory. CHECK_KINDS="unit guest lab" chooses.
# Gives:  each kind's own output and line, and at the end the sum on a line of its own.
# Holds:  status 0 only if nothing failed and something ran. Every kind is run even when one before it failed.
set -u
cd "$(dirname "$0")/.." || exit 1
export B=${B:-build}
kinds=${CHECK_KINDS:-unit fuzz guest lab}
logs=$B/check
mkdir -p "$logs"
began=$(date +%s)

# kind NAME COMMAND...: runs a kind of test, its output kept and shown.
kind() {
	local name=$1 t
	shift
	[[ " $kinds " == *" $name "* ]] || return 0
	t=$(date +%s)
	echo "== $name"
	"$@" 2>&1 | tee "$logs/$name.log"
	[ "${PIPESTATUS[0]}" = 0 ] || echo "$name" >>"$logs/failed"
	echo "== $name took $(($(date +%s) - t)) s"
}

# fuzz_all: every fuzz program's fixed number of mutations.
fuzz_all() {
	local ok=0 bad=0 f
	for f in tests/fuzz/fuzz_*.c; do
		f=$B/${f%.c}
		if timeout 120 "$f" >"$logs/fuzz-one.log" 2>&1; then
			ok=$((ok + 1)) && echo "ok   $(basename "$f")"
		else
			bad=$((bad + 1)) && echo "FAIL $(basename "$f")" && tail -n 20 "$logs/fuzz-one.log"
		fi
	done
	echo "fuzz: $ok passed, $bad failed, 0 skipped"
	[ $bad = 0 ]
}

rm -f "$logs"/*.log "$logs/failed"
programs=()
for source in tests/unit/test_*.c; do programs+=("$B/${source%.c}"); done
kind unit tests/unit/run.sh "${programs[@]}"
kind fuzz fuzz_all
kind guest make --no-print-directory guest-tests
kind lab make --no-print-directory lab-test LAB_JOBS="${LAB_JOBS:-2}"

echo
passed=0 failed=0 skipped=0
for name in $kinds; do
	line=$(grep -h "^$name: [0-9]* passed, [0-9]* failed" "$logs/$name.log" 2>/dev/null | tail -n 1)
	[ -n "$line" ] || line="$name: 0 passed, 1 failed, 0 skipped"
	echo "$line"
	read -r p f s < <(echo "$line" | sed 's/[^0-9]*\([0-9]*\) passed, \([0-9]*\) failed\(, \([0-9]*\) skipped\)*.*/\1 \2 \4/')
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + ${s:-0}))
done
if [ -s "$logs/failed" ] && [ $failed = 0 ]; then
	echo "these ended with an error: $(tr '\n' ' ' <"$logs/failed")"
	failed=1
fi
echo "all kinds took $(($(date +%s) - began)) s"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ] && [ $passed -gt 0 ]
