# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2010,SC2012,SC2154,SC2046
# crash: makes the guest's kernel panic (panic=N on the command line says what follows).
echo 1 >/proc/sys/kernel/sysrq
echo c >/proc/sysrq-trigger
