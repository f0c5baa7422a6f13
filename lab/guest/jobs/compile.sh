# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154
# compile: builds the program in /usr/src/demo of the Debian disk (root=/dev/vda overlay) with its
# own compiler and lets it pack and unpack its own source. Prints "COMPILE ok seconds
# checksum-of-the-packed-file" or "COMPILE BAD".
if [ ! -d /deb/usr/src/demo ]; then
	echo "COMPILE BAD no Debian disk"
	exit 1
fi
mount -t proc proc /deb/proc
mount -t devtmpfs dev /deb/dev
mount -t tmpfs tmp /deb/tmp
begin=$(cut -d . -f 1 /proc/uptime)
# The program is bzip2: bzlib and two front ends.
sum=$(chroot /deb /bin/sh -c '
	export PATH=/usr/sbin:/usr/bin:/sbin:/bin
	cp -r /usr/src/demo /tmp/demo && cd /tmp/demo &&
	make -j"$(nproc)" bzip2 CFLAGS="-O1 -D_FILE_OFFSET_BITS=64" >/tmp/make.log 2>&1 &&
	cat ./*.c | tee /tmp/plain | ./bzip2 -c >/tmp/packed && ./bzip2 -dc /tmp/packed | cmp - /tmp/plain &&
	md5sum </tmp/packed || { tail -n 5 /tmp/make.log >&2; echo failed; }')
umount /deb/tmp /deb/dev /deb/proc
case $sum in
*failed* | '')
	echo "COMPILE BAD"
	exit 1
	;;
esac
echo "COMPILE ok $(($(cut -d . -f 1 /proc/uptime) - begin)) ${sum%% *}"
