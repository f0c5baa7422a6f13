#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t34_look.sh: looking at a guest's pages while they move: `disco stat --pages` and `disco heatmap` of a guest with
# 4 views, as text, picture and JSON, and one sentence for a guest without a pager; `disco doctor` names each lesser
# mode of the pager that is brought about here, and what mends it.
# Takes:    LOOK_OUT   a directory that keeps the picture and the figures
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"

eager="trigger=1,sharing=1,margin=0,gate=0,cpu=200"

# doctor CHECK PATTERN [COMMAND...]: whether the doctor's line of that name (a later one counts, too) matches.
# shellcheck disable=SC2317 # called by check
doctor() {
	local name=$1 pattern=$2
	shift 2
	"$@" $D doctor --json >$T/doctor 2>&1
	jq -e --arg n "$name" --arg p "$pattern" \
		'[.checks[] | select(.check == $n) | "\(.state): \(.meaning) mend: \(.mend)" | test($p)] | any' $T/doctor >/dev/null
}

# What the figures must say of one another.
figures() {
	local began
	began=$(date +%s%N)
	check "figures of pages, for people" $D stat g --pages --socket $T/sock
	echo "      $((($(date +%s%N) - began) / 1000000)) ms"
	$D stat g --pages --json --socket $T/sock >$T/pages.json
	check "as JSON" is "$(jq -r '.name + " " + .pages.policy + " \(.pages.nodes | length) \(.why)"' $T/pages.json)" \
		"g replicate 4 null"
	check "pages were replicated" above "$(jq .pages.done.replicated $T/pages.json)" 20
	check "pages were sampled" above "$(jq .pages.sampling.touches $T/pages.json)" 20
	check "counts of faults do not tell which gains came: all are believed" is \
		"$(jq -c '.pages.cost.believed == {migrate: 1, replicate: 1, balance: 1}' $T/pages.json)" true
	check "a guest with one view: why not" has <($D stat one --pages --socket $T/sock) \
		'^guest one: .*it has one view, so its pages have nowhere to go$'
	check "one with another policy: why not" has <($D stat still --pages --socket $T/sock) '^guest still: its pages stay where'
	check "as JSON, too" is "$($D stat one --pages --json --socket $T/sock | jq -c '[.pages, (.why | type)]')" '[null,"string"]'
}

# Reads that the map shows.
reads() { jq '[.cells[].reads // [] | add // 0] | add' $T/map.json; }

# What is known of uses fades, and a slow machine puts intervals off: not every map shows many.
until_seen() {
	local i
	for i in $(seq $((20 * PATIENCE))); do
		[ "$(reads)" -le 20 ] || return 0
		sleep 1
		$D heatmap g --json --socket $T/sock >$T/map.json
	done
	echo "      $(reads) in the last of $i maps"
	return 1
}

# The map: all of memory is in it, and it agrees with the figures about as far as time allows.
map() {
	local began
	began=$(date +%s%N)
	$D heatmap g --json --socket $T/sock >$T/map.json
	check "the map as JSON" is $? 0
	echo "      $((($(date +%s%N) - began) / 1000000)) ms, $(stat -c %s $T/map.json) bytes"
	check "a picture" $D heatmap g -o $T/g.svg --socket $T/sock
	check "the same on standard output" has <($D heatmap g --socket $T/sock) '^</svg>$'
	check "all of memory is in it" is "$(jq '[.cells[].bytes] | add' $T/map.json)" $((256 << 20))
	check "each page once" is "$(jq '[.cells[] | (.absent // 0, (.private, .masters, .shared // [] | .[]?))] | add' $T/map.json)" 65536
	check "in few cells" below "$(jq '.cells | length' $T/map.json)" 4097
	check "replicas are seen" above "$(jq '[.cells[].replicas // [] | add // 0] | add' $T/map.json)" 20
	check "on every node" is "$(jq -c '[[.cells[].replicas | select(.)] | transpose[] | add > 0]' $T/map.json)" '[true,true,true,true]'
	jq -c '[.cells[].private | select(.)] | transpose | map(add)' $T/map.json >$T/here
	jq -c '[.pages.nodes[].private]' $T/pages.json >$T/told
	echo "      private pages of each node: $(cat $T/here), a little before $(cat $T/told)"
	check "about as many as the figures say" is \
		"$(jq -s 'transpose | map((.[0] - .[1]) | fabs < 6000) | all' $T/here $T/told)" true
	check "uses are seen" until_seen
	check "a guest without a pager has none" is "$($D heatmap one --socket $T/sock 2>&1; echo $?)" \
		"disco: guest one: nobody works on its pages: \`disco stat one --pages\` says why
1"
	$D heatmap nobody --socket $T/sock >/dev/null 2>&1
	check "nobody has none" is $? 2
	$D heatmap g -o /nowhere/x.svg --socket $T/sock >/dev/null 2>&1
	check "a file that cannot be written" is $? 5
}

