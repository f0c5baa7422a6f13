# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2034,SC2154
# queries at random places of one database in shared memory, from all CPUs, some of the results kept
prepare() {
	cp "$made/db" /deb/tmp/db
	in_root sqlite3 -readonly /tmp/db 'select count(*) from t where a < 100;'
	in_memory usr/bin/sqlite3 'usr/lib/x86_64-linux-gnu/*.so.*'
}
query() {
	chroot /deb sqlite3 -readonly /tmp/db "pragma mmap_size=100000000; pragma temp_store=memory;
		create temp table r(x integer, y integer);
		with recursive n(i,x) as (select 1,$1*7919+12345
				union all select i+1,(x*1103515245+12345)%2147483648 from n where i<$((9000*size)))
			insert into r select t.k, length(t.b) from n join t on t.a=(n.x/7)%100003;
		select count(*), sum(x), sum(y) from r;" >/tmp/out."$1"
}
work() { each_of query; }
result() { cat /tmp/out.?; }
