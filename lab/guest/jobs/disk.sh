# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2010,SC2012,SC2154,SC2046
# disk: overwrites disk=DEV (default /dev/vda) with mb=N MiB (default 16) of known bytes, flushes,
# drops the cache and reads them back. Prints "DISK dev size_mb checksum ok|BAD".
disk=${disk:-/dev/vda}
mb=${mb:-16}
if [ ! -b "$disk" ]; then
	echo "DISK $disk absent"
	exit 1
fi

# The bytes: reproducible, compressible by nothing that matters here.
bytes() {
	i=0
	while [ $i -lt "$mb" ]; do
		seq $((i * 1000000)) $((i * 1000000 + 140000)) | head -c 1048576
		i=$((i + 1))
	done
}

size=$(($(cat "/sys/class/block/${disk##*/}/size") / 2048))
want=$(bytes | md5sum | cut -d ' ' -f 1)
bytes | dd of="$disk" bs=64k conv=fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
blockdev --flushbufs "$disk" 2>/dev/null
got=$(head -c $((mb * 1048576)) "$disk" | md5sum | cut -d ' ' -f 1)
if [ "$want" = "$got" ]; then
	echo "DISK $disk $size $got ok"
else
	echo "DISK $disk $size $got BAD want $want"
	exit 1
fi
