# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2034,SC2154
# write-shared counters, all CPUs, bound to be remote for most
prepare() { counters 1 1; }
work() { counters "$cpus" $((4000000 * size)); }
result() { cat /tmp/said; }
