#!/bin/bash
# SPDX-License-Identifier: MIT
#
# demo.sh: the demonstration: four Debian guests boot, compile, talk to each other and power off.
#
# Use:    make demo (which builds first); B is the build directory, LAB where the lab is kept (default $B/lab).
#         DEMO_WHERE=lab or native instead of what `disco doctor` advises.
#         tools/demo.sh --here OUT: the run itself, on this machine; in the lab it is called so.
# Gives:  progress, a line for each step of each guest; a table; in $B/demo: result.json, topology.svg, progress.txt,
#         table.txt, a picture of both (demo.svg) and the guests' consoles.
# Holds:  status 0 only if every guest ended as asked and fetched exactly what its neighbour had. Nothing runs on
#         when it ends, however that comes; what an earlier run left in $B/demo is replaced.
set -uo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
out=$B/demo
limit=${DEMO_TIMEOUT:-1500}

# ---- the run itself, on this machine; it forks little, as each process costs time in the lab ----

# The seconds since the run began, as [ 12.3].
stamp() {
	local ms=$(((${EPOCHREALTIME/./} - began) / 1000))
	printf -v now '[%4d.%d]' $((ms / 1000)) $((ms % 1000 / 100))
}

# step NAME WORD TEXT: one line of progress.
step() {
	stamp
	printf '%s %-6s %-8s %s\n' "$now" "$1" "$2" "$3"
}

# heard NAME LINE: what a line of a guest's console, or of the monitor (NAME is disco), means.
heard() {
	local name=$1 line=${2%$'\r'} word peer sum bytes
	if [ "$name" = disco ]; then
		case $line in
		'['*'] '*' started: '* | '['*'] '*' ended after '*)
			read -r name word line <<<"${line#*] }"
			step "$name" "${word%:}" "$line"
			;;
		'['* | guest* | demo[1-4]\ * | '') ;;
		*) step "$name" says "$line" ;;
		esac
		return
	fi
	case $line in
	'DEMO '*)
		read -r _ word line <<<"$line"
		step "$name" "$word" "$line"
		;;
	DEMO-SERVE*)
		read -r _ sum bytes <<<"$line"
		echo "serve $name $sum $bytes" >>"$here/sums"
		step "$name" serve "$bytes bytes, SHA-256 ${sum:0:12}"
		;;
	DEMO-FETCH*)
		read -r _ peer sum bytes <<<"$line"
		echo "fetch $name $peer $sum $bytes" >>"$here/sums"
		step "$name" fetch "$bytes bytes from $peer, SHA-256 ${sum:0:12}"
		;;
	DEMO-BAD*)
		read -r _ line <<<"$line"
		step "$name" BAD "$line"
		;;
	'DISCO-GUEST-DONE 0') step "$name" 'done' "powers off" ;;
	*'Kernel panic'* | *'BUG:'* | *'soft lockup'* | *'rcu'*'stall'*) step "$name" kernel "$line" ;;
	esac
}

# follow: takes what is new in every file that is followed; a line that is not complete waits.
follow() {
	local i line fd
	for i in "${!files[@]}"; do
		if [ -z "${fds[i]:-}" ]; then
			[ -r "${files[i]}" ] || continue
			exec {fd}<"${files[i]}"
			fds[i]=$fd
		fi
		while IFS= read -r -u "${fds[i]}" line; do
			heard "${names[i]}" "${rest[i]:-}$line"
			rest[i]=
		done
		rest[i]=${rest[i]:-}$line
	done
}

