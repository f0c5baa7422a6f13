#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t33_pages.sh: a guest with 8 vCPUs and the stock kernel does everything at once (tests/lab/guest/mixed.sh) while the
# pager moves, copies and samples its pages as eagerly as it can and proves all views equal every second: no violation,
# no lost write, no wrong file, a clean log; the objects that its compiler makes and the files it reads are what they
# are on the lab's own machine, its disk holds what it saw.
# Takes:    MIXED_SECONDS   length of the load (60; the long one: 600)
#           MIXED_KINDS     which of: plain (4 nodes, 4 views), moves (the same, vCPUs moved between views at random),
#                           eight (8 nodes, 8 views), eightmoves; "moves", the long ones: all
#           MIXED_POLICY    the guest's keys for the pager; "none": runs without, to see that the load alone is clean
#           MIXED_PARTS     only these parts of the load, with commas: mem forks reads files compile1 modules trace ...
#           MIXED_OUT       a directory that keeps console, log and figures of each run
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
POLICY=default # its own keys say what it has

# Every threshold at its minimum, or where it makes most happen; limits are off but for those that keep host and guest
# alive (keep_free, low_free, examine).
eager="trigger=1,sharing=1,write=1,horizon=1000,margin=0,dominate=50,rest=1,moves=255,freeze=1,collapses=255,quick=1,\
gate=0,keep_free=5,low_free=2,cpu=1000,burst=10,examine=4096,calm=0"
keys_of_pager="policy=\"replicate\"; sampling=\"faults\"; sampling_share=60; policy_interval=\"100ms\"; policy_set=\"$eager\"; page_check=\"1s\""

# What the lab's own machine, with Debian's userland on it, makes of the disk: sums of files, object files.
expect() {
	local deb=$T/deb name dir=$T/expected
	mkdir -p $deb $dir
	for name in /lab/host*; do modprobe -d "$name" ext4 && break; done 2>/dev/null
	mount -t ext4 -o ro,noload /dev/vda $deb && mount -t tmpfs tmp $deb/tmp &&
		mount --bind /dev $deb/dev || return 1
	(cd $deb && find usr/lib/x86_64-linux-gnu -maxdepth 1 -type f -size +200k -size -700k |
		sort | xargs /in/mixedio sums) >$dir/files
	for name in $(sed -n "s/^objects='\(.*\)'/\1/p" tests/lab/guest/mixed.sh); do
		chroot $deb /usr/bin/env PATH=/usr/bin:/bin sh -c \
			"cd /usr/src/demo && gcc -O0 -D_FILE_OFFSET_BITS=64 -c -o /tmp/x.o $name.c"
		echo "$name $(md5sum <$deb/tmp/x.o | cut -d ' ' -f 1)"
	done >$dir/objects
	umount $deb/tmp $deb/dev $deb
	echo "      expected: $(wc -l <$dir/files) files, $(wc -l <$dir/objects) objects"
	cp /in/initrd.img $T/initrd.img
	truncate -s %4 $T/initrd.img
	(cd $T && find expected | cpio --quiet -o -H newc -R 0:0) >>$T/initrd.img
}

# watch FILE PID: the guest's figures, as long as that monitor runs; what was last is in FILE.
watch() {
	while kill -0 "$2" 2>/dev/null; do
		! $D stat g --socket $T/sock --json >"$1.new" 2>/dev/null || mv "$1.new" "$1"
		sleep 15
	done
}

# wander SECONDS VIEWS: moves a vCPU to a view at random, about one a second; says how often, and how often not.
wander() {
	local end=$((SECONDS + $1)) moved=0 refused=0
	while [ $SECONDS -lt $end ]; do
		if $D move g $((RANDOM % 8)) $((RANDOM % $2)) --socket $T/sock >>/out/moves 2>&1; then
			moved=$((moved + 1))
		else
			refused=$((refused + 1))
		fi
		sleep 0.7
	done
	echo "      vCPUs moved $moved times"
	[ $refused = 0 ] && [ $moved -gt 10 ]
}

# figure NAME: one of the MIXED line.
figure() { tr -d '\r' </out/g.con | awk -v key="$1" '$1 == "MIXED" { for (i = 2; i < NF; i++) if ($i == key) print $(i + 1) }'; }

