# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2010,SC2012,SC2154,SC2046
# sh: an interactive shell on the console; leaving it ends the guest.
cd /
exec sh -l
