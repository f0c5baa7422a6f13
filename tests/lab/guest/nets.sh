# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154
# nets: the first card asks for an address by DHCP and fetches url=URL; the second has tapaddr=A/LEN and pings
# tapping=ADDRESS, then waits until somebody pings us. Prints what the job net prints, and "NETS-PINGED N".
wait=${wait:-60} dev=eth0 addr='' ping='' fetch=$url sh /jobs/net.sh || exit 1
dev=eth1 addr=$tapaddr ping=$tapping fetch='' sh /jobs/net.sh || exit 1
n=0
# A field of the second line "Icmp:" counts echo requests that came.
pinged() { awk '$1 == "Icmp:" && $2 != "InMsgs" { print $10 }' /proc/net/snmp; }
while [ "$(pinged)" -lt 3 ] && [ $n -lt 60 ]; do
	sleep 1
	n=$((n + 1))
done
echo "NETS-PINGED $(pinged)"
[ "$(pinged)" -ge 3 ]
