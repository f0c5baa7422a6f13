# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2034,SC2086,SC2154
# eight sources of a Debian source package (bzip2) compiled in parallel; the compiler was run before, so that it is in
# memory
flags='-O0 -D_FILE_OFFSET_BITS=64'
prepare() {
	cp -r /deb/usr/src/demo /deb/tmp/src
	echo 'int main(void) { return 0; }' >/deb/tmp/a.c
	in_root gcc $flags -c -o /tmp/a.o /tmp/a.c
	in_root make -C /tmp/src -n
	in_memory usr/lib/gcc usr/include usr/bin/x86_64-linux-gnu-as usr/bin/make 'usr/lib/x86_64-linux-gnu/*.so.*'
}
objects='bzip2recover.o huffman.o dlltest.o unzcrash.o crctable.o spewG.o randtable.o mk251.o'
work() {
	round=0
	while [ $round -lt "$size" ]; do
		in_root make -B -s -C /tmp/src -j "$cpus" CFLAGS="$flags" $objects || return
		round=$((round + 1))
	done
}
result() { cat /deb/tmp/src/*.o; }
