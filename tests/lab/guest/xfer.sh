# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154
# xfer: moves xmb=MIB with seed=N between two guests whose network is up: to=ADDRESS sends, without it receives.
# The kernel would cut frames to what it thinks goes over the line in a millisecond; here each frame costs several,
# so it is told to fill them.
echo 44 >/proc/sys/net/ipv4/tcp_min_tso_segs
echo 4194304 >/proc/sys/net/ipv4/tcp_limit_output_bytes
if [ -n "$to" ]; then
	xfer send "$to" 5000 "${xmb:-64}" "${seed:-1}"
else
	xfer recv 5000 "${xmb:-64}" "${seed:-1}"
fi
status=$?
grep -H . /sys/class/net/eth0/statistics/?x_packets
exit $status
