#!/bin/bash
# SPDX-License-Identifier: MIT
#
# t10_bad_input_lab.sh: what goes wrong around a guest that could run: more memory than the nodes hold, a tap that exists
# already, two monitors on one socket, no permission for /dev/kvm, no /dev/kvm, a disk that vanishes under a guest. Each
# has its own message and exit status; nothing is left half started; a site with one bad guest starts none.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"

# refused WHAT STATUS PATTERN COMMAND...: the command fails with that status and one line that says why.
refused() {
	local what=$1 status=$2 pattern=$3
	shift 3
	timeout $((30 * PATIENCE)) "$@" >$T/out 2>&1 </dev/null
	check "$what: status $status" is $? "$status"
	check "$what: says why" has $T/out "$pattern" || cat $T/out
	echo "      $(grep -a '^disco:' $T/out | head -n 1 | cut -c 1-150)"
	check "$what: in one message" is "$(grep -ac '^disco:' $T/out)" 1
}

# nothing WHAT: no cell, no monitor, no tap, no socket is there.
nothing() {
	check "$1: nothing is left" is \
		"$(processes) $(find /sys/class/net -name 't10*' | wc -l) $(find $T -type s | wc -l)" "0 0 0"
}

# pair NAME GOOD BAD: a site of a guest that would run and one that cannot.
pair() {
	{
		echo '{'
		keys good "memory=\"64M\"" 'cmdline="console=ttyS0 quiet job=sh"' "nets=({type=\"tap\"; tap=\"t10good\";})"
		echo '}, {'
		keys bad "$2" 'cmdline="console=ttyS0"'
		echo '}'
	} | site "$1"
}

hosts_limits() {
	guest large 'memory="64G"'
	refused "64 GiB on a machine of 4" 6 'large.*memory: 64.*asked' $D run $T/large.cfg
	guest node 'memory="2G"' 'nodes=[1]'
	refused "2 GiB on a node of 1" 6 'node.*memory: 2.*node 1' $D run $T/node.cfg
	pair toolarge 'memory="64G"'
	refused "a site with one too large" 6 'bad.*memory: 64' $D up $T/toolarge.cfg --socket $T/sock
	check "no guest was started" is "$(grep -ac started: $T/out)" 0
	nothing "a site with one too large"

	ip tuntap add t10tap mode tap
	guest tap 'nets=({type="tap"; tap="t10tap";})'
	refused "a tap that exists" 5 't10tap.*exists already' $D run $T/tap.cfg
	pair taken 'nets=({type="tap"; tap="t10tap";})'
	refused "a site with such a tap" 5 't10tap.*exists already' $D up $T/taken.cfg --socket $T/sock
	check "the other tap is not left" test ! -e /sys/class/net/t10good
	check "the existing tap is untouched" test -e /sys/class/net/t10tap
	ip link del t10tap
	nothing "taps"
}

monitors() {
	{
		echo '{'
		keys first 'memory="64M"' 'cmdline="console=ttyS0 quiet job=sh"'
		echo '}'
	} | site twice
	check "a first monitor" $D up $T/twice.cfg --socket $T/sock --detach
	refused "a second monitor on its socket" 10 'another monitor .*has the control socket' \
		$D up $T/twice.cfg --socket $T/sock
	check "the first one lives" has <($D ps --socket $T/sock) 'first .*running'
	check "and ends" $D down --now --socket $T/sock
	sleep 1
	nothing "monitors"
	refused "a question to nobody" 11 'no monitor' $D ps --socket $T/sock
}

kvm() {
	CON=none guest kvm 'memory="64M"'
	chmod 755 $T
	chmod 600 /dev/kvm
	refused "no permission for /dev/kvm" 8 '/dev/kvm may not be opened' \
		setpriv --reuid 65534 --regid 65534 --clear-groups $D run $T/kvm.cfg
	check "doctor says so too" is "$(setpriv --reuid 65534 --regid 65534 --clear-groups $D doctor >/dev/null 2>&1; echo $?)" 8
	mv /dev/kvm /dev/kvm.away
	refused "no /dev/kvm" 7 '/dev/kvm is not there' $D run $T/kvm.cfg
	check "doctor says so too" is "$($D doctor >/dev/null 2>&1; echo $?)" 7
	pair nokvm 'memory="64M"'
	refused "a site without /dev/kvm" 7 '/dev/kvm is not there' $D up $T/nokvm.cfg --socket $T/sock
	mv /dev/kvm.away /dev/kvm
	nothing "no /dev/kvm"
}

# A guest reads its disk; half of the file goes away under it.
vanishing() {
	truncate -s 32M $T/disk
	guest vanish 'memory="128M"' "disks=({path=\"$T/disk\";})" 'cmdline="console=ttyS0 quiet job=readon"'
	$D run $T/vanish.cfg --json </dev/null >$T/vanish.json 2>$T/vanish.err &
	local cell=$!
	check "the guest reads its disk" wait_text $T/vanish.con 'READ 1 ok' 40 || show $T/vanish.con
	truncate -s 0 $T/disk
	check "it gets I/O errors" wait_text $T/vanish.con 'READ [0-9]+ failed' 30
	check "it goes on and powers off" wait_text $T/vanish.con 'DISCO-GUEST-DONE 0' 30
	wait $cell
	check "the cell survived" is $? 0
	check "the errors are counted" above "$(json vanish '.devices[] | select(.name | test("blk|disk")) | .errors')" 0
	echo "      $(json vanish '.devices[] | select(.name | test("blk|disk")) | tostring'); log: $(head -n 1 $T/vanish.err)"
	grep -a 'READ' $T/vanish.con | tail -n 3
	rm -f $T/disk
	guest gone "disks=({path=\"$T/disk\";})"
	refused "a disk that is not there" 5 'gone: disk: .*/disk: ' $D run $T/gone.cfg
}

inside() {
	modprobe tun
	hosts_limits
	monitors
	vanishing
	kvm
}

[ "$ARG" = inside ] || image
both --timeout 200
