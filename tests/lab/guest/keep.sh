# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154
# keep: the load of the job smp in rounds of load=SECONDS until the host writes an S to the start of
# the first disk; prints the last line of each round and "KEEP rounds N wrong N".
rounds=0 wrong=0
while [ "$(head -c 1 /dev/vda)" != S ]; do
	sh /jobs/smp.sh >/tmp/smp.out || wrong=$((wrong + 1))
	tail -n 1 /tmp/smp.out
	rounds=$((rounds + 1))
	echo 3 >/proc/sys/vm/drop_caches
done
echo "KEEP rounds $rounds wrong $wrong"
[ $wrong = 0 ]
