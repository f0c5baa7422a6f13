#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t30_memsys.sh: the memory-system model. The short form of its check: programs with known answers on a small machine,
# each figure within 2 % of what was derived. And whatever cannot be modelled is refused: with a message that says why,
# at once, and never by figures that are silently zero.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"

# refused WHAT STATUS TEXT COMMAND...: the command ends soon, with this status, and says this.
refused() {
	local what=$1 status=$2 text=$3 is began=$SECONDS
	shift 3
	"$@" </dev/null >"$WORK/said" 2>&1
	is=$?
	check "$what: status $status" is $is "$status" || show "$WORK/said"
	check "$what: it says why" has "$WORK/said" "$text" || show "$WORK/said"
	check "$what: at once" below $((SECONDS - began)) 30
}

# lab_refused WHAT STATUS TEXT OPTION...: the same for a lab that must not start.
lab_refused() {
	local what=$1 status=$2 text=$3
	shift 3
	refused "$what" "$status" "$text" lab/run.sh --nodes 2 --cpus-per-node 1 --mem 256 --timeout 50 "$@" -- \
		"echo it runs"
	check "$what: nothing ran" is "$(grep -c '^it runs' "$WORK/said")" 0
}

# emulator ARGUMENTS-OF-THE-PLUGIN OPTION...: the emulator itself, without a lab.
# shellcheck disable=SC2317 # called by refused
emulator() {
	local arguments=$1 node
	shift
	for node in 0 1; do
		set -- "$@" -object "memory-backend-file,id=m$node,size=64M,mem-path=$WORK/node$node,share=on" \
			-numa "node,nodeid=$node,cpus=$node,memdev=m$node"
	done
	timeout 20 qemu-system-x86_64 -nodefaults -no-user-config -display none -M q35 -m 128M -smp 2,sockets=2 "$@" \
		-plugin "$B/bench/memsys/memsys.so,machine=flash,node_mb=64,region=$WORK/region,$arguments"
}

bad_input() {
	local good="nodes=2,cpus=1,dist=10:20:20:10,mem=$WORK/node"
	lab_refused "another QEMU" 125 'this is QEMU 7\.2.*what is modelled rests on the insides of 9\.9' \
		--memsys flash,qemu=9.9
	lab_refused "a node of 192 MiB" 125 'its size must be a power of two' --memsys flash --mem 192
	lab_refused "several threads" 2 'memsys needs --thread single' --memsys flash --thread multi
	lab_refused "an unknown machine" 2 'no machine cray' --memsys cray
	lab_refused "more nodes than are described" 2 'flash is described for 1 to 4 nodes' --nodes 5 --memsys flash
	lab_refused "a distance that is not described" 125 \
		'distance 25 from node 0 to node 1 is not in the description of flash' --memsys flash \
		--dist-matrix "10 25 25 10"
	lab_refused "an unknown key" 125 'unknown argument colour=blue' --memsys flash,colour=blue
	lab_refused "a number that is none" 125 'quantum=soon: a whole number is needed' --memsys flash,quantum=soon
	lab_refused "a sampling that cannot be" 125 'sample=3; one set in 1, 2, 4' --memsys flash,sample=3
	lab_refused "a trace that cannot be made" 125 'trace=/nowhere/trace: No such file' --memsys flash,trace=/nowhere/trace
	export LAB_REGION=1M
	lab_refused "a region that is too small" 125 'has 1024 KiB; the counters of 131072 pages by 2 nodes need' \
		--mem 256 --memsys flash
	unset LAB_REGION

	truncate -s 4M "$WORK/region"
	refused "the emulator with a thread for each CPU" 1 'several threads; -accel tcg,thread=single is needed' \
		emulator "$good" -accel tcg,thread=multi
	refused "other CPUs than were told" 1 'the machine has 2 CPUs, nodes=2 and cpus=2 make 4' \
		emulator "${good/cpus=1/cpus=2}" -accel tcg,thread=single
	refused "memories of another name" 1 'elsewhere0 is not mapped with 64 MiB' \
		emulator "${good/%node/elsewhere}" -accel tcg,thread=single
	refused "a clock that is QEMU's own (icount)" 1 'cannot be slowed down' \
		emulator "$good" -accel tcg,thread=single -icount shift=0
	# Whoever loads the plugin must have what it calls.
	refused "a program without QEMU's functions" 127 'undefined symbol: (qemu_plugin|cpu_)' \
		env LD_BIND_NOW=1 LD_PRELOAD="$PWD/$B/bench/memsys/memsys.so" /bin/true
	refused "a reader without a model" 1 'keeps no counters of pages' "$B/bench/memsys/memsys" show
	refused "a region that nobody wrote" 1 'no counters of version' "$B/bench/memsys/memsys" --region "$WORK/empty" show
	refused "a trace that is none" 1 'no trace' "$B/bench/memsys/memsys" trace "$WORK/empty"
}

if ! make -s "B=$B" memsys-build "$B/disco" >"$WORK/make.log" 2>&1; then
	tail -n 20 "$WORK/make.log"
	exit 1
fi
truncate -s 4M "$WORK/empty"
bad_input
check "every figure within its bounds" bench/memsys/check.sh --short
finish
