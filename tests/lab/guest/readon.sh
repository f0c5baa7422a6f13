# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154
# readon: reads all of disk=DEV (default /dev/vda) again and again, past the cache, until that fails; then a part is
# written, too. Each time "READ n ok|failed"; the last line is "WRITE ok|failed".
disk=${disk:-/dev/vda}
n=0
while [ $n -lt 300 ]; do
	n=$((n + 1))
	echo 3 >/proc/sys/vm/drop_caches
	if ! dd if="$disk" of=/dev/null bs=64k 2>/dev/null; then
		echo "READ $n failed"
		break
	fi
	echo "READ $n ok"
	sleep 0.2
done
if dd if=/dev/zero of="$disk" bs=64k count=2 conv=fsync 2>/dev/null; then echo "WRITE ok"; else echo "WRITE failed"; fi
