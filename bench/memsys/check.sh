#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh: holds the memory-system model against programs with known answers, in the lab.
#
# Use:      make memsys-check; or check.sh DIRECTORY with B (build directory) and MEMSYS_REPS (5) in the environment;
#           check.sh --short: one small machine, one repetition, nothing is written (part of make check)
# Gives:    the validation table; DIRECTORY/memsys.json, memsys.svg, memsys.md
# Holds:    status 0 only if every figure of every case is there and within its bounds: 2 % of what was derived, 5 %
#           where one set in eight is modelled; and the model costs less than 25 % while it is off.
set -euo pipefail
cd "$(dirname "$0")/../.."
export B=${B:-build}
export LAB=${LAB:-$B/lab}
reps=${MEMSYS_REPS:-5}
results=$1
tools=$B/bench/memsys
raw=$(mkdir -p "$tools/raw" && mktemp -d "$tools/raw/XXXXXX")
trap 'rm -rf "$raw"' EXIT
all="$("$tools/cases" list | cut -d ' ' -f 1 | xargs)"

say() { printf 'memsys-check: %4d s: %s\n' $SECONDS "$*" >&2; }

# The small guest with its load on top.
image() {
	mkdir -p "$raw/top/jobs" "$raw/top/bin" "$raw/in" "$raw/out"
	cp bench/memsys/memload.sh "$raw/top/jobs/"
	strip -o "$raw/top/bin/guestload" "$tools/guestload"
	[ -s "$LAB/guest-busybox.cpio.gz" ] || lab/build.sh base
	cp "$LAB/guest-busybox.cpio.gz" "$raw/in/initrd.img"
	# Archives may follow each other on four-byte boundaries.
	truncate -s %4 "$raw/in/initrd.img"
	(cd "$raw/top" && find . -mindepth 1 | sort | cpio --quiet -o -H newc -R 0:0) >>"$raw/in/initrd.img"
}

# plan PART LIMIT REPS ABOUT CASES: what the report is to find.
plan() {
	printf '{"plan":"%s","limit":%s,"reps":%s,"about":"%s","cases":"%s"}\n' "$1" "$2" "$3" "$4" "$5" \
		>>"$raw/out/plan.jsonl"
}

# part NAME NODES CPUS MODEL REPS WHAT...: boots a lab and runs the cases there. Its timers are slow, as interrupts drive
# lines out of the caches that the cases know nothing of.
part() {
	local name=$1 nodes=$2 cpus=$3 model=$4 n=$5
	shift 5
	say "$name: $nodes nodes of $cpus CPUs, $model"
	lab/run.sh --nodes "$nodes" --cpus-per-node "$cpus" --mem 512 --timeout 600 --in "$raw/in" --out "$raw/out" \
		--memsys "$model,slow=64" -- bash bench/memsys/inlab.sh "$name" "$n" "$@" >&2
}

# Known pages of a guest, found in the trace under the guest's own numbers: every access, none by another's.
join_trace() {
	"$tools/memsys" trace "$raw/trace" "$raw/out/$1.map" >"$raw/trace.txt"
	awk -v part="$1" '
		function row(measure, expected, value, scale) {
			printf "{\"part\":\"%s\",\"rep\":\"1\",\"case\":\"trace\",\"variant\":\"16 pages of a guest\",", part
			printf "\"measure\":\"%s\",\"expected\":%d,\"value\":%d,\"scale\":%d}\n", measure, expected, value, scale
		}
		NR == FNR { want[$1] = $2; sum += $2; next }
		/^#/ { next }
		!($5 in want) { next }
		$6 == "r" { got[$5] += $7 }
		$6 == "w" { written += $7 }
		END {
			for (page in want) {
				off += want[page] > got[page] ? want[page] - got[page] : got[page] - want[page]
				all += got[page]
			}
			row("reads of these pages in the trace", sum, all, sum)
			row("reads under the wrong page", 0, off, sum)
			row("writes", 0, written, sum)
		}' "$raw/out/$1.pages" "$raw/trace.txt" >>"$raw/out/$1.jsonl"
}

# CPU seconds, user and system, of a lab that boots and works, the emulator included.
lab_seconds() {
	local TIMEFORMAT='%U %S'
	{ time lab/run.sh --quiet --nodes 2 --cpus-per-node 2 --mem 512 --in "$raw/in" "$@" -- \
		bash bench/memsys/offload.sh >/dev/null 2>"$raw/offload.log"; } 2>&1 | awk '{ print $1 + $2 }'
}

# The model loaded and off beside none, in turn.
cost_when_off() {
	local i with without
	for ((i = 1; i <= reps; i++)); do
		say "cost while off, pair $i of $reps"
		without=$(lab_seconds)
		with=$(lab_seconds --memsys flash)
		printf '{"part":"off","rep":"%d","with":%s,"without":%s}\n' "$i" "$with" "$without" >>"$raw/out/off.jsonl"
	done
}

image
if [ "$results" = --short ]; then
	plan short 2 1 "flash, 2 nodes of 2 CPUs, translations compared" "$all guest translations trace"
	part short 2 2 "flash,checktlb=1,trace=$PWD/$raw/trace" 1 cases guests pages tlb
	join_trace short
	"$tools/report" "$raw/out" - short
	exit
fi
[ -d "$results" ] || { echo "usage: check.sh DIRECTORY|--short" >&2 && exit 2; }
plan flash 2 "$reps" "flash, 4 nodes of 2 CPUs" "$all guest"
part flash 4 2 flash "$reps" cases guests
plan sampled 5 "$reps" "flash, 4 nodes of 2 CPUs, 1 set in 8" "${all/ pages/} guest"
part sampled 4 2 flash,sample=8 "$reps" cases guests
plan epyc2s 2 "$reps" "epyc2s, 4 nodes of 2 CPUs" "$all"
part epyc2s 4 2 epyc2s "$reps" cases
plan xeon8s 2 "$reps" "xeon8s, 8 nodes of 2 CPUs" "$all"
part xeon8s 8 2 xeon8s "$reps" cases
plan inside 2 1 "flash, 2 nodes of 2 CPUs, translations compared, trace" "$all guest translations trace"
part inside 2 2 "flash,checktlb=1,trace=$PWD/$raw/trace" 1 cases guests pages tlb
join_trace inside
plan off 25 "$reps" "flash, loaded and off, beside no model" "cost"
cost_when_off
"$tools/report" "$raw/out" "$results" "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
