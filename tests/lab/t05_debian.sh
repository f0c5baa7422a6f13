#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t05_debian.sh: the stock Debian userland on a virtio disk boots to its login, somebody logs in, systemd is content,
# and the power button switches it off. Then fio writes a second disk with four queues, in pieces of 4k to 128k, and verifies them by CRC;
# discarded and zeroed parts are zero, the image has the checksum the guest saw, a read-only disk refuses writes.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
mb=64

# The guest's console is a pipe from us and a file.
login() {
	local began=$SECONDS up
	{
		echo '{'
		CON=monitor INITRD=/lab/guest-busybox.cpio.gz keys debian vcpus=2 views=2 'memory="512M"' 'ready="login:"' \
			'disks=({path="/dev/vda"; queues=2;})' 'cmdline="console=ttyS0 quiet root=/dev/vda rw"'
		echo '}'
	} | site deb
	$D up $T/deb.cfg --socket $T/sock >$T/up.out 2>&1 &
	up=$!
	wait_text $T/up.out started: 20
	attach debian
	check "login prompt" wait_text $CONSOLE 'login:' 150 || { show $CONSOLE; show $T/up.out; kill $up; return; }
	echo "      login prompt after $((SECONDS - began)) s"
	check "logged in" type_in root 'root@[a-z0-9-]+:~#' 40
	check "systemd is content" type_in 'echo "state $(systemctl is-system-running --wait) $((6*7))"' 'state running 42' 60 ||
		type_in 'systemctl --failed --no-legend --plain; echo "units $((7*7))"' 'units 49' 40
	check "root is the virtio disk" type_in 'echo "root $(findmnt -n -o SOURCE,FSTYPE /) $((8*8))"' \
		'root /dev/vda +ext4 64' 20
	check "no complaint in its log" type_in \
		'echo "bad $(dmesg | grep -cE "stall|lockup|unstable|warp|BUG:|WARNING:") $((9*9))"' 'bad 0 81' 20
	check "writes reach the disk" type_in 'date >/var/tmp/mark && sync && echo "mark $((5*5))"' 'mark 25' 20
	check "the power button switches it off" $D stop debian --timeout 60 --socket $T/sock
	wait $up
	check "powered off by itself" is $? 0
	check "its end" has $T/up.out 'debian .* ok \(poweroff\)'
	exec 7>&-
	tail -n 2 $T/up.out
	[ $FAILED = 0 ] || show $CONSOLE 40
	echo "      all of it took $((SECONDS - began)) s"
}

# md5 of a file, there.
sum() { md5sum <"$1" | cut -d ' ' -f 1; }

# word KEY: what the console says after it.
word() { sed -n "s/^$1 //p" $T/fio.con | tr -d '\r'; }

verify() {
	local began=$SECONDS
	truncate -s ${mb}M $T/scratch.img
	guest fio vcpus=4 views=2 'memory="384M"' \
		"disks=({path=\"/dev/vda\"; readonly=true;}, {path=\"$T/scratch.img\"; queues=4;})" \
		'cmdline="console=ttyS0 quiet job=fio,log root=/dev/vda"'
	check "fio guest ended well" run fio 250
	grep -aE '^(FIO|LOG)' $T/fio.con
	check "fio verified all it wrote" is "$(word FIO)" ok
	check "four queues in use" is "$(word FIO-MQ)" 4
	check "a read-only disk refuses writes" is "$(word FIO-READONLY)" ok
	check "discard and write zeroes" is "$(word FIO-DISCARD) $(word FIO-ZEROED)" "ok ok"
	check "the image is what the guest saw" is "$(sum $T/scratch.img)" "$(word FIO-MD5)"
	check "discarded parts are holes" below "$(du -k $T/scratch.img | cut -f 1)" $(((mb - 3) * 1024))
	check "no error of the disk" is "$(json fio ".devices[1].errors")" 0
	check "no complaint in its log" is "$(word LOG-COUNT)" 0
	echo "      $(json fio '.devices[1] | "\(.requests) requests, \(.bytes_in) bytes read, \(.bytes_out) written"'), $((SECONDS - began)) s"
	[ $FAILED = 0 ] || show $T/fio.con 40
}

inside() {
	login
	verify
}

[ "$ARG" = inside ] || image
both --timeout 400 --disk "${LAB:-}/debian.ext4"
