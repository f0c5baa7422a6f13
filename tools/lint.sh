#!/bin/bash
# SPDX-License-Identifier: MIT
#
# lint.sh: the tree's shape: formatting, headers that stand alone, one-way includes, cppcheck, clang-tidy.
#
# Use:    make lint, or tools/lint.sh [quick]   (quick leaves clang-tidy out)
# Gives:  what is wrong, file and line; status 1 if anything is.
# Holds:  changes nothing. Formatting is judged by clang-format 14 only, since versions disagree.
set -u
cd "$(dirname "$0")/.." || exit 1
bad=0
out=$(mktemp)
trap 'rm -f "$out"' EXIT
need=()
command -v clang-format >/dev/null || need+=(clang-format)
command -v cppcheck >/dev/null || need+=(cppcheck)
command -v clang-tidy >/dev/null || [ "${1:-}" = quick ] || need+=(clang-tidy)
if [ ${#need[@]} != 0 ]; then
	[ "$(id -u)" = 0 ] || { echo "lint: as root, run: apt-get install ${need[*]}" && exit 1; }
	apt-get -qq update && apt-get -qq install -y --no-install-recommends "${need[@]}" >/dev/null || exit 1
fi
mapfile -t files < <(find base numa memshare sched vmm tests bench -name '*.[ch]' | sort)
mapfile -t sources < <(find base numa memshare sched vmm -name '*.c' | sort)
flags=(-std=gnu11 -D_GNU_SOURCE '-DDISCO_VERSION="lint"' -I. -Ibuild/gen)

echo "lint: format of ${#files[@]} files"
if clang-format --version | grep -q 'version 14\.'; then
	clang-format --dry-run --Werror "${files[@]}" 2>&1 | grep -E 'error|warning' | head -n 20
	[ "${PIPESTATUS[0]}" = 0 ] || bad=1
fi

echo "lint: headers stand alone"
for h in $(find base numa memshare sched vmm -name '*.h'); do
	gcc "${flags[@]}" -Wall -Wextra -Werror -fsyntax-only -x c "$h" || bad=1
done

echo "lint: knowledge flows one way"
# below FOLDER PATTERN: nothing in FOLDER may include what matches.
below() {
	if grep -rnE "^#include \"($2)/" "$1" --include='*.[ch]'; then
		echo "lint: $1 must not know $2" && bad=1
	fi
}
below base 'numa|memshare|sched|vmm'
below numa 'memshare|sched|vmm'
below memshare 'sched|vmm'
below sched 'memshare|vmm'
below vmm/config 'vmm/(machine|pager|device|boot|cell|monitor)'
below vmm/machine 'vmm/(pager|device|boot|cell|monitor)'
below vmm/pager 'vmm/(device|boot|cell|monitor)'
below vmm/device 'vmm/(boot|cell|monitor)'
below vmm/boot 'vmm/(device|cell|monitor)'
below vmm/cell 'vmm/monitor'
if grep -rlE 'linux/(kvm|userfaultfd)\.h' base numa memshare sched --include='*.[ch]'; then
	echo "lint: KVM and userfaultfd belong in vmm/" && bad=1
fi

echo "lint: cppcheck"
cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability --inline-suppr -j 2 \
	--suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches -D_GNU_SOURCE -I. \
	--library=tools/cppcheck.cfg \
	base numa memshare sched vmm || bad=1

if [ "${1:-}" != quick ]; then
	echo "lint: clang-tidy of ${#sources[@]} files"
	make -s build/gen/dsdt.h build/gen/pci.h
	# shellcheck disable=SC2016 # for the shell that xargs starts
	printf '%s\n' "${sources[@]}" | xargs -P 2 -n 8 bash -c \
		'clang-tidy --quiet --warnings-as-errors="*" "$@" -- -std=gnu11 -D_GNU_SOURCE "-DDISCO_VERSION=\"lint\"" -I. -Ibuild/gen' tidy \
		>"$out" 2>/dev/null || bad=1
	grep -E 'error:|warning:' "$out" | sort -u | head -n 40
fi
[ $bad = 0 ] && echo "lint: clean"
exit $bad
