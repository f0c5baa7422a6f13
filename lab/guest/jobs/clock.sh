# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154
# clock: reads the clocks of all CPUs against each other for load=SECONDS (default 10) and says
# which clock the kernel uses. Prints the line of clockcheck, "CLOCK-SOURCE name"; fails when time
# went backwards or the kernel complained.
clockcheck "${load:-10}"
status=$?
echo "CLOCK-SOURCE $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
dmesg | grep -E -i 'unstable|warp|skew|backwards' | sed 's/^/CLOCK-WARNING /' >/tmp/clock
cat /tmp/clock
[ $status = 0 ] && [ ! -s /tmp/clock ]
