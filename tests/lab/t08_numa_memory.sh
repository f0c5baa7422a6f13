#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t08_numa_memory.sh: where memory lies. A guest on nodes 1 and 3 has its memory there, half and half, and its vCPUs on
# those nodes' CPUs; with vnuma it sees two nodes at the host's distance; 5 GiB are there with their part above 4 GiB;
# huge pages are used when the host allows them, by request from the reserved pool.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
mb=384

# start NAME: a guest in the background; its process is in $cell.
start() {
	$D run "$T/$1.cfg" --json </dev/null >"$T/$1.json" 2>"$T/$1.err" &
	cell=$!
}

# join NAME: its end.
join() {
	wait $cell
	check "$1 ended well" is $? 0 || { show "$T/$1.con"; show "$T/$1.err"; }
}

# word NAME KEY: what its console says after a word.
word() { tr -d '\r' <"$T/$1.con" | sed -n "s/^$2 //p"; }

# cpus PID VCPU: where a vCPU's thread may run.
cpus() {
	local task
	for task in /proc/"$1"/task/*; do
		[ "$(cat "$task/comm")" != "vcpu$2" ] || sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' "$task/status"
	done
}

# Kilobytes of a line of all the mappings of a process.
smaps() { awk -v key="$2:" '$1 == key { sum += $2 } END { print sum + 0 }' "/proc/$1/smaps"; }

halves() {
	local pages
	guest halves vcpus=4 'nodes=[1,3]' views=2 "memory=\"${mb}M\"" 'vnuma=true' \
		"cmdline=\"console=ttyS0 quiet job=numa,log touch=300 hold=12\""
	start halves
	check "memory touched" wait_text $T/halves.con NUMA-TOUCHED 60
	/in/pagenodes $cell $((mb << 20)) | tee $T/pages
	check "first half on node 1 only" is "$(awk '$2 == 0 { print $4 }' $T/pages | xargs)" 1
	check "second half on node 3 only" is "$(awk '$2 == 1 { print $4 }' $T/pages | xargs)" 3
	check "most of it was there to be seen" above "$(awk '{ n += $6 } END { print n }' $T/pages)" $((300 * 256))
	check "vCPUs 0 and 1 on the CPUs of node 1" is "$(cpus $cell 0) $(cpus $cell 1)" "2-3 2-3"
	check "vCPUs 2 and 3 on the CPUs of node 3" is "$(cpus $cell 2) $(cpus $cell 3)" "6-7 6-7"
	echo "      huge pages: $(smaps $cell ShmemPmdMapped) kB mapped, $(awk '/ShmemHugePages/ { print $2 }' /proc/meminfo) kB in all"
	check "huge pages are used (shmem: advise)" above "$(awk '/ShmemHugePages/ { print $2 }' /proc/meminfo)" 100000
	join halves
	word halves NUMA
	check "the guest sees two nodes at distance 31" is "$(word halves NUMA | sed 's/ memory.*//' | xargs)" \
		"node0 cpus 0-1 distance 10 31 node1 cpus 2-3 distance 31 10"
	check "each with half of the memory" is \
		"$(word halves NUMA | awk -v want=$((mb / 2)) '$NF > want - 60 && $NF <= want { n++ } END { print n + 0 }')" 2
	check "no complaint in its log" is "$(word halves LOG-COUNT)" 0
}

large() {
	guest large vcpus=4 'nodes=[0,1,2,3]' 'memory="5G"' 'balloon=false' 'cmdline="console=ttyS0 quiet job=numa,log"'
	start large
	join large
	echo "      MemTotal: $(word large NUMA-TOTAL) kB"
	check "5 GiB are there" above "$(word large NUMA-TOTAL)" $((4900 * 1024))
	check "one flat node" is "$(word large NUMA | wc -l)" 1
	check "no complaint in its log" is "$(word large LOG-COUNT)" 0
}

reserved() {
	local pool=/sys/devices/system/node/node2/hugepages/hugepages-2048kB
	echo 100 >$pool/nr_hugepages
	check "100 huge pages reserved on node 2" is "$(cat $pool/free_hugepages)" 100
	guest huge 'nodes=[2]' 'memory="128M"' 'hugepages="hugetlb"' 'cmdline="console=ttyS0 quiet job=numa,log hold=3"'
	start huge
	check "guest on hugetlb runs" wait_text $T/huge.con NUMA-TOTAL 40
	echo "      $(cat $pool/free_hugepages) of them free while it runs"
	check "the guest has pages of the pool" below "$(cat $pool/free_hugepages)" 100
	join huge
	check "all pages are back" is "$(cat $pool/free_hugepages)" 100
	echo 40 >$pool/nr_hugepages
	run huge 20
	check "too few of them: refused" is $? 6
	check "with a reason" has $T/huge.err 'huge.*memory:.*128.*2 MiB hugetlb' || show $T/huge.err
	echo 0 >$pool/nr_hugepages
}

inside() {
	halves
	reserved
	large
}

if [ "$ARG" != inside ]; then
	image
	tool pagenodes.c
fi
both --timeout 240 --mem 2048 --shmem advise --dist-matrix "10 20 20 20, 20 10 20 31, 20 20 10 20, 20 31 20 10"
