#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t05_debian.sh: the stock Debian userland on a virtio disk boots to its login, somebody logs in, systemd is content,
# it powers off. Then fio writes a second disk with four queues, in pieces of 4k to 128k, and verifies them by CRC;
# discarded and zeroed parts are zero, the image has the checksum the guest saw, a read-only disk refuses writes.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
mb=64

# answer COMMAND PATTERN SECONDS: types a line and waits for what must come.
answer() {
	printf '%s\n' "$1" >&7
	wait_text $T/con "$2" "$3"
}

# The guest's console is a pipe from us and a file.
login() {
	local began=$SECONDS pid
	mkfifo $T/keys
	exec 7<>$T/keys
	CON=stdio INITRD=/lab/guest-busybox.cpio.gz guest debian vcpus=2 views=2 'memory="512M"' \
		'disks=({path="/dev/vda"; queues=2;})' 'cmdline="console=ttyS0 quiet root=/dev/vda rw"'
	timeout -k 5 200 $D run $T/debian.cfg --json <$T/keys >$T/con 2>$T/err &
	pid=$!
	check "login prompt" wait_text $T/con 'login:' 150 || { show $T/con; kill $pid; return; }
	echo "      login prompt after $((SECONDS - began)) s"
	check "logged in" answer root 'root@[a-z0-9-]+:~#' 40
	# What the terminal echoes has no result of $(( )) in it.
	check "systemd is content" answer 'echo "state $(systemctl is-system-running --wait) $((6*7))"' 'state running 42' 60
	answer 'systemctl --failed --no-legend --plain; echo "units $((7*7))"' 'units 49' 40
	check "root is the virtio disk" answer 'echo "root $(findmnt -n -o SOURCE,FSTYPE /) $((8*8))"' \
		'root /dev/vda +ext4 64' 20
	check "no complaint in its log" answer 'echo "bad $(dmesg | grep -cE "stall|lockup|unstable|warp|BUG:|WARNING:") $((9*9))"' \
		'bad 0 81' 20
	check "writes reach the disk" answer 'date >/var/tmp/mark && sync && echo "mark $((5*5))"' 'mark 25' 20
	printf 'systemctl poweroff\n' >&7
	wait $pid
	check "powered off" is $? 0
	exec 7>&-
	grep -a '^{"name"' $T/con >$T/debian.json
	check "its end" is "$(json debian .end)" poweroff
	[ $FAILED = 0 ] || show $T/con 40
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
