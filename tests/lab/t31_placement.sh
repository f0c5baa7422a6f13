#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t31_placement.sh: where a guest's pages are under each placement: a guest over four nodes whose memory is filled from
# all its CPUs, seen in numa_maps of its cell; "one-node" must fit on the first node; contradictions are refused.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
nodes=4
mb=256
touch=160

# pages PID: pages of guest memory on each node, from the mapping that has most of them.
pages() {
	awk -v nodes=$nodes '/memfd:guest-memory/ {
			sum = 0
			split("", on)
			for (i = 1; i <= NF; i++)
				if ($i ~ /^N[0-9]+=/) {
					split($i, part, "=")
					on[substr(part[1], 2)] = part[2]
					sum += part[2]
				}
			if (sum > most) {
				most = sum
				line = ""
				for (n = 0; n < nodes; n++) line = line " " on[n] + 0
			}
		}
		END { print line }' "/proc/$1/numa_maps"
}

# even LEAST MOST N...: each number lies between.
# shellcheck disable=SC2317 # called by check
even() {
	local least=$1 most=$2 n
	shift 2
	for n; do [ "$n" -ge "$least" ] && [ "$n" -le "$most" ] || return 1; done
}

# one PLACEMENT: fills $on with the pages on each node.
one() {
	local cell
	guest "$1" vcpus=8 'nodes=[2,0,1,3]' views=1 "memory=\"${mb}M\"" 'balloon=false' "placement=\"$1\"" \
		"cmdline=\"console=ttyS0 quiet job=numa touch=$touch hold=4\""
	$D run "$T/$1.cfg" --json </dev/null >"$T/$1.json" 2>"$T/$1.err" &
	cell=$!
	check "$1: memory touched" wait_text "$T/$1.con" NUMA-TOUCHED 90 || { show "$T/$1.con"; show "$T/$1.err"; }
	read -r -a on < <(pages $cell)
	wait $cell
	check "$1: ended well" is $? 0
	echo "      pages on nodes 0 to 3: ${on[*]}"
	sum=0
	for n in "${on[@]}"; do sum=$((sum + n)); done
	check "$1: most of it is seen" above $sum $((touch * 256))
}

inside() {
	# What the mappings do with single pages, to the page.
	/build/tests/unit/test_mem >$T/unit 2>&1
	check "unit tests of guest memory, on nodes" is $? 0 || show $T/unit
	check "those of placement among them" is "$(grep -cE 'OK . test_(nodes|placement)' $T/unit)" 2 || show $T/unit
	one split
	check "split: at most a quarter on each" even 1 $((mb * 64)) "${on[@]}"
	one first-touch
	# Each node's two CPUs filled a quarter, some of it memory that others had touched before and given back.
	check "first-touch: on each what its CPUs filled, about" even $((touch * 256 / 8)) $((sum / 2)) "${on[@]}"
	one interleave
	check "interleave: as much on each" even $((sum / 4 - sum / 100)) $((sum / 4 + sum / 100)) "${on[@]}"
	one one-node
	check "one-node: all on the first of its nodes" is "${on[0]} ${on[1]} ${on[3]}" "0 0 0"
	# On its four nodes it would fit.
	guest large vcpus=8 'nodes=[2,0,1,3]' 'memory="1G"' 'placement="one-node"'
	run large 20
	check "one-node: too large for it: refused" is $? 6
	check "with the node" has $T/large.err 'large.*memory:.*1 GiB asked on node 2' || show $T/large.err
	guest told vcpus=4 'nodes=[0,1]' 'vnuma=true' 'placement="interleave"'
	run told 20
	check "a guest that is told its nodes has them: refused" is $? 3
	check "with a reason" has $T/told.err 'placement: a guest with vnuma' || show $T/told.err
}

if [ "$ARG" != inside ]; then
	make -s B="$B" "$B/tests/unit/test_mem" || exit 1
	image
fi
both --timeout 300 --mem 512 --shmem never
