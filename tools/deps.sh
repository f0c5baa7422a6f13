#!/bin/sh
# SPDX-License-Identifier: MIT
#
# deps.sh: sees to it that the distribution's packages which the project needs are installed.
#
# Use:      tools/deps.sh [--list] GROUP...        groups: build, check, lab, bench, all
# Result:   as root, missing packages are installed with apt-get (its lists are refreshed only when
#           something is missing); without root, or on a system without apt, the exact command is
#           printed and the status is 1. --list prints the packages of the groups and does nothing
#           else.
# Holds:    silent and below half a second when everything is there already (one dpkg-query).
# shellcheck disable=SC2086 # lists of package names are meant to split
set -eu

# What compiling and linking the program needs.
build='gcc libc6-dev make pkg-config libhwloc-dev libnuma-dev liburcu-dev libconfig-dev liburing-dev
       libslirp-dev libjansson-dev libxxhash-dev libseccomp-dev libcap-ng-dev acpica-tools'
# What the unit tests and the checks of the tree need.
check='libcmocka-dev jq librsvg2-bin iproute2 procps'
# What building and running the emulated NUMA machine needs.
lab='qemu-system-x86 busybox-static cpio zstd lz4 xz-utils kmod mmdebstrap e2fsprogs util-linux dpkg-dev
     ca-certificates fio jq'
# What the measurements need on top.
bench='fio librsvg2-bin strace'

usage() {
	echo "usage: tools/deps.sh [--list] build|check|lab|bench|all..." >&2
	exit 2
}

list=no
wanted=
[ $# -gt 0 ] || usage
for group; do
	case $group in
	--list) list=yes ;;
	build) wanted="$wanted $build" ;;
	check) wanted="$wanted $check" ;;
	lab) wanted="$wanted $lab" ;;
	bench) wanted="$wanted $bench" ;;
	all) wanted="$wanted $build $check $lab $bench" ;;
	*) usage ;;
	esac
done
# One name a line, each once.
wanted=$(printf '%s\n' $wanted | sort -u)

if [ $list = yes ]; then
	echo "$wanted"
	exit 0
fi
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	echo "deps: this is no Debian or Ubuntu; install what these packages hold:" $wanted >&2
	exit 1
fi

# The wanted packages that dpkg does not know as installed.
missing() {
	{
		dpkg-query -W -f '${Package} ${db:Status-Status}\n' $wanted 2>/dev/null |
			awk '$2 == "installed" { print $1, "have" }'
		printf '%s want\n' $wanted
	} | awk '$2 == "have" { have[$1] = 1 } $2 == "want" && !have[$1] { print $1 }'
}

need=$(missing | tr '\n' ' ')
[ -n "$need" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "deps: packages are missing; as root, run" >&2
	echo "  apt-get install --no-install-recommends $need" >&2
	exit 1
fi
echo "deps: installing $need"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get -q update && apt-get -q install -y --no-install-recommends $need; } </dev/null >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "deps: apt-get failed; what is needed: apt-get install --no-install-recommends $need" >&2
	exit 1
fi
need=$(missing)
[ -z "$need" ] && exit 0
echo "deps: still missing after installation:" $need >&2
exit 1
