# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2016
#
# disk.sh: what bench/numa's workloads work on, made once, when lab/build.sh makes the disk: with the
# disk's own programs, in it as root directory, from the files of bench/numa/jobs in /usr/src/numa.
#
# Gives:    in /usr/src/numa: scene.dat and atwork.so (raytrace), sim.vvp and one.vvp (engineering),
#           db (database); large-scene.dat and large-sim.vvp: the same over more memory.
set -e
cd /usr/src/numa
mawk -f scene.awk >scene.dat
mawk -v n=144 -f scene.awk >large-scene.dat
gcc -O2 -Wall -D_GNU_SOURCE -shared -fPIC -o atwork.so atwork.c
iverilog -o sim.vvp sim.v
iverilog -Ptop.N=192 -o large-sim.vvp sim.v
echo 'module top; initial $finish; endmodule' >one.v
iverilog -o one.vvp one.v
sqlite3 db "pragma journal_mode=off;
	create table t(k integer primary key, a integer, b text);
	with recursive n(i) as (select 1 union all select i+1 from n where i<100000)
		insert into t select i, (i*7919)%100003, printf('%0100d',i) from n;
	create index ta on t(a); analyze;"
