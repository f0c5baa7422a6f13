#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t06_subnet.sh: 1 GiB of pseudo-random bytes goes from one guest to another over the virtual subnet and each byte is
# verified; both agree on the hash. A third guest gets 10.0.2.15 by DHCP on a user-mode network and fetches a file
# from the host through it; host and guest ping each other over a tap, which is gone afterwards.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
mib=1024

write_site() {
	local words='console=ttyS0 quiet' subnet='nets=({type="subnet";})'
	{
		echo "{"
		keys sender vcpus=1 'memory="256M"' 'nodes=[0]' "$subnet" \
			"cmdline=\"$words job=net,xfer,log addr=10.0.0.1/24 ping=10.0.0.2 wait=90 to=10.0.0.2 xmb=$mib seed=77\""
		echo "}, {"
		keys receiver vcpus=2 views=2 'memory="256M"' 'nodes=[1,2]' "$subnet" \
			"cmdline=\"$words job=net,xfer,log addr=10.0.0.2/24 xmb=$mib seed=77\""
		echo "}, {"
		keys third vcpus=1 'memory="256M"' 'nodes=[3]' 'nets=({type="user";}, {type="tap"; tap="t06tap";})' \
			"cmdline=\"$words job=nets,log url=http://10.0.2.2:8080/file tapaddr=10.9.0.2/24 tapping=10.9.0.1\""
		echo "}"
	} | site net
}

# The host's side of what the third guest does.
serve_host() {
	mkdir -p $T/www
	head -c 4194304 /dev/urandom >$T/www/file
	/boot/bin/busybox httpd -f -p 127.0.0.1:8080 -h $T/www &
	httpd=$!
	local end=$((SECONDS + 60 * PATIENCE))
	until ip addr add 10.9.0.1/24 dev t06tap 2>/dev/null; do
		[ $SECONDS -lt $end ] && kill -0 $up || return
		sleep 0.2
	done
	ip link set t06tap up
	wait_text $T/third.con 'NET eth1' 90
	check "host pings guest over the tap" /boot/bin/busybox ping -c 3 -W 5 10.9.0.2
}

# hash NAME: what a guest computed.
hash() { sed -n 's/^XFER [a-z]* bytes \([0-9]*\) hash \([0-9a-f]*\) .* ok.*/\1 \2/p' "$T/$1.con"; }

inside() {
	modprobe tun
	write_site
	local began=$SECONDS name up
	$D up $T/net.cfg --result $T/result.json >$T/up.out 2>&1 &
	up=$!
	serve_host
	wait_gone $up 330 || { echo "      time is over" && $D down --now; }
	wait $up
	check "all guests ended well" is $? 0 || show $T/up.out 30
	kill $httpd
	tail -n 5 $T/up.out
	for name in sender receiver third; do
		[ -e $T/$name.con ] || continue
		grep -aE '^(NET|XFER|LOG-COUNT)' $T/$name.con | sed "s/^/$name: /"
		check "$name: jobs went well" has $T/$name.con 'DISCO-GUEST-DONE 0' || show $T/$name.con
		check "$name: no complaint in its log" has $T/$name.con 'LOG-COUNT 0'
	done
	check "ping between guests" has $T/sender.con 'NET-PING ok'
	check "all bytes arrived, all right" is "$(hash receiver)" "$(hash sender)"
	check "1 GiB of them" is "$(hash receiver | cut -d ' ' -f 1)" $((mib << 20))
	check "DHCP of the user-mode network" has $T/third.con 'NET eth0 10.0.2.15/24'
	check "a file came through the user-mode network" has $T/third.con \
		"NET-FETCH 4194304 $(md5sum <$T/www/file | cut -d ' ' -f 1)"
	check "guest pings host over the tap" has $T/third.con 'NET-PING ok'
	check "the tap is gone" test ! -e /sys/class/net/t06tap
	echo "      it took $((SECONDS - began)) s"
}

[ "$ARG" = inside ] || image xfer
both --timeout 480
