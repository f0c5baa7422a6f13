# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154
# log: the kernel's warnings and worse, each line "LOG <level>text"; "LOG-COUNT N" is how many of them are complaints
# that no healthy machine makes. "LOG-CLOCK name" is the clock in use, "LOG-CPUS N" the CPUs.
dmesg -r | grep '^<[0-4]>' | sed 's/^/LOG /'
echo "LOG-CLOCK $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "LOG-CPUS $(nproc)"
bad=$(dmesg | grep -cE 'stall|lockup|unstable|warp|WARNING:|BUG:|Oops|hung task|backwards|skew|Call Trace')
echo "LOG-COUNT $bad"
[ "$bad" = 0 ]
