# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154
# xfer: moves xmb=MIB with seed=N between two guests whose network is up: to=ADDRESS sends, without it receives.
if [ -n "$to" ]; then
	xfer send "$to" 5000 "${xmb:-64}" "${seed:-1}"
else
	xfer recv 5000 "${xmb:-64}" "${seed:-1}"
fi
