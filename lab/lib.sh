# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# lib.sh: what the lab's scripts have in common; sourced, never run.
#
# Gives:    REPO (the tree), CALLER (the directory we were called from), B (build directory), LAB
#           (the lab's cache, default $B/lab), say, die, from_caller, comma.
# Holds:    the current directory becomes the tree, so that relative paths of B and LAB mean what
#           make means.

CALLER=$PWD
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$REPO" || exit 1
B=${B:-build}
LAB=${LAB:-$B/lab}

# One line of progress, on standard error so that output of what runs in the lab stays clean.
say() {
	printf 'lab: %s\n' "$*" >&2
}

# die STATUS MESSAGE...: one line, then the end.
die() {
	local status=$1
	shift
	say "$@"
	exit "$status"
}

# A path as the caller meant it, from his directory.
from_caller() {
	case $1 in
	/*) printf '%s' "$1" ;;
	*) printf '%s/%s' "$CALLER" "$1" ;;
	esac
}

# A path as QEMU's option parser wants it: commas doubled.
comma() {
	printf '%s' "${1//,/,,}"
}
