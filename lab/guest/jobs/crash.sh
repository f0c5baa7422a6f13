# SPDX-License-Identifier: MIT
# crash: makes the guest's kernel panic (panic=N on the command line says what follows).
echo 1 >/proc/sys/kernel/sysrq
echo c >/proc/sysrq-trigger
