# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154
# mixed: everything at once for mixed=SECONDS, with known results: memory that all CPUs write (mixedmem), files, readers
# and fork storms (mixedio), Debian's gcc, kernel modules loaded and unloaded, ftrace, kprobes and static keys on and
# off, so that the kernel rewrites its text. Needs the Debian disk on /deb (root=/dev/vda overlay), a second disk to
# write to (/dev/vdb) and, in /expected, what another machine made of the same disk: "files" (by mixedio sums) and
# "objects" (gcc's, "NAME md5").
# Prints a line of each part, "MIXED-DISK md5" of the second disk, what the log complains of, and
# "MIXED seconds N files_bad N lost N bad N dmesg_bad N forks N compiles N modules N ftrace N ...", all on one line.
# Holds: the status is 0 when nothing was bad, lost or missing.
seconds=${mixed:-60}
out=/tmp/mixed
tracing=/sys/kernel/tracing
modules='dummy twofish_generic nf_conntrack sch_fq veth sha3_generic bridge lz4hc nf_tables loop 8021q serpent_generic
	tcp_bbr squashfs tls isofs udf ts_bm camellia_generic'
objects='huffman randtable crctable compress decompress bzlib bzip2recover'

now() { cut -d . -f 1 /proc/uptime; }
over() { [ "$(now)" -ge "$end" ]; }
# word FILE LINE KEY: the number behind KEY on the line that begins so; 0 if there is none.
word() { awk -v line="$2" -v key="$3" '$1 == line { for (i = 2; i < NF; i++) if ($i == key) n = $(i + 1) } END { print n + 0 }' "$out/$1"; }
# bad PART TEXT...: a wrong result.
bad() {
	part=$1
	shift
	echo "MIXED-BAD $part: $*"
	echo bad >>"$out/$part.bad"
}
in_debian() { chroot /deb /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

prepare() {
	mkdir -p $out /data
	mount -t proc proc /deb/proc
	mount -t sysfs sys /deb/sys
	mount -t devtmpfs dev /deb/dev
	mount -t tmpfs tmp /deb/tmp
	mount -t tracefs trace $tracing || mount -t debugfs debug /sys/kernel/debug
	[ -e $tracing/current_tracer ] || tracing=/sys/kernel/debug/tracing
	mkdir /deb/tmp/w
	cp /deb/usr/src/demo/*.[ch] /deb/tmp/w/
	in_debian mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 /dev/vdb &&
		mount -t ext4 /dev/vdb /data
}

# One object file after the other; each must be what it was elsewhere.
compile() {
	n=0 cycles=0
	while :; do
		for name in $objects; do
			over && break 2
			in_debian sh -c "cd /tmp/w && gcc -O0 -D_FILE_OFFSET_BITS=64 -c -o $1.$name.o $name.c" || bad "compile$1" "$name: gcc fails"
			sum=$(md5sum "/deb/tmp/w/$1.$name.o" | cut -d ' ' -f 1)
			[ "$sum" = "$(sed -n "s/^$name //p" /expected/objects)" ] || bad "compile$1" "$name: $sum"
			n=$((n + 1))
			echo "COMPILE-AT $(($(now) - began)) $name"
		done
		cycles=$((cycles + 1))
	done
	echo "COMPILE total $n cycles $cycles"
}

# Each module in, with those it needs, something done with it, and out again.
load_unload() {
	n=0
	while :; do
		for name in $modules; do
			over && break 2
			in_debian modprobe "$name" || bad modules "$name does not load"
			[ -d "/sys/module/$name" ] || bad modules "$name is not there"
			case $name in
			veth) ip link add v0 type veth && ip link set v0 up && ip link del v0 ;;
			bridge) ip link add b0 type bridge && ip link set b0 up && ip link del b0 ;;
			tcp_bbr) grep -q bbr /proc/sys/net/ipv4/tcp_available_congestion_control ;;
			isofs | udf | squashfs) grep -q "$name" /proc/filesystems ;;
			*_generic) grep -q "$name" /proc/crypto ;;
			esac || bad modules "$name does nothing"
			in_debian modprobe -r "$name" || bad modules "$name stays"
			[ ! -d "/sys/module/$name" ] || bad modules "$name is still there"
			n=$((n + 1))
			echo "MODULES-AT $(($(now) - began)) $name"
		done
	done
	echo "MODULES total $n"
}

# kprobe FUNCTION: a probe in and out again; it was hit meanwhile.
kprobe() {
	echo "p:mixed/probe $1" >$tracing/kprobe_events || bad trace "no probe at $1"
	echo 1 >$tracing/events/mixed/probe/enable
	cat /proc/self/stat /proc/meminfo >/dev/null
	hits=$(awk '$1 == "probe" { print $2 }' $tracing/kprobe_profile)
	echo 0 >$tracing/events/mixed/probe/enable
	echo >$tracing/kprobe_events
	[ "${hits:-0}" -gt 0 ] || bad trace "no hit of $1"
	kprobes=$((kprobes + 1))
}

# functions WHAT...: traces these functions of the kernel, by name or by number among all that can be.
functions() {
	echo "$*" >$tracing/set_ftrace_filter || bad trace "no filter"
	echo function >$tracing/current_tracer
	sleep 0.5
	lines=$(head -n 50 $tracing/trace | grep -vc '^#')
	echo nop >$tracing/current_tracer
	echo >$tracing/set_ftrace_filter
	n=$((n + 1))
	echo "TRACE-AT $(($(now) - began)) $(echo "$*" | wc -w) functions, $lines lines"
}

# All of them, some ten thousands, without recording what they do.
all_functions() {
	echo 0 >$tracing/tracing_on
	echo function >$tracing/current_tracer
	sleep 0.5
	echo nop >$tracing/current_tracer
	echo 1 >$tracing/tracing_on
	all=$((all + 1))
	echo "TRACE-AT $(($(now) - began)) all"
}

trace() {
	n=0 all=0 kprobes=0 keys=0 most=$(wc -l <$tracing/available_filter_functions)
	echo 64 >$tracing/buffer_size_kb
	until over; do
		# Every 60th function, others each time; what is at work all the time in between.
		functions "$(seq -s ' ' $((1 + n * 7 % 60)) 60 "$most")"
		functions vfs_read handle_mm_fault schedule __alloc_pages do_sys_openat2
		[ "$lines" -gt 5 ] || bad trace "$lines lines"
		kprobe vfs_read
		kprobe seq_read_iter
		for key in 1 0 1 0; do echo $key >/proc/sys/kernel/sched_schedstats; done
		keys=$((keys + 4))
		# Takes a minute or two.
		[ $((n % 12)) != 10 ] || [ $((end - $(now))) -lt 200 ] || all_functions
	done
	echo "TRACE functions $n all $all kprobes $kprobes keys $keys"
}

# part NAME COMMAND...: in the background, with its own file for what it says.
part() {
	name=$1
	shift
	: >"$out/$name"
	[ -z "$parts" ] || echo ",$parts," | grep -q ",$name," || return
	"$@" >"$out/$name" 2>&1 &
}

# What a healthy kernel never says.
complaints() {
	dmesg | grep -vE "ommand line:|stall warnings timeout set" | grep -E "BUG|WARNING|Oops|[Ll]ockup|stall|blocked for more|hung task|general protection|segfault|Call Trace|\
[Cc]orrupt|[Bb]ad page|rss-counter|trap |traps:|invalid opcode|self-tests.* failed|alg: .*fail|EXT4-fs (error|warning)|I/O error|\
unstable|warp|backwards|skew|ftrace.*(bug|failed)|Out of memory|double fault"
}

prepare || {
	echo "MIXED-BAD prepare"
	exit 1
}
began=$(now)
end=$((began + seconds))
echo "MIXED-BEGIN $began"
part compile1 compile 1
part compile2 compile 2
part modules load_unload
part trace trace
part mem mixedmem "$seconds"
part forks /bin/mixedio forks 8 "$seconds"
part reads mixedio reads /expected/files /deb 8 "$seconds"
part files mixedio files /data/d 3 "$seconds"
wait
took=$(($(now) - began))
echo "MIXED-END $(now)"
umount /data || bad files "/data stays mounted"
echo "MIXED-DISK $(md5sum </dev/vdb | cut -d ' ' -f 1)"
for part in mem forks reads files compile1 compile2 modules trace; do
	[ -s $out/$part ] || bad $part "said nothing"
	head -n 12 $out/$part
done
complaints >$out/dmesg
sed 's/^/MIXED-DMESG /' $out/dmesg | head -n 40

lost=$(($(word mem MEM lost) + $(word mem MEM order) + $(word forks FORKS lost)))
files_bad=$(($(word reads READS bad) + $(word files FILES bad) + $(cat $out/compile?.bad $out/files.bad 2>/dev/null | wc -l)))
others=$(($(word mem MEM wrong) + $(word forks FORKS bad) + $(cat $out/*.bad 2>/dev/null | wc -l)))
dmesg_bad=$(wc -l <$out/dmesg)
# A part that has done nothing is not a good one.
none=0
for n in "$(word mem MEM rounds)" "$(word forks FORKS total)" "$(word reads READS files)" "$(word files FILES checked)" \
	"$(word compile1 COMPILE total)" "$(word compile2 COMPILE total)" "$(word modules MODULES total)" "$(word trace TRACE functions)"; do
	[ "$n" -gt 0 ] || none=$((none + 1))
done
echo "MIXED seconds $took files_bad $files_bad lost $lost bad $others idle $none dmesg_bad $dmesg_bad" \
	"forks $(word forks FORKS total) compiles $(($(word compile1 COMPILE total) + $(word compile2 COMPILE total)))" \
	"modules $(word modules MODULES total) ftrace $(($(word trace TRACE functions) + $(word trace TRACE all)))" \
	"kprobes $(word trace TRACE kprobes) keys $(word trace TRACE keys) reads $(word reads READS files)" \
	"writes $(word files FILES written) checks $(word files FILES checked) counted $(word mem MEM counted)" \
	"slots $(word mem MEM slots) table $(word mem MEM table) maps $(word mem MEM maps)"
[ $((files_bad + lost + others + none + dmesg_bad)) = 0 ]
