#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t20_guest_kernels.sh: the tiny guests of tests/guest in the emulated machine, where guests' kernels run natively:
# with IRET and NMIs, on several nodes, with the harnesses for views. The same list as on this machine.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
export B=${B:-build}
make --no-print-directory B="$B" guest-build >/dev/null || exit 1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# shellcheck disable=SC2016 # for the shell in there
lab/run.sh --nodes 4 --mem 768 --timeout 800 --out "$out" -- \
	'B=/build GUEST_SCRIPTS=no GUEST_LOGS=/out GUEST_SLOW=4 GUEST_MOVES=400 PAGES_SECONDS=1 tests/guest/run.sh '"$*"
status=$?
[ $status = 0 ] || for f in "$out"/*.err; do
	[ ! -s "$f" ] || { echo "$(basename "$f"):" && tail -n 5 "$f"; }
done
exit $status
