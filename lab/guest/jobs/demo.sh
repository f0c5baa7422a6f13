# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2154
#
# demo: a guest of `make demo`. On the Debian disk (root=/dev/vda overlay), with Debian's own programs, it compiles
# bzip2, packs and unpacks bzip2's sources with it, hands the packed file out by HTTP, fetches the file of the guest
# next=NAME,ADDRESS, unpacks it and sees to it that it is that guest's.
# Takes:    me=NAME, addr=ADDRESS/LENGTH, next=NAME,ADDRESS; wait=SECONDS for the others (default 900).
# Prints:   "DEMO STEP TEXT", a step with a word on it; "DEMO-SERVE SHA256 BYTES"; "DEMO-FETCH NAME SHA256 BYTES";
#           "DEMO-BAD TEXT" what went wrong. Fails when anything did.
wait=${wait:-900}
peer=${next%,*}
url=http://${next#*,}

bad() {
	echo "DEMO-BAD $*"
	tail -n 5 /deb/root/log 2>/dev/null
	exit 1
}

# in_debian COMMAND: runs it in the Debian system, in root's home; what it says on standard error goes to a log.
in_debian() {
	chroot /deb /bin/sh -c "export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin; cd /root; $1" 2>>/deb/root/log
}

seconds() {
	cut -d . -f 1 /proc/uptime
}

[ -x /deb/usr/bin/gcc ] || bad "no Debian disk with a compiler"
mount -t proc proc /deb/proc
mount -t devtmpfs dev /deb/dev
ip link set lo up
ip addr add "$addr" dev eth0 && ip link set eth0 up || bad "no network"
echo "DEMO boot Linux $(uname -r), $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /deb/etc/os-release), $(nproc) CPUs"

begin=$(seconds)
# The whole of libbz2 and the program. One file after the other: where CPUs are emulated, two busy ones get less done.
in_debian 'cp -r /usr/src/demo src && cd src &&
	gcc -O0 -w -o bzip2 bzip2.c bzlib.c blocksort.c compress.c decompress.c huffman.c crctable.c randtable.c' ||
	bad "bzip2 does not compile"
echo "DEMO compile bzip2 by gcc $(in_debian 'gcc -dumpfullversion') in $(($(seconds) - begin)) s"

in_debian "{ echo $me; cat src/*.c src/*.h; } >plain && mkdir www && src/bzip2 -c <plain >www/file &&
	src/bzip2 -dc <www/file | cmp - plain" || bad "packed and unpacked is not what it was"
sum=$(in_debian 'sha256sum <www/file' | cut -d ' ' -f 1)
echo "DEMO run packed $(wc -c </deb/root/plain) bytes to $(wc -c </deb/root/www/file); unpacked they are the same"
echo "DEMO-SERVE $sum $(wc -c </deb/root/www/file)"
httpd -p 80 -h /deb/root/www -f -vv 2>/tmp/httpd.log &

begin=$(seconds)
until in_debian "wget -q -T 20 -t 1 -O fetched $url/file"; do
	[ $(($(seconds) - begin)) -lt "$wait" ] || bad "no file from $peer"
	sleep 1
done
[ "$(in_debian 'src/bzip2 -dc <fetched | head -n 1')" = "$peer" ] || bad "what came from $peer is not its file"
echo "DEMO-FETCH $peer $(in_debian 'sha256sum <fetched' | cut -d ' ' -f 1) $(wc -c </deb/root/fetched)"
# The other one goes when it hears that its file has arrived.
in_debian "wget -q -T 20 -t 3 -O got $url/got"

begin=$(seconds)
until grep -q 'url:/got' /tmp/httpd.log; do
	[ $(($(seconds) - begin)) -lt "$wait" ] || bad "nobody fetched the file"
	sleep 1
done
exit 0
