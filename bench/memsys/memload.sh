# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154,SC2046
# memload: a guest's job: runs guestload with the words of load=WORD,WORD...
stty -echo 2>/dev/null
guestload $(echo "$load" | tr , ' ')
