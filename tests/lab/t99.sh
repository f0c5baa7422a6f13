#!/bin/bash
. "$(dirname "$0")/lib.sh"
inside() {
	truncate -s 64M $T/scratch.img
	yes | dd of=$T/scratch.img bs=1M count=64 iflag=fullblock conv=notrunc
	guest fio vcpus=4 views=2 'memory="384M"' \
		"disks=({path=\"/dev/vda\"; readonly=true;}, {path=\"$T/scratch.img\"; queues=4;})" \
		'cmdline="console=ttyS0 quiet job=x,log root=/dev/vda"'
	run fio 100
	cat $T/fio.con $T/fio.err
}
cat >/tmp/lt/x.sh <<'E2'
mount -t devtmpfs dev /deb/dev
for f in /sys/block/vdb/queue/discard* /sys/block/vdb/queue/write_zer*; do echo $f $(cat $f); done
chroot /deb blkdiscard -v -o 8388608 -l 4194304 /dev/vdb
chroot /deb blkdiscard -v -z -o 20971520 -l 4194304 /dev/vdb
dmesg | tail -3
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/vdb bs=1M skip=8 count=1 2>/dev/null| hexdump -C | head -3
dd if=/dev/vdb bs=1M skip=20 count=1 2>/dev/null| hexdump -C | head -3
E2
[ "$ARG" = inside ] || { cp /tmp/lt/x.sh tests/lab/guest/x.sh; image; rm tests/lab/guest/x.sh; }
both --timeout 400 --disk "${LAB:-}/debian.ext4"
