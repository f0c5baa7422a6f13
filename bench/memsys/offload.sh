#!/bin/bash
# SPDX-License-Identifier: MIT
#
# offload.sh: part of the check of the memory-system model, runs in the lab: work whose cost with the model loaded, but
# off, is compared with its cost without it: a shell that counts, programs that start, bytes that are copied and
# summed, and a guest that boots and powers off.
#
# Use:      offload.sh      (by check.sh, through lab/run.sh)
set -euo pipefail
for ((i = 0; i < 60000; i++)); do :; done
for ((i = 0; i < 300; i++)); do /bin/true; done
head -c 100000000 /dev/zero | md5sum
cat >/tmp/off.cfg <<-END
	name = "off";
	kernel = "/lab/guest-vmlinux";
	initrd = "/in/initrd.img";
	memory = "128M";
	console = "stdio";
	rng = false;
	balloon = false;
	cmdline = "console=ttyS0 quiet panic=-1 job=poweroff";
END
/build/disco run /tmp/off.cfg </dev/null
