# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154
# numa: what the guest sees of nodes, each "NUMA nodeN cpus LIST distance ROW memory_mb N", and "NUMA-TOTAL kb"; then
# it fills touch=MIB of memory, says "NUMA-TOUCHED" and stays for hold=SECONDS.
for node in /sys/devices/system/node/node[0-9]*; do
	[ -d "$node" ] || continue
	echo "NUMA ${node##*/} cpus $(cat "$node/cpulist") distance $(cat "$node/distance")" \
		"memory_mb $(awk '/MemTotal/ { print int($4 / 1024) }' "$node/meminfo")"
done
echo "NUMA-TOTAL $(awk '/^MemTotal/ { print $2 }' /proc/meminfo)"
if [ -n "$touch" ]; then
	mount -o remount,size=95% /tmp
	# From all CPUs, so that each view has its part.
	n=$(nproc)
	cpu=0
	while [ $cpu -lt "$n" ]; do
		taskset "$(printf '%x' $((1 << cpu)))" dd if=/dev/zero of=/tmp/fill$cpu bs=1M count=$((touch / n)) 2>/dev/null &
		cpu=$((cpu + 1))
	done
	wait
	echo "NUMA-TOUCHED"
fi
sleep "${hold:-0}"
