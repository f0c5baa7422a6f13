# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154
# fio: with the Debian disk mounted on /deb (root=/dev/vda), which must be read-only, and a second disk to write to:
# fio writes all of that in pieces of 4k to 128k at random and verifies them by CRC; then parts are discarded and
# zeroed. Prints "FIO ok|BAD", "FIO-MQ queues", "FIO-READONLY ok|BAD", "FIO-ZEROED ok|BAD", "FIO-MD5 sum" (of the disk).
disk=${disk:-/dev/vdb}
name=${disk##*/}
mount -t proc proc /deb/proc
mount -t devtmpfs dev /deb/dev
mount -t tmpfs tmp /deb/tmp
status=0

# verdict WORD STATUS: says how a step went.
verdict() {
	if [ "$2" = 0 ]; then echo "$1 ok"; else
		echo "$1 BAD"
		status=1
	fi
}

echo "FIO-MQ $(ls "/sys/block/$name/mq" | wc -l)"
half=$(($(cat "/sys/block/$name/size") * 512 / 2))
chroot /deb /usr/bin/fio --name=v --filename="$disk" --direct=1 --ioengine=libaio --iodepth=8 --numjobs=2 --thread \
	--offset_increment=$half --size=$half --rw=randwrite --bsrange=4k-128k --verify=crc32c --verify_fatal=1 \
	--fsync=64 --verify_state_save=0 --group_reporting --minimal >/tmp/fio 2>&1
fio=$?
cut -c 1-200 /tmp/fio
verdict FIO $fio

# Nothing may be written to a read-only disk.
before=$(head -c 65536 /dev/vda | md5sum)
[ "$(cat /sys/block/vda/ro)" = 1 ] && ! dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync 2>/dev/null
refused=$?
echo 3 >/proc/sys/vm/drop_caches
[ $refused = 0 ] && [ "$before" = "$(head -c 65536 /dev/vda | md5sum)" ]
verdict FIO-READONLY $?

# 4 MiB discarded, 4 MiB zeroed; both read as zeroes afterwards. (Full paths: busybox prefers programs of its own.)
chroot /deb /usr/sbin/blkdiscard -o 8388608 -l 4194304 "$disk" && chroot /deb /usr/sbin/blkdiscard -z -o 20971520 -l 4194304 "$disk"
verdict FIO-DISCARD $?
echo 3 >/proc/sys/vm/drop_caches
{ dd if="$disk" bs=1M skip=8 count=4 && dd if="$disk" bs=1M skip=20 count=4; } 2>/dev/null |
	cmp -s -n 8388608 - /dev/zero
verdict FIO-ZEROED $?
sync
echo "FIO-MD5 $(md5sum <"$disk" | cut -d ' ' -f 1)"
umount /deb/tmp /deb/dev /deb/proc
exit $status
