# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154
# look: a load to look at: every CPU reads one file of 8 MiB over and over and writes one of its own, for load=SECONDS
# (default 60). Prints "LOOK-BEGIN" when all do.
mount -o remount,size=90% /tmp
dd if=/dev/urandom of=/tmp/all bs=1M count=8 2>/dev/null
n=$(nproc)
cpu=0
while [ $cpu -lt "$n" ]; do
	taskset "$(printf '%x' $((1 << cpu)))" sh -c '
		while [ ! -e /tmp/over ]; do
			cat /tmp/all >/dev/null
			dd if=/dev/zero of=/tmp/own'$cpu' bs=256k count=4 conv=notrunc 2>/dev/null
		done' &
	cpu=$((cpu + 1))
done
echo LOOK-BEGIN
sleep "${load:-60}"
: >/tmp/over
wait
