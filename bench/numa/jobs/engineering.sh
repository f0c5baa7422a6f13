# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2034,SC2154
# independent logic simulations, one on each CPU, each over more memory than a cache has
[ "$data" = large ] && data=large-sim.vvp || data=sim.vvp
prepare() {
	cp "$made/one.vvp" "$made/$data" /deb/tmp/
	in_root vvp -n /tmp/one.vvp
	in_memory usr/bin/vvp usr/lib/x86_64-linux-gnu/ivl 'usr/lib/x86_64-linux-gnu/*.so.*'
}
simulate() { chroot /deb vvp -n "/tmp/$data" "+cycles=$((120 * size))" >/tmp/out."$1"; }
work() { each_of simulate; }
result() { cat /tmp/out.?; }
