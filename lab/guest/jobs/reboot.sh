# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2010,SC2012,SC2154,SC2046
# reboot: resets the machine the way the kernel prefers.
sync
reboot -f
