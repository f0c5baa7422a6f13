# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2034,SC2154
# page sets whose user alternates between the nodes
prepare() { :; }
work() { alternate "$cpus" 2 $((8 * size)) 16; }
result() { cat /tmp/said; }
