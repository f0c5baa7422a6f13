# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2010,SC2012,SC2154,SC2046
# smp: keeps all CPUs busy with processes, pipes and checksums for load=SECONDS (default 10), one
# worker pinned to each CPU and one free; then says what the kernel complained of. Prints "SMP cpus
# N rounds N wrong N warnings N"; fails when a checksum differed, a CPU is missing (want=N) or the
# log has a warning.
cpus=$(nproc)
load=${load:-10}
good=$(seq 1 3000 | md5sum)
dir=/tmp/smp
mkdir -p $dir

# worker NAME: rounds until the time is over; leaves "rounds wrong" in a file.
worker() {
	rounds=0 wrong=0
	end=$(($(cut -d . -f 1 /proc/uptime) + load))
	while [ "$(cut -d . -f 1 /proc/uptime)" -lt $end ]; do
		[ "$(seq 1 3000 | cat | md5sum)" = "$good" ] || wrong=$((wrong + 1))
		rounds=$((rounds + 1))
	done
	echo "$rounds $wrong" >"$dir/$1"
}

cpu=0
while [ $cpu -lt "$cpus" ]; do
	worker "free$cpu" &
	(
		pid=$(exec sh -c 'echo $PPID')
		taskset -p "$(printf '%x' $((1 << cpu)))" "$pid" >/dev/null 2>&1
		worker "cpu$cpu"
	) &
	cpu=$((cpu + 1))
done
wait
cat /proc/interrupts
dmesg | grep -E -i 'stall|lockup|unstable|warp|WARNING:|BUG:|Oops|hung task|backwards|skew' >/tmp/warnings
sed 's/^/SMP-WARNING /' /tmp/warnings
set -- $(cat $dir/* | awk '{ r += $1; w += $2 } END { print r + 0, w + 0 }')
warnings=$(wc -l </tmp/warnings)
echo "SMP cpus $cpus rounds $1 wrong $2 warnings $warnings"
[ "${want:-$cpus}" = "$cpus" ] && [ "$2" = 0 ] && [ "$warnings" = 0 ]
