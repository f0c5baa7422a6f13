# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2010,SC2012,SC2154,SC2046
# info: what the guest sees: CPUs, memory, clock, nodes, devices, each line "INFO name value".
echo "INFO kernel $(uname -r)"
echo "INFO cpus $(nproc)"
echo "INFO memory_kb $(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
echo "INFO clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "INFO nodes $(ls -d /sys/devices/system/node/node* 2>/dev/null | wc -l)"
echo "INFO x2apic $(grep -c -w x2apic /proc/cpuinfo)"
echo "INFO virtio $(cat /sys/bus/virtio/devices/*/device 2>/dev/null | tr '\n' ' ')"
echo "INFO disks $(ls /sys/block | tr '\n' ' ')"
echo "INFO nets $(ls /sys/class/net | tr '\n' ' ')"
cat /proc/interrupts
