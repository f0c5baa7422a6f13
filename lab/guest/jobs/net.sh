# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2010,SC2012,SC2154,SC2046
# net: brings up dev=NAME (default the first card) with addr=A/LEN [gw=A] or, without addr, by DHCP. Then any of:
# ping=ADDRESS (tried for up to wait=SECONDS, default 60); fetch=URL [sum=MD5] (likewise); serve=MB [port=N]: hands
# out one file /file of that size by HTTP for wait seconds or until clients=N clients have all of it.
# Prints "NET dev address", "NET-PING ok|BAD", "NET-FETCH bytes md5 seconds", "NET-SERVE md5".
ls /sys/class/net | grep -qv '^lo$' || { echo "NET absent"; exit 1; }
dev=${dev:-$(ls /sys/class/net | grep -v '^lo$' | head -n 1)}
wait=${wait:-60}
port=${port:-80}

# Seconds since the guest's start.
now() { cut -d . -f 1 /proc/uptime; }

# Connections of our port whose peer has not taken all and said so: any state but listening, FIN-WAIT-2, TIME-WAIT.
busy() {
	cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
		awk -v port="$(printf ':%04X' "$port")" '$2 ~ port "$" && $4 !~ /^(0A|05|06)$/ { n++ } END { print n + 0 }'
}

# How many requests for the file came.
requests() { grep -c 'url:/file' /tmp/httpd.log; }

ip link set lo up
ip link set "$dev" up
if [ -n "$addr" ]; then
	ip addr add "$addr" dev "$dev"
	[ -z "$gw" ] || ip route add default via "$gw"
else
	udhcpc -i "$dev" -n -q -s /lib/udhcpc.sh || { echo "NET $dev no-address"; exit 1; }
fi
echo "NET $dev $(ip -4 addr show dev "$dev" | sed -n 's/.*inet \([^ ]*\).*/\1/p')"
end=$(($(now) + wait))

if [ -n "$ping" ]; then
	# The other side may still be starting.
	until ping -c 1 -W 2 "$ping" >/dev/null; do
		[ "$(now)" -lt $end ] || { echo "NET-PING BAD" && exit 1; }
		sleep 1
	done
	ping -c 3 -W 5 "$ping" || { echo "NET-PING BAD" && exit 1; }
	echo "NET-PING ok"
fi
if [ -n "$serve" ]; then
	mkdir -p /tmp/www
	seq 1 $((serve * 160000)) | head -c $((serve * 1048576)) >/tmp/www/file
	echo "NET-SERVE $(md5sum </tmp/www/file | cut -d ' ' -f 1)"
	httpd -p "$port" -h /tmp/www -f -vv 2>/tmp/httpd.log &
	end=$(($(now) + wait))
	while [ "$(now)" -lt $end ] && { [ "$(requests)" -lt "${clients:-1000000}" ] || [ "$(busy)" -gt 0 ]; }; do sleep 1; done
fi
if [ -n "$fetch" ]; then
	t0=$(now)
	# (wget's own time limit, -T, crashes in Debian's static busybox.)
	until timeout $((end - $(now) + 1)) wget -q -O /tmp/fetched "$fetch"; do
		[ "$(now)" -lt $end ] || { echo "NET-FETCH BAD" && exit 1; }
		sleep 1
	done
	got=$(md5sum </tmp/fetched | cut -d ' ' -f 1)
	echo "NET-FETCH $(wc -c </tmp/fetched) $got $(($(now) - t0))"
	[ "${sum:-$got}" = "$got" ] || exit 1
fi
exit 0
