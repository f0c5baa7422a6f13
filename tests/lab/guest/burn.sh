# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154
# burn: the load of the job smp and, at the same time, clockcheck; both for load=SECONDS. "BURN-BEGIN t" and
# "BURN-END t" give the guest's time, to be compared with the host's.
echo "BURN-BEGIN $(cut -d ' ' -f 1 /proc/uptime)"
clockcheck "${load:-10}" 30000 >/tmp/clock &
clock=$!
sh /jobs/smp.sh
smp=$?
wait $clock
clock=$?
cat /tmp/clock
echo "BURN-END $(cut -d ' ' -f 1 /proc/uptime)"
[ $smp = 0 ] && [ $clock = 0 ]