# The doctor, with one thing after another missing.
lesser() {
	local cpu maps mb nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	$D doctor | sed -n '/^page faults/,$p'
	check "doctor: all is well" doctor "pages of guests" '^ok: move and replicate'
	maps=$(sysctl -n vm.max_map_count)
	sysctl -qw vm.max_map_count=65530
	check "but for few mappings" doctor mappings '^warn: vm.max_map_count = 65530.*mend: sysctl -w vm.max_map_count=1048576'
	sysctl -qw vm.max_map_count=1048576
	check "which that command mends" doctor mappings '^ok'
	sysctl -qw "vm.max_map_count=$maps"
	chmod 666 /dev/kvm
	check "no userfaultfd: pages stay" doctor "page faults" '^warn: no userfaultfd.*pages stay.*mend: sysctl -w vm.unpriv' "${nobody[@]}"
	check "and no more" doctor "pages of guests" '^warn: policy none: .*\(no userfaultfd\)' "${nobody[@]}"
	sysctl -qw vm.unprivileged_userfaultfd=1
	check "that command mends it" doctor "page faults" '^ok' "${nobody[@]}"
	check "no CAP_SYS_NICE: pages move by copy" doctor "page moves" '^warn: by copy.*mend: setcap cap_sys_nice' "${nobody[@]}"
	check "and are moved still" doctor "pages of guests" '^ok: move and replicate, but less well \(pages move by copy\)' "${nobody[@]}"
	sysctl -qw vm.unprivileged_userfaultfd=0
	check "faults are a source" doctor "page samples" '^ok: faults: here'
	check "counters of the machine are not there" doctor "page samples" '^ok: flash: not here \(.+\)'
	for cpu in 6 7; do echo 0 >/sys/devices/system/cpu/cpu$cpu/online; done
	check "a node without CPUs" doctor "CPUs of nodes" '^warn: none on node 3: .*mend: for c in'
	for cpu in 6 7; do echo 1 >/sys/devices/system/cpu/cpu$cpu/online; done
	check "with them again" doctor "CPUs of nodes" '^ok'
	mb=$(awk '/MemFree/ { print int($4 / 1024) - 25 }' /sys/devices/system/node/node2/meminfo)
	mount -t tmpfs -o "size=${mb}M,mpol=bind:2" full /mnt
	dd if=/dev/zero of=/mnt/fill bs=1M count="$mb" 2>/dev/null
	check "a full node" doctor "room for replicas" '^warn: less than 10% is free on node 2: no replica goes there'
	umount /mnt
	check "not full any more" doctor "room for replicas" '^ok'
	jq -r '.checks[] | select(.check == "nested paging" or .check == "KVM fault address") | "      \(.check): \(.state): \(.meaning)"' $T/doctor
}

inside() {
	local up
	lesser
	{
		echo '{'
		keys g vcpus=8 views=4 'memory="256M"' 'balloon=false' 'policy="replicate"' "policy_set=\"$eager\"" 'page_check="2s"' \
			'cmdline="console=ttyS0 quiet job=look load=500"'
		echo '}, {'
		keys one vcpus=1 views=1 'policy="replicate"' 'memory="64M"' 'balloon=false' 'cmdline="console=ttyS0 quiet job=numa hold=600"'
		echo '}, {'
		keys still vcpus=2 'nodes=[1,2]' views=2 'memory="64M"' 'balloon=false' 'policy="none"' \
			'cmdline="console=ttyS0 quiet job=numa hold=600"'
		echo '}'
	} | site look
	$D up $T/look.cfg --socket $T/sock >$T/up.out 2>&1 &
	up=$!
	check "the load began" wait_text $T/g.con LOOK-BEGIN 240 || { show $T/up.out; show $T/g.con; }
	sleep 25
	figures
	map
	cp $T/g.svg $T/map.json $T/pages.json /out/
	$D down --now --socket $T/sock
	wait $up
	cp $T/up.out /out/
	check "no complaint of the cells" is "$(grep -ciE 'page check|broken|rubbish' $T/up.out)" 0 || show $T/up.out
}

[ "$ARG" = inside ] || image
if [ "$ARG" != inside ]; then
	boot_lab --nodes 4 --cpus-per-node 2 --mem 512 --timeout 600
	check "the picture is XML" python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' "$OUT/g.svg"
	[ -z "${LOOK_OUT:-}" ] || { mkdir -p "$LOOK_OUT" && cp "$OUT"/* "$LOOK_OUT/"; }
	finish
fi
both
