# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2010,SC2012,SC2154,SC2046
# net: brings up dev=NAME (default the first card) with addr=A/LEN [gw=A] or, without addr, by
# DHCP. Then any of: ping=ADDRESS; fetch=URL [sum=MD5] (tried for up to wait=SECONDS, default 60);
# serve=MB [port=N]: hands out one file /file of that size by HTTP for wait seconds or until it was
# fetched clients=N times. Prints "NET dev address", "NET-PING ok|BAD", "NET-FETCH bytes md5
# seconds", "NET-SERVE md5".
ls /sys/class/net | grep -qv '^lo$' || { echo "NET absent"; exit 1; }
dev=${dev:-$(ls /sys/class/net | grep -v '^lo$' | head -n 1)}
wait=${wait:-60}
ip link set lo up
ip link set "$dev" up
if [ -n "$addr" ]; then
	ip addr add "$addr" dev "$dev"
	[ -z "$gw" ] || ip route add default via "$gw"
else
	udhcpc -i "$dev" -n -q -s /lib/udhcpc.sh || { echo "NET $dev no-address"; exit 1; }
fi
echo "NET $dev $(ip -4 addr show dev "$dev" | sed -n 's/.*inet \([^ ]*\).*/\1/p')"

if [ -n "$ping" ]; then
	if ping -c 3 -W 5 "$ping"; then echo "NET-PING ok"; else
		echo "NET-PING BAD"
		exit 1
	fi
fi
if [ -n "$serve" ]; then
	mkdir -p /tmp/www
	seq 1 $((serve * 160000)) | head -c $((serve * 1048576)) >/tmp/www/file
	echo "NET-SERVE $(md5sum </tmp/www/file | cut -d ' ' -f 1)"
	httpd -p "${port:-80}" -h /tmp/www -f -vv 2>/tmp/httpd.log &
	n=0
	while [ $n -lt "$wait" ] && [ "$(grep -c 'url:/file' /tmp/httpd.log)" -lt "${clients:-1000000}" ]; do
		sleep 1
		n=$((n + 1))
	done
	# The last one may still be reading.
	while grep -q ' 01 ' /proc/net/tcp && [ $n -lt "$wait" ]; do
		sleep 1
		n=$((n + 1))
	done
fi
if [ -n "$fetch" ]; then
	n=0
	t0=$(cut -d . -f 1 /proc/uptime)
	until wget -q -O /tmp/fetched "$fetch"; do
		n=$((n + 1))
		[ $n -lt "$wait" ] || { echo "NET-FETCH BAD"; exit 1; }
		sleep 1
	done
	got=$(md5sum </tmp/fetched | cut -d ' ' -f 1)
	echo "NET-FETCH $(wc -c </tmp/fetched) $got $(($(cut -d . -f 1 /proc/uptime) - t0))"
	[ "${sum:-$got}" = "$got" ] || exit 1
fi
exit 0