# finish STATUS: ends the monitor if it still runs (its guests end with it), keeps the consoles, goes.
finish() {
	local status=$1
	trap - EXIT INT TERM HUP
	if [ -n "$monitor" ] && kill -TERM "$monitor" 2>/dev/null; then
		for _ in 1 2 3 4 5 6 7 8 9 10; do
			kill -0 "$monitor" 2>/dev/null || break
			sleep 0.3
		done
		kill -KILL "$monitor" 2>/dev/null
	fi
	[ -z "$monitor" ] || wait "$monitor" 2>/dev/null
	cp "$work"/demo/*.console "$here/" 2>/dev/null
	rm -rf --one-file-system "$work"
	exit "$status"
}

# local_config: the configuration for this machine: where the lab's files are, and whether it has the nodes.
local_config() {
	local lab=/lab nodes
	if [ ! -e /lab/guest-vmlinuz ] || [ ! -d /ctl ]; then lab=$(cd "$LAB" && pwd -P); fi
	nodes=(/sys/devices/system/node/node[0-9]*)
	sed -e "s|\"../build/lab/|\"$lab/|" configs/demo.cfg >"$work/demo.cfg"
	if [ ${#nodes[@]} -lt 4 ]; then
		step disco places "this machine has ${#nodes[@]} node(s), not 4: the placement chooses"
		sed -i -e 's/ nodes = \[[^]]*\];//' "$work/demo.cfg"
	fi
}

# run_here OUT: runs the site; OUT gets site.json, topology.svg, sums, consoles.
run_here() {
	here=$1
	monitor=
	names=() files=() fds=() rest=()
	work=$(mktemp -d /tmp/disco-demo.XXXXXX) || exit 1
	began=${EPOCHREALTIME/./}
	trap 'finish $?' EXIT
	trap 'finish 130' INT
	trap 'finish 143' TERM HUP
	mkdir -p "$here"
	: >"$here/sums"
	local_config
	names=(demo1 demo2 demo3 demo4 disco)
	for name in "${names[@]:0:4}"; do files+=("$work/demo/$name.console"); done
	files+=("$work/up.log")
	began=${EPOCHREALTIME/./}
	"$B/disco" up "$work/demo.cfg" --socket "$work/demo.sock" --result "$here/site.json" \
		--svg "$here/topology.svg" >"$work/up.log" 2>&1 &
	monitor=$!
	# A pause without a process: nothing is ever written there.
	exec {never}<> <(:)
	while kill -0 "$monitor" 2>/dev/null && [ $SECONDS -lt "$limit" ]; do
		follow
		read -r -t 0.5 -u "$never"
	done
	if kill -0 "$monitor" 2>/dev/null; then
		step disco ends "after $limit s not all guests were done"
		finish 124
	fi
	wait "$monitor"
	local status=$?
	monitor=
	follow
	finish $status
}

# ---- around it: where to run, and what came of it ----

# where: sets place to native or lab, and why.
where() {
	local report status
	report=$("$B/disco" doctor --json)
	status=$?
	place=${DEMO_WHERE:-native}
	why="this machine's KVM runs guest kernels"
	[ -z "${DEMO_WHERE:-}" ] || why="DEMO_WHERE=$DEMO_WHERE"
	if [ $status != 0 ] && [ -z "${DEMO_WHERE:-}" ]; then
		place=lab
		why=$(jq -r '[.checks[] | select(.state == "fail")][0] | "\(.check): \(.meaning)"' <<<"$report")
	fi
}

# Joins what the monitor says of its guests with what they served and fetched.
# shellcheck disable=SC2016 # jq's variables
join='
	($sums | split("\n") | map(split(" "))) as $l
	| ($l | map(select(.[0] == "serve")) | map({key: .[1], value: .[2]}) | from_entries) as $served
	| ($l | map(select(.[0] == "fetch")) | map({key: .[1], value: {from: .[2], sum: .[3]}}) | from_entries) as $got
	| {site: .site, where: $where, guests: [.guests[] | .name as $n
		| .checksum = $served[$n] | .fetched = $got[$n].sum | .fetched_from = $got[$n].from
		| if .result != "ok" then .
		  elif .checksum == null then .result = "nothing compiled"
		  elif .fetched == null then .result = "nothing fetched"
		  elif .fetched != $served[.fetched_from] then .result = "wrong checksum"
		  else . end]}'

# The table: a line for each guest, columns by tabs.
table='
	def count: if . >= 10000 then "\(. / 1000 | round)k" else tostring end;
	def kinds: to_entries | map(select(.key != "total")) | sort_by(-.value)
		| .[:4] | map("\(.key) \(.value | count)") | join(", ");
	["guest", "nodes", "views", "vcpus", "boot ms", "exits", "by kind", "memory", "result", "checksum"],
	(.guests[] | [.name, (.nodes | map(tostring) | join(",")), .views, .vcpus, ((.boot_ms // 0) | round),
		((.exits.total // 0) | count), (.exits | kinds), "\(.memory / 1048576)M", .result, (.checksum // "-")[:12]])
	| @tsv'

# align: pads columns that tabs separate; numbers to the right.
# shellcheck disable=SC2016 # awk's variables
align() {
	awk -F '\t' '
		{ for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > wide[i]) wide[i] = length($i) } fields = NF }
		END {
			for (r = 1; r <= NR; r++) {
				line = ""
				for (i = 1; i <= fields; i++) {
					right = cell[2, i] ~ /^[0-9.]+[kM]?$/ && i != 2
					line = line sprintf("%" (right ? "" : "-") wide[i] "s  ", cell[r, i])
				}
				sub(/ +$/, "", line)
				print line
			}
		}'
}

# conclude STATUS: the result file and the table; returns the demo's status.
conclude() {
	local status=$1 good
	if [ ! -s "$out/site.json" ]; then
		echo "demo: no guest ran to its end (status $status); consoles and progress.txt are in $out" >&2
		[ "$status" != 0 ] || status=1
		return "$status"
	fi
	jq --rawfile sums "$out/sums" --arg where "$place" "$join" "$out/site.json" >"$out/result.json" || return 1
	echo
	jq -r "$table" "$out/result.json" | align | tee "$out/table.txt"
	echo
	# Counted from the result file, so that what is said is what is written.
	good=$(jq '[.guests[] | select(.result == "ok")] | length' "$out/result.json")
	{
		cat "$out/progress.txt" && echo && cat "$out/table.txt" && echo
		echo "demo: $good of 4 guests ok, $SECONDS s"
	} | tools/text-svg.sh "make demo" >"$out/demo.svg"
	echo "demo: $good of 4 guests ok, $SECONDS s; $out: result.json, topology.svg, demo.svg, consoles"
	[ "$good" = 4 ] || status=1
	return "$status"
}

# The run, where it was decided; prints its progress.
run() {
	if [ "$place" = native ]; then
		echo "demo: the guests run on this machine: $why"
		"$BASH" tools/demo.sh --here "$out"
		return
	fi
	echo "demo: the guests run in the lab, an emulated machine of 4 nodes x 2 CPUs; the reason:"
	echo "demo: $why"
	echo "demo: one thread emulates all its CPUs: this takes some minutes, and its times say nothing of hardware"
	lab/run.sh --nodes 4 --cpus-per-node 2 --timeout $((limit + 60)) --out "$out" -- \
		"B=/build DEMO_TIMEOUT=$limit bash tools/demo.sh --here /out"
}

main() {
	local status
	tools/deps.sh build lab || exit 1
	lab/build.sh all || exit 1
	where
	rm -rf --one-file-system "$out"
	mkdir -p "$out"
	SECONDS=0
	run 2>&1 | tee "$out/progress.txt"
	status=${PIPESTATUS[0]}
	# Ended by a signal or by time: there is nothing to sum up.
	if [ "$status" -ge 124 ]; then
		echo "demo: ended (status $status)" >&2
		exit "$status"
	fi
	conclude "$status"
	exit $?
}

case ${1:-} in
--here) run_here "$2" ;;
'') trap 'exit 130' INT && main ;;
*) die 2 "usage: tools/demo.sh [--here OUT]" ;;
esac
