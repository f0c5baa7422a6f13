# SPDX-License-Identifier: MIT
# reboot: resets the machine the way the kernel prefers.
sync
reboot -f
