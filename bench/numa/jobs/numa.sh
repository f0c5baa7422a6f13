# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2034,SC2154
#
# numa.sh: in a guest of bench/numa: prepares a workload, does it as the region of interest, and says
# what came out.
#
# Takes:    the words cpus=N, size=N (times the usual work), warm=N (rounds before the region; 0),
#           data=small|large and work=NAME: /numa/NAME.sh defines prepare, work and result (and begin and
#           end, if the region is not that of work); the disk of `lab/build.sh bench` on /deb, with what
#           disk.sh made in $made.
# Gives:    "NUMA-READY" before the region and "NUMA-DONE" after it, each with two seconds for looking at
#           the guest; "NUMA-DISK n", sectors read meanwhile; "NUMA-STATUS n" of work; "NUMA-SUM number"
#           of what result prints; and then it waits to be ended.
# Holds:    programs are in memory before the region begins, and files they write are in memory.
#           Until then one CPU runs (maxcpus=1): the emulated machine boots it in half the time.
# The same addresses every time.
echo 0 >/proc/sys/kernel/randomize_va_space
mount -t tmpfs -o size=80% tmp /deb/tmp
mount -t proc proc /deb/proc
mount -o bind /dev /deb/dev
export TMPDIR=/tmp
made=/deb/usr/src/numa
rest=2

# in_root COMMAND...: on the disk's userland.
in_root() { chroot /deb "$@"; }

# in_memory PATTERN...: everything in these files and directories of the disk is in memory from now on.
# shellcheck disable=SC2048,SC2086
in_memory() { (cd /deb && find $* -type f -print0 | xargs -0 cat) >/dev/null; }

# sectors: read from the disk so far.
sectors() { awk '{ print $3 }' /sys/block/vda/stat; }

# on CPU COMMAND...: stays on that CPU.
on() {
	mask=$(printf '%x' $((1 << $1)))
	shift
	taskset "$mask" "$@"
}

# Warms up, with the model on, round by round; after each the guest rests with the model off, while
# pages are moved. Then says that the region is next and begins it. A workload may do so elsewhere.
begin() {
	all=$size
	size=1
	warmed=0
	roi empty
	while [ $warmed -lt "$warm" ]; do
		roi on
		work >/dev/null 2>&1
		roi off
		sleep "$rest"
		warmed=$((warmed + 1))
	done
	size=$all
	echo "NUMA-READY $(cut -d " " -f 1 /proc/uptime)"
	sleep 2
	roi zero
	roi on
}

# Ends the region.
end() {
	roi off
	echo NUMA-DONE
	sleep 2
}

# each_of FUNCTION: on every CPU at once, with the CPU's number.
each_of() {
	cpu=0
	pids=
	while [ $cpu -lt "$cpus" ]; do
		(
			taskset -p "$(printf '%x' $((1 << cpu)))" "$(sh -c 'echo $PPID')" >/dev/null
			"$1" $cpu
		) &
		pids="$pids $!"
		cpu=$((cpu + 1))
	done
	bad=0
	for pid in $pids; do wait "$pid" || bad=$?; done
	return $bad
}

# shellcheck source=/dev/null
. "/numa/$work.sh"
size=${size:-1}
warm=${warm:-0}
prepare >/tmp/said 2>&1 || {
	echo "NUMA-STATUS $? of prepare"
	tail -n 20 /tmp/said
	exit 1
}
for cpu in /sys/devices/system/cpu/cpu[0-9]*/online; do echo 1 >"$cpu"; done
before=$(sectors)
begin
work >/tmp/said 2>&1
status=$?
end
echo "NUMA-DISK $(($(sectors) - before))"
echo "NUMA-STATUS $status"
tail -n 5 /tmp/said
echo "NUMA-SUM $(result | sha256sum | cut -c 1-16)"
sleep 600
