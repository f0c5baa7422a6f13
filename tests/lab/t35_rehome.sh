#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t35_rehome.sh: a guest on nodes 0 and 1 of four goes to node 2 and then, from the other, to node 3, under load: its
# memory and its vCPUs' threads are there afterwards, nothing stays behind, checksums stay right; a guest of one view
# without a pager can move as well; moves that make no sense are refused.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
POLICY=default

# used NODE: pages of the guest on a node, by the kernel's word.
used() { jq -e "[.memory.nodes[] | select(.node == $1) | .used] | add // 0 | . / 4096" $T/stat.json || echo 1000000; }

# where FIELD: sorted, each once.
where() { jq -c "[$1] | unique" $T/stat.json; }

# one NAME FROM TO...: moves, one after the other.
one() {
	local name=$1 from to
	shift
	while [ $# -gt 0 ]; do
		from=$1 to=$2
		shift 2
		check "$name goes from node $from to $to" $D rehome "$name" "$from" "$to" --socket $T/sock
		$D stat "$name" --socket $T/sock --json >$T/stat.json
		check "$name: nothing is left on node $from" below "$(used "$from")" 65
		check "$name: memory is on node $to" above "$(used "$to")" 1000
		check "$name: no vCPU on node $from" is "$(where ".vcpus[].node | select(. == $from)")" "[]"
		check "$name: the monitor knows where it is" is "$($D ps --socket $T/sock --json |
			jq -c ".guests[] | select(.name == \"$name\") | .nodes | [index($from), (index($to) != null)]")" "[null,true]"
		check "$name: its move is over" is "$(jq -c '[.move.from, .move.to, .move.over, .move.error]' $T/stat.json)" \
			"[$from,$to,true,null]"
	done
}

# loads GUEST OUTPUT: it went well in there.
loads() {
	grep -aE '^(SMP|CLOCK|LOG)' "$2"
	check "$1: the job went well" has "$2" 'DISCO-GUEST-DONE 0'
	check "$1: there were checksums" has "$2" 'SMP cpus [14] rounds [1-9]'
	check "$1: all of them right" is "$(grep -a '^SMP cpus' "$2" | grep -cv 'wrong 0 warnings 0')" 0
}

inside() {
	local up words='console=ttyS0 quiet'
	{
		echo "{"
		CON=monitor keys a vcpus=4 'nodes=[0,1]' views=2 'memory="128M"' "cmdline=\"$words job=until,log load=10\""
		echo "}, {"
		keys b vcpus=1 'nodes=[0]' 'memory="96M"' "cmdline=\"$words job=burn,log load=60\""
		echo "}"
	} | site rehome
	$D up $T/rehome.cfg --socket $T/sock >$T/up.out 2>&1 &
	up=$!
	wait_text $T/up.out a.*started: 20
	attach a
	check "the loads began" wait_text $T/a.out BURN-BEGIN 90
	wait_text $T/b.con BURN-BEGIN 90
	one b 0 1
	check "from a node where it is not" is "$($D rehome a 2 3 --socket $T/sock 2>&1 | grep -c 'nothing on the first')" 1
	check "to a node where it is" is "$($D rehome a 0 1 --socket $T/sock 2>&1 | grep -c 'is on the second')" 1
	check "to a node that is none" is "$($D rehome a 0 9 --socket $T/sock 2>&1 | grep -c 'no node with memory')" 1
	one a 0 2
	check "from the node that it has left" is "$($D rehome a 0 3 --socket $T/sock 2>&1 | grep -c 'nothing on the first')" 1
	one a 1 3
	# However long moves take here, a guest is at work until now.
	check "its load ends when it is told to" type_in enough DISCO-GUEST-DONE 90
	wait_gone $up 60
	wait $up
	check "the guests ended well" is $? 0 || show $T/up.out
	loads a $T/a.out
	loads b $T/b.con
}

[ "$ARG" = inside ] || image
both --cpus-per-node 1 --timeout 580
