#!/bin/sh
# SPDX-License-Identifier: MIT
# udhcpc.sh: what udhcpc calls in the busybox guest: sets address and default route that the lease
# gives.
# shellcheck disable=SC2154 # udhcpc sets interface, ip, mask, router
case $1 in
bound | renew)
	ip addr flush dev "$interface"
	ip addr add "$ip/${mask:-24}" dev "$interface"
	for gw in $router; do
		ip route add default via "$gw" dev "$interface"
		break
	done
	;;
esac