# What the pager must have done. A violation ends the cell with a line in its log.
pages() {
	jq -Mc '.pages' /out/stat.json
	check "pages were migrated" above "$(jq .pages.done.migrated /out/stat.json)" 0
	check "pages were replicated" above "$(jq .pages.done.replicated /out/stat.json)" 0
	check "replicas were collapsed" above "$(jq .pages.done.collapsed /out/stat.json)" 0
	check "pages were sampled" above "$(jq .pages.sampling.touches /out/stat.json)" 0
	check "all views were compared" above "$(jq .pages.checks /out/stat.json)" $((SECONDS_OF_LOAD / 20))
	check "and were the same" is "$(grep -c 'page check' /out/up.out)" 0
}

inside() {
	local up moves=$2 views=$3 policy=$4
	SECONDS_OF_LOAD=$1
	check "the lab's own machine does it first" expect || return
	truncate -s 64M $T/scratch.img
	[ "$policy" != none ] || policy='policy="none"'
	{
		echo '{'
		# Emulated CPUs beside other work are slow: what the kernel calls a stall after 20 s is none here.
		INITRD=$T/initrd.img CON=file:/out/g.con keys g vcpus=8 "views=$views" 'memory="640M"' 'balloon=false' \
			"disks=({path=\"/dev/vda\"; readonly=true;}, {path=\"$T/scratch.img\"})" \
			"cmdline=\"console=ttyS0 quiet rcupdate.rcu_cpu_stall_timeout=120 watchdog_thresh=60 root=/dev/vda overlay job=mixed mixed=$SECONDS_OF_LOAD parts=$5\""
		echo "$policy;"
		echo '}'
	} | site mixed
	$D up $T/mixed.cfg --socket $T/sock >/out/up.out 2>&1 &
	up=$!
	check "the load began" wait_text /out/g.con MIXED-BEGIN 800 || { show /out/g.con; show /out/up.out; return; }
	watch /out/stat.json $up &
	if [ "$moves" = yes ]; then
		check "vCPUs were moved" wander $((SECONDS_OF_LOAD - 5)) "$views" || show /out/moves
	fi
	check "the load ended" wait_text /out/g.con '^MIXED seconds' $((SECONDS_OF_LOAD + 400)) || show /out/g.con 40
	wait_gone $up 60
	wait $up
	check "the guest ended well" is $? 0 || show /out/up.out
	grep -av '^\[' /out/g.con
	show /out/up.out 5
	check "the job went well" has /out/g.con 'DISCO-GUEST-DONE 0'
	check "no wrong file" is "$(figure files_bad)" 0
	check "no lost write" is "$(figure lost)" 0
	check "nothing else wrong" is "$(figure bad)" 0
	check "every part did something" is "$(figure idle)" 0
	check "no complaint in the guest's log" is "$(figure dmesg_bad)" 0
	check "the disk holds what the guest saw" has /out/g.con "^MIXED-DISK $(md5sum <$T/scratch.img | cut -d ' ' -f 1)"
	e2fsck -fn $T/scratch.img >$T/fsck 2>&1
	check "its file system is sound" is $? 0 || show $T/fsck
	check "the host's log is clean" is "$(dmesg | grep -cE 'BUG:|WARNING:|Oops|lockup|rcu.*stall|blocked for more')" 0
	[ "$policy" = 'policy="none"' ] || pages
}

if [ "$ARG" = inside ]; then
	T=/tmp/t
	mkdir -p $T
	inside "$2" "$3" "$4" "$5" "$6"
	finish
fi

image mixedmem mixedio
seconds=${MIXED_SECONDS:-60}
for kind in ${MIXED_KINDS:-moves}; do
	case $kind in
	plain) nodes=4 moves=no ;;
	moves) nodes=4 moves=yes ;;
	eight) nodes=8 moves=no ;;
	eightmoves) nodes=8 moves=yes ;;
	*) echo "t33: no kind $kind" && exit 2 ;;
	esac
	echo "---- $kind, $seconds s"
	rm -f "$OUT"/*
	lab/run.sh --in "$IN" --out "$OUT" --nodes $nodes --cpus-per-node $((8 / nodes)) --mem $((6144 / nodes)) \
		--disk "$LAB/debian.ext4" --timeout $(((seconds + 900) * PATIENCE)) -- \
		"tests/lab/$SELF" inside "$seconds" $moves $nodes "${MIXED_POLICY:-$keys_of_pager}" "${MIXED_PARTS:-}"
	check "$kind, in the lab" is $? 0
	[ -z "${MIXED_OUT:-}" ] || { mkdir -p "$MIXED_OUT/$kind" && cp "$OUT"/* "$MIXED_OUT/$kind/"; }
done
finish
