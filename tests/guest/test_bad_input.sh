#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_bad_input.sh: every mistake of a user has a message of its own, one line, and the exit status of base/err.h; none
# crashes, none leaves a half-started site, a socket, a lock, a tap or a process behind.
#
# Use:    B=build tests/guest/test_bad_input.sh [PART...]    after make disco and make guest-kernels
# Gives:  one line a mistake, "ok NAME" or "FAIL NAME: why" ("skip NAME: why" where it cannot be made here), last
#         "badinput: N passed, N failed, N skipped"; status 0 if none failed, 77 if so and there is no /dev/kvm.
#         VERBOSE=1 shows all messages.
# Holds:  everything it makes is in a directory of its own, and a tap "dbad0"; both go at the end. Needs no Linux guest.
# shellcheck disable=SC2015 # "a && b || c": c is meant for both
set -u
cd "$(dirname "$0")/../.." || exit 1
HERE=$PWD/tests/guest
B=${B:-build}
DISCO=$PWD/$B/disco
KERNEL=$PWD/$B/tests/guest/tenant.elf
USER_ELF=$PWD/$B/tests/guest/user.elf
SLOW=${GUEST_SLOW:-1}
[ -x "$DISCO" ] && [ -f "$KERNEL" ] || { echo "test_bad_input: build $DISCO and $KERNEL first" >&2; exit 1; }
command -v jq >/dev/null || { echo "test_bad_input: no jq: skipped"; exit 77; }

D=$(mktemp -d /tmp/disco-bad.XXXXXX)
chmod 755 "$D"
cd "$D" || exit 1
SOCK=$D/b.sock
export DISCO_TEST=$D
monitor='' tap='' passed=0 failed=0 skipped=0
declare -A messages=() # which mistake had it

cleanup() {
	[ -z "$monitor" ] || kill -9 "$monitor" 2>/dev/null
	[ -z "$tap" ] || ip link del "$tap" 2>/dev/null
	cd / && rm -rf "$D"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
# shellcheck source=tests/guest/lib/bad_input.sh
. "$HERE/lib/bad_input.sh"

# ---- the configuration: every key of the table, from the table ----

# config_with SCOPE KEY VALUE: a site in which this key, and only this, is wrong; k.cfg.
config_with() {
	local set="$2 = $3;"
	case $1 in
	site) { echo "$set" && grep -v "^${2%x} = " base.cfg; } >k.cfg ;;
	guest)
		[ "$2" != name ] || set="$set kernel = \"$KERNEL\";"
		[ "$2" != kernel ] || set="name = \"g\"; $set"
		[[ $2 =~ ^(name|kernel)$ ]] || set="name = \"g\"; kernel = \"$KERNEL\"; $set"
		echo "guests = ( { $set } );" >k.cfg
		;;
	disk) [ "$2" = path ] || set="path = \"/dev/null\"; $set" && one_guest "disks = ( { $set } );" ;;
	net) one_guest "nets = ( { $set } );" ;;
	console) one_guest "console = { $set };" ;;
	esac
	return 0
}
one_guest() {
	echo "guests = ( { name = \"g\"; kernel = \"$KERNEL\"; $1 } );" >k.cfg
}

# wrong TYPE MIN MAX: values of the wrong type, then out of range, a line each.
wrong() {
	case $1 in
	int) printf '%s\n' '"many"' 1.5 $(($2 - 1)) $(($3 + 1)) ;;
	'int or "auto"') printf '%s\n' '"many"' true $(($2 - 1)) $(($3 + 1)) ;;
	bool) printf '%s\n' 1 '"yes"' ;;
	size) printf '%s\n' '"3 parsecs"' true '"1M"' '"3M"' '"65T"' -2097152 ;;
	time) printf '%s\n' '"3 parsecs"' true 5 '"7"' '"30h"' '"-1ms"' ;;
	string | path)
		printf '%s\n' 7 '{ }'
		[ "$2" = 0 ] || echo '""'
		printf '"%s"\n' "$(printf 'x%.0s' $(seq $(($3 * 2 + 1))))"
		;;
	enum) printf '%s\n' 7 '"purple"' ;;
	'list of int') printf '%s\n' true '"0-"' '[ -1 ]' '[ 1024 ]' '[ 0, 0 ]' '"0-64"' ;;
	'list of groups' | 'group of groups') printf '%s\n' 7 '( 7 )' ;;
	console) printf '%s\n' 7 '"purple"' '"file"' '"pty:x"' ;;
	esac
}

part_keys() {
	local scope key type min max value i typo
	QUICK=yes
	site base.cfg '{ name = "g"; template = "base"; }'
	"$DISCO" check --schema=json >schema.json || { no schema "no schema"; return; }
	while IFS=$'\t' read -r scope key type min max; do
		i=0
		while IFS= read -r value; do
			i=$((i + 1))
			config_with "$scope" "$key" "$value"
			bad "key-$scope-$key-$i" 3 "$key" "$DISCO" up k.cfg
		done < <(wrong "$type" "$min" "$max")
		[ "$i" -gt 0 ] || no "key-$scope-$key" "a type this test does not know: $type"
		typo=${key}x
		[ "$scope-$key" != site-guests ] || continue # a file without is one guest
		config_with "$scope" "$typo" 1
		bad "typo-$scope-$key" 3 "did you mean $key?" "$DISCO" up k.cfg
	done < <(jq -r '.keys[] | [.scope, .key, .type, .min // 0, .max // 0] | @tsv' schema.json)
	QUICK=''
}

# rule NAME NEEDLE KEYS: one guest, whose keys do not go together, or say what is not there.
rule() {
	site b.cfg "{ name = \"g\"; template = \"base\"; $3 }"
	bad "rule-$1" 3 "$2" "$DISCO" up b.cfg
}

part_rules() {
	QUICK=yes
	rule no-name name 'template = "base"; },{ kernel = "x";'
	rule unknown 'guests[0].flavour' 'flavour = 3;'
	rule elsewhere 'site' 'subnet = "10.0.0.0/8";'
	rule views views 'views = 2;'
	rule kvmclock clock 'vcpus = 4; views = 2; clock = "kvmclock";'
	rule x2apic x2apic 'vcpus = 255; x2apic = false;'
	rule no-tap 'tap is missing' 'nets = ( { type = "tap"; } );'
	rule tap-not-tap 'nets[0].tap' 'nets = ( { type = "user"; tap = "dbad1"; } );'
	rule tap-name 'a/b' 'nets = ( { type = "tap"; tap = "a/b"; } );'
	rule tap-long dbad 'nets = ( { type = "tap"; tap = "dbad-%g-%g-%g-%g-%g-%g-%g"; } );'
	rule hostfwd hostfwd 'nets = ( { type = "subnet"; hostfwd = "tcp::22-:22"; } );'
	rule hostfwd-text 'tcp:22' 'nets = ( { type = "user"; hostfwd = "tcp:22"; } );'
	rule mac 'multicast' 'nets = ( { mac = "53:54:00:00:00:01"; } );'
	rule no-path 'path is missing' 'console = { type = "file"; };'
	rule path-not 'path goes' 'console = { type = "pty"; path = "x"; };'
	rule no-disk-path 'disks[0]' 'disks = ( { readonly = true; } );'
	rule percent '%q' 'cmdline = "%q";'
	rule stdio vconsole 'console = "stdio"; vconsole = "stdio";'
	rule odd-name 'name' 'count = 2; },{ template = "base"; name = "-x";'
	site b.cfg '{ name = "g"; template = "bsae"; }'
	bad template-unknown 3 'did you mean "base"?' "$DISCO" up b.cfg
	echo "guests = ( { name = \"g\"; template = \"base\"; } );" >b.cfg
	bad template-none 3 'no template "base"' "$DISCO" up b.cfg
	site b.cfg '{ name = "g"; template = "base"; }'
	sed -i 's/^templates = .*/templates = { base = { template = "base"; }; };/' b.cfg
	bad template-loop 3 'builds on itself' "$DISCO" up b.cfg
	sed -i 's/^templates = .*/templates = { base = { template = "odd"; }; };/' b.cfg
	bad template-of-template 3 'templates.base.template' "$DISCO" up b.cfg
	sed -i "s,^templates = .*,templates = { base = { kernel = \"$KERNEL\"; }; spare = { vcpus = 0; }; };," b.cfg
	bad template-unused 3 'templates.spare.vcpus' "$DISCO" up b.cfg
	site b.cfg '{ name = "g"; template = "base"; }' 'subnet = "10.0.0.1/24";'
	bad subnet 3 '10.0.0.1/24' "$DISCO" up b.cfg
	site b.cfg '{ name = "same"; template = "base"; }, { name = "x"; template = "base"; }, { name = "same"; template = "base"; }'
	bad name-twice 3 '"same"' "$DISCO" up b.cfg
	site b.cfg '{ name = "n"; count = 3; template = "base"; }, { name = "n1"; template = "base"; }'
	bad name-of-count 3 '"n1"' "$DISCO" up b.cfg
	site b.cfg '{ name = "a"; template = "base"; nets = ( { type = "tap"; tap = "dbad1"; } ); },
		{ name = "b"; template = "base"; nets = ( { type = "tap"; tap = "dbad1"; } ); }'
	bad tap-twice 3 'tap "dbad1"' "$DISCO" up b.cfg
	site b.cfg '{ name = "a"; template = "base"; count = 2; nets = ( { mac = "52:54:00:00:00:01"; } ); }'
	bad mac-twice 3 'mac "52:54' "$DISCO" up b.cfg
	site b.cfg '{ name = "a"; template = "base"; count = 2; console = "file:one.log"; }'
	bad console-twice 3 'one.log' "$DISCO" up b.cfg
	site b.cfg '{ name = "a"; template = "base"; count = 2; }, { name = "b"; template = "base"; }'
	bad run-site 3 'runs one guest' "$DISCO" run b.cfg
	site b.cfg '{ name = "a"; template = "base"; nets = ( { type = "subnet"; } ); }'
	kvm run-subnet && bad run-subnet 3 'disco up' "$DISCO" run b.cfg
	QUICK=''
}

part_syntax() {
	QUICK=yes
	bad file-none 3 'none.cfg: No such' "$DISCO" up none.cfg
	bad file-directory 3 "$D: Is a dir" "$DISCO" up "$D"
	bad file-binary 3 'zero byte' "$DISCO" up "$KERNEL"
	: >e.cfg
	bad file-empty 3 'nothing is configured' "$DISCO" up e.cfg
	site b.cfg '{ name = "g"; template = "base"; }' '@include "gone.cfg"'
	sed -i 's/^\t*@/@/' b.cfg
	bad include-none 3 'gone.cfg' "$DISCO" up b.cfg
	echo '@include gone.cfg' >b.cfg
	bad include-unquoted 3 'in quotes' "$DISCO" up b.cfg
	echo '@include "b.cfg"' >b.cfg
	bad include-loop 3 'includes itself' "$DISCO" up b.cfg
	echo '@include "/"' >b.cfg
	bad include-directory 3 '@include: /' "$DISCO" up b.cfg
	mkfifo fifo
	echo '@include "fifo"' >b.cfg
	bad include-fifo 3 'fifo' "$DISCO" up b.cfg
	rm fifo
	site b.cfg '{ name = "g"; template "base"; }'
	bad syntax-equals 3 'b.cfg:6: syntax error' "$DISCO" up b.cfg
	site b.cfg '{ name = "g'
	bad syntax-string 3 'a string begins' "$DISCO" up b.cfg
	site b.cfg '{ name = "g"; } /* '
	bad syntax-comment 3 'a comment begins' "$DISCO" up b.cfg
	site b.cfg '{ name = "g"; name = "h"; }'
	bad syntax-twice 3 'duplicate' "$DISCO" up b.cfg
	QUICK=''
}

# ---- kernels ----

# kernel NAME NEEDLE FILE [KEYS]: the last of three guests has this kernel.
kernel() {
	bad3 "kernel-$1" 4 "$2" "kernel = \"$D/$3\"; boot = \"auto\"; ${4:-}"
}

part_kernels() {
	bzimage linux.img
	kernel missing 'no-such-file' no-such-file
	kernel directory "kernel: $D: is a directory" ""
	bad3 kernel-device 4 'kernel: /dev/null: is a character device' 'kernel = "/dev/null";'
	kvm kernels || return
	: >empty && kernel empty 'empty: is empty' empty
	head -c 3000 /dev/zero | tr '\0' 'a\n' >text && kernel text 'text: is a text file' text
	head -c 4000 /dev/zero >zeros && kernel zeros 'zeros: is no kernel' zeros
	gzip -c "$KERNEL" >k.gz && kernel gzip 'gzip' k.gz
	head -c 600 linux.img >short-header && kernel bzimage-header 'short-header: truncated bzImage' short-header
	head -c 1024 linux.img >short-setup && kernel bzimage-setup 'setup sectors' short-setup
	head -c 20000 linux.img >short-payload && kernel bzimage-payload 'short-payload: truncated bzImage' short-payload
	cp linux.img k32 && poke k32 0x236 '\x00\x00' && kernel bzimage-32 'k32: 32-bit Linux' k32
	cp linux.img kold && poke kold 0x206 '\x06\x02' && kernel bzimage-old 'protocol 2.06' kold
	cp linux.img klow && poke klow 0x211 '\x00' && kernel bzimage-low 'zImage' klow
	cp linux.img kodd && poke kodd 0x230 '\x03\x00\x00\x00' && kernel bzimage-odd 'broken bzImage header' kodd
	cp linux.img khuge && poke khuge 0x260 "$(le 0x7fffffff 4)" && kernel bzimage-memory 'does not fit' khuge
	cp linux.img kefi && poke kefi 0x202 '\x00' && poke kefi 0 'MZ' && kernel efi 'EFI program' kefi
	head -c 40 "$KERNEL" >elf-head && kernel elf-header 'truncated inside the ELF header' elf-head
	head -c 60 "$KERNEL" >elf-table && kernel elf-table 'an ELF program header' elf-table
	head -c 4200 "$KERNEL" >elf-short && kernel elf-segment 'elf-short: truncated: an ELF segment' elf-short
	cp "$KERNEL" arm32 && poke arm32 18 '\x28' && kernel elf-arm 'arm32: ELF for' arm32
	cp "$USER_ELF" arm && poke arm 18 '\xb7' && kernel elf-aarch64 'aarch64' arm
	cp zeros image && poke image 0x38 'ARM\x64' && kernel aarch64-image 'Linux Image for aarch64' image
	cp "$USER_ELF" prog && kernel elf-user 'is it a user program?' prog
	cp "$(readlink -f /bin/true)" pie && kernel elf-pie 'ET_DYN' pie
	cp "$USER_ELF" object && poke object 16 '\x01' && kernel elf-object 'ELF object' object
	kernel_kinds
	starts kernels-then-good
}

# A kernel that is right, for the protocol it is not for.
kernel_kinds() {
	cp "$KERNEL" tenant
	third "kernel = \"$D/tenant\"; boot = \"linux\";"
	bad kernel-not-linux 4 "tenant: 32-bit ELF" "$DISCO" up b.cfg
	third "kernel = \"$D/linux.img\"; boot = \"pvh\";"
	bad kernel-not-pvh 4 "linux.img" "$DISCO" up b.cfg
	third "kernel = \"$D/prog\"; boot = \"multiboot\";"
	bad kernel-not-multiboot 4 "prog: " "$DISCO" up b.cfg
}

part_initrd() {
	local linux="kernel = \"$D/linux.img\"; boot = \"auto\"; memory = \"64M\";"
	bzimage linux.img
	truncate -s 1G big.cpio
	bad3 initrd-missing 4 'initrd: ' "initrd = \"$D/none.cpio\";"
	bad3 initrd-directory 4 'initrd: ' "initrd = \"$D\"; memory = \"64M\";"
	kvm initrd || return
	bad3 initrd-large 4 'big.cpio' "$linux initrd = \"$D/big.cpio\";"
	bad3 initrd-large-multiboot 4 'big.cpio' "initrd = \"$D/big.cpio\";"
	: >empty.cpio
	bad3 initrd-empty 4 'empty.cpio: is empty' "$linux initrd = \"$D/empty.cpio\";"
	bad3 cmdline-long 4 'command line' "$linux cmdline = \"$(printf 'x%.0s' $(seq 2047))\";"
	starts initrd-then-good
}

# ---- memory and nodes ----

part_memory() {
	local all
	bad3 memory-64T 6 'guest "last": memory: 64 TiB' 'memory = "64T"; nodes = [ 0 ];'
	bad3 memory-all-nodes 6 'memory: 60 TiB asked' 'memory = "60T";'
	bad3 memory-hugetlb 6 'hugetlb' 'memory = "62T"; hugepages = "hugetlb";'
	all=$("$DISCO" topo --json | jq '[.nodes[].free] | add / 2097152 * 0.45 | floor * 2') # two fit, three do not
	site b.cfg "{ name = \"a\"; template = \"base\"; count = 3; memory = \"${all}M\"; }"
	bad memory-sum 6 'guest "a2": memory' "$DISCO" up b.cfg
	bad3 node-none 3 'there is no node 1023' 'nodes = [ 0, 1023 ];'
	kvm memory || return
	starts memory-then-good
}

# ---- disks, taps, consoles, sockets ----

part_disks() {
	truncate -s 1M rw.img
	ln -s rw.img link.img
	mkfifo fifo.img
	bad3 disk-missing 5 'none.img' "disks = ( { path = \"$D/none.img\"; } );"
	bad3 disk-directory 5 'disk: ' "disks = ( { path = \"$D\"; } );"
	bad3 disk-fifo 5 'fifo.img' "disks = ( { path = \"$D/rw.img\"; }, { path = \"$D/fifo.img\"; } );"
	ln -s loop.img loop.img
	bad3 disk-link-loop 5 'symbolic' "disks = ( { path = \"$D/loop.img\"; } );"
	bad3 disk-no-directory 5 'Not a directory' "disks = ( { path = \"$D/rw.img/x\"; } );"
	site b.cfg '{ name = "a"; template = "base"; disks = ( { path = "rw.img"; } ); },
		{ name = "b"; template = "base"; disks = ( { path = "rw.img"; } ); }'
	bad disk-twice 3 'rw.img' "$DISCO" up b.cfg
	site b.cfg '{ name = "a"; template = "base"; disks = ( { path = "rw.img"; } ); },
		{ name = "b"; template = "base"; disks = ( { path = "link.img"; readonly = true; } ); }'
	bad disk-linked 5 'is the same file as' "$DISCO" up b.cfg
	kvm disks || return
	site s.cfg '{ name = "a"; template = "base"; disks = ( { path = "rw.img"; } ); }'
	up s.cfg || no disk-site "no start: $(cat up.out)"
	sed "s,b.sock,c.sock,; s,$D/run,$D/run2," s.cfg >t.cfg
	RUNS=yes bad disk-in-use 5 'in use by another guest' "$DISCO" up t.cfg
	sed -i 's/path = /readonly = true; path = /' t.cfg
	RUNS=yes bad disk-being-written 5 'being written' "$DISCO" up t.cfg
	[ -z "$(ls -d c.sock* run2 2>/dev/null)" ] || no disk-in-use-left "$(ls -d c.sock* run2)"
	down
	starts disks-then-good
}

part_taps() {
	kvm taps || return
	if [ "$(id -u)" = 0 ] && [ -w /dev/net/tun ] && ip tuntap add dbad0 mode tap 2>/dev/null; then
		tap=dbad0
		bad3 tap-exists 5 'tap dbad0: a network device of this name exists' 'nets = ( { type = "tap"; tap = "dbad1"; },
			{ type = "tap"; tap = "dbad0"; } );'
		bad3 tap-lo 5 'tap lo:' 'nets = ( { type = "tap"; tap = "lo"; } );'
		ip link del dbad0 && tap=''
		third 'nets = ( { type = "tap"; tap = "dbad1"; } );'
		up b.cfg || no tap-after "no start: $(cat up.out)"
		RUNS=yes
		sed "s,b.sock,c.sock,; s,$D/run,$D/run2," b.cfg >t.cfg
		bad tap-in-use 5 'tap dbad1: a network device of this name exists' "$DISCO" up t.cfg
		RUNS=''
		down
	else
		skip tap-exists "taps cannot be made here"
	fi
	starts taps-then-good
}

part_places() {
	mkdir sub
	kvm places || return
	bad3 console-file 5 'sub/no/x.log' "console = \"file:$D/sub/no/x.log\";"
	bad3 console-file-directory 5 'Is a directory' "console = \"file:$D/sub\";"
	: >con.file
	bad3 console-socket 5 'con.file exists already' "console = \"socket:$D/con.file\";"
	bad3 console-socket-directory 5 'sub/no/con' "console = \"socket:$D/con\"; vconsole = \"socket:$D/sub/no/con\";"
	third ''
	bad socket-taken 5 'where the control socket is to be' "$DISCO" up b.cfg -s "$D/con.file"
	bad socket-long 5 'longer than' "$DISCO" up b.cfg -s "$D/$(printf 'x%.0s' $(seq 120))"
	bad socket-under-file 5 'con.file/x.sock.lock' "$DISCO" up b.cfg -s "$D/con.file/x.sock"
	sed -i "s,^rundir.*,rundir = \"$D/con.file/run\";," b.cfg
	bad rundir-under-file 5 'con.file/run' "$DISCO" up b.cfg
	third ''
	bad result-nowhere 5 'result file' "$DISCO" up b.cfg --result "$D/sub/no/r.json"
	bad result-directory 5 'sub cannot be written' "$DISCO" up b.cfg --result "$D/sub"
	bad svg-nowhere 5 'picture' "$DISCO" up b.cfg --svg "$D/sub/no/p.svg"
	third "kernel = \"$D/sub/none\";"
	AGAIN=yes bad detached 4 'sub/none' "$DISCO" up -d b.cfg
	third "console = \"file:$D/sub/no/y.log\";"
	AGAIN=yes bad detached-child 5 'sub/no/y.log' "$DISCO" up -d b.cfg
	starts places-then-good
}

# ---- users and /dev/kvm ----

# as a user who may not: the program and the guests' kernel are copies he can read, the site's directory is his.
part_users() {
	local sock=$SOCK
	if ! can_be_nobody; then
		skip users "not root, or no setpriv"
		return
	fi
	cp "$DISCO" disco && chmod 755 disco && cp "$KERNEL" tenant && chmod 644 tenant
	mkdir -m 777 nobody
	: >secret && chmod 600 secret
	truncate -s 1M secret.img && chmod 600 secret.img
	truncate -s 1M readable.img && chmod 644 readable.img
	SOCK=$D/nobody/b.sock
	# user NAME STATUS NEEDLE KEYS [COMMAND BEFORE IT...]
	user() {
		site b.cfg "{ name = \"a\"; template = \"base\"; }, { name = \"last\"; template = \"base\"; $4 }"
		sed -i "s,^rundir.*,rundir = \"$D/nobody/run\";,; s,$KERNEL,$D/tenant," b.cfg
		chmod 644 b.cfg
		bad "$1" "$2" "$3" "${@:5}" "${NOBODY[@]}" "$D/disco" up b.cfg
	}
	user kernel-secret 8 'kernel: ' "kernel = \"$D/secret\";"
	user initrd-secret 8 'initrd: ' "initrd = \"$D/secret\";"
	user disk-secret 8 'disk: ' "disks = ( { path = \"$D/secret.img\"; readonly = true; } );"
	user disk-read-only 8 'may not be read and written' "disks = ( { path = \"$D/readable.img\"; } );"
	echo '@include "secret"' >i.cfg && chmod 644 i.cfg
	bad include-secret 8 '@include' "${NOBODY[@]}" "$D/disco" up i.cfg
	bad config-secret 8 'secret: Permission denied' "${NOBODY[@]}" "$D/disco" up secret
	if can_unshare && [ -c /dev/kvm ]; then
		mkdir kvm.d && mknod -m 600 kvm.d/kvm c 10 232
		user kvm-permission 8 '/dev/kvm may not be opened' '' unshare -m sh -c \
			'mount --bind kvm.d/kvm /dev/kvm && exec "$@"' sh
		chmod 666 kvm.d/kvm
		if [ -c /dev/net/tun ]; then
			mknod -m 600 kvm.d/tun c 10 200
			user tap-permission 8 'tap dbad1' 'nets = ( { type = "tap"; tap = "dbad1"; } );' unshare -m sh -c \
				'mount --bind kvm.d/kvm /dev/kvm && mount --bind kvm.d/tun /dev/net/tun && exec "$@"' sh
			chmod 666 kvm.d/tun
			user tap-capability 8 'CAP_NET_ADMIN' 'nets = ( { type = "tap"; tap = "dbad1"; } );' unshare -m sh -c \
				'mount --bind kvm.d/kvm /dev/kvm && mount --bind kvm.d/tun /dev/net/tun && exec "$@"' sh
		fi
		user console-permission 8 'x.log' "console = \"file:$D/sub2/x.log\";" unshare -m sh -c \
			'mount --bind kvm.d/kvm /dev/kvm && mkdir -p -m 755 sub2 && exec "$@"' sh
		chmod 755 nobody
		user socket-permission 8 'nobody/b.sock.lock' '' unshare -m sh -c 'mount --bind kvm.d/kvm /dev/kvm && exec "$@"' sh
		chmod 777 nobody
	else
		skip kvm-permission "no mount namespace or no /dev/kvm"
	fi
	SOCK=$sock
	kvm users || return
	site s.cfg '{ name = "a"; template = "base"; }'
	up s.cfg || no users-site "no start: $(cat up.out)"
	RUNS=yes bad socket-of-another 8 'belongs to another user' "${NOBODY[@]}" "$D/disco" ps -s "$SOCK"
	down
}
part_kvm() {
	local doctor
	kvm kvm || return
	if can_unshare; then
		third ''
		bad kvm-none 7 '/dev/kvm is not there' unshare -m sh -c 'mount -t tmpfs none /dev && exec "$@"' sh "$DISCO" up b.cfg
		bad kvm-null 7 '/dev/kvm is not the device' unshare -m sh -c 'mount --bind /dev/null /dev/kvm && exec "$@"' sh "$DISCO" up b.cfg
		: >plain
		AGAIN=yes bad kvm-file 7 '/dev/kvm' unshare -m sh -c 'mount --bind plain /dev/kvm && exec "$@"' sh "$DISCO" up b.cfg
	else
		skip kvm-none "no mount namespaces"
	fi
	doctor=$("$DISCO" doctor --json | jq .status)
	if [ "$doctor" = 9 ]; then
		bzimage linux.img
		bad3 kvm-emulates 9 'emulates guest kernels' "kernel = \"$D/linux.img\"; boot = \"auto\"; memory = \"64M\";"
		one_guest "" && sed -i "s,$KERNEL,$D/linux.img,; s,kernel,memory = \"64M\"; kernel," k.cfg
		AGAIN=yes bad kvm-emulates-run 9 'emulates guest kernels' "$DISCO" run k.cfg
	else
		skip kvm-emulates "this KVM runs kernels, or none of ours does (doctor: $doctor)"
	fi
	starts kvm-then-good
}

# ---- commands ----

part_commands() {
	local c
	QUICK=yes
	bad command-unknown 2 "no command 'upp'; did you mean 'up'?" "$DISCO" upp x.cfg
	bad command-strange 2 "no command 'levitate'" "$DISCO" levitate
	bad command-help 2 "no command 'sotp'" "$DISCO" help sotp
	for c in run up down ps stat heatmap console stop kill pause resume balloon move wait check topo doctor; do
		bad "option-$c" 2 "$c: unknown option --sideways" "$DISCO" "$c" --sideways
	done
	bad option-letter 2 'up: unknown option -Z' "$DISCO" up -qZv b.cfg
	bad option-other 2 'ps: unknown option --now' "$DISCO" ps --now
	bad option-other-value 2 'ps: unknown option --timeout' "$DISCO" ps --timeout 3
	bad option-other-letter 2 'ps: unknown option -o' "$DISCO" ps -o x.svg
	bad option-value 2 'up: --socket needs a value' "$DISCO" up b.cfg --socket
	bad option-time 2 "'soon'" "$DISCO" stop a --timeout soon
	for c in run up stat heatmap stop kill pause resume console balloon move check; do
		bad "missing-$c" 2 "$c: " "$DISCO" "$c"
	done
	for c in run up ps stat stop kill doctor; do
		AGAIN=yes bad "too-many-$c" 2 "$c: " "$DISCO" "$c" a.cfg b.cfg c.cfg
	done
	bad argument-size 2 "'much'" "$DISCO" balloon a much
	bad argument-number 2 'move: VCPU' "$DISCO" move a one two
	bad topo-synthetic 2 'nodes=x' "$DISCO" topo --synthetic nodes=x
	bad topo-svg 5 'sub3/t.svg' "$DISCO" topo --svg "$D/sub3/t.svg"
	bad monitor-none 11 "no monitor runs at $SOCK" "$DISCO" ps -s "$SOCK"
	bad monitor-none-site 11 'no-such-site.sock' "$DISCO" stop a --site no-such-site
	bad monitor-long 11 'cannot be reached' "$DISCO" ps -s "$D/$(printf 'y%.0s' $(seq 120))"
	QUICK=''
	kvm commands || return
	site s.cfg '{ name = "a"; template = "base"; }'
	up s.cfg || no commands-site "no start: $(cat up.out)"
	RUNS=yes
	for c in stop kill stat pause resume console wait; do
		AGAIN=yes bad "guest-unknown-$c" 2 'site bad has no guest "nobody"' "$DISCO" "$c" nobody -s "$SOCK"
	done
	bad guest-long-name 2 'site bad has no guest' "$DISCO" stop "$(printf '\303\244%.0s' $(seq 600))" -s "$SOCK"
	bad guest-no-text 2 'UTF-8' "$DISCO" stop $'\377' -s "$SOCK"
	bad balloon-too-much 2 "guest's memory" "$DISCO" balloon a 9M -s "$SOCK"
	bad move-nowhere 2 '1 vCPUs and 1 views' "$DISCO" move a 0 7 -s "$SOCK"
	bad console-virtio 2 'virtio console of guest a' "$DISCO" console a --virtio -s "$SOCK"
	bad monitor-second 10 "process $monitor" "$DISCO" up s.cfg
	AGAIN=yes bad monitor-second-detached 10 "process $monitor" "$DISCO" up -d s.cfg
	RUNS=''
	[ "$("$DISCO" ps -s "$SOCK" --json | jq -r '.guests[0].state')" = running ] || no commands-undisturbed "the guest does not run"
	kill -9 $monitor
	wait $monitor 2>/dev/null
	monitor=''
	RUNS=yes bad monitor-gone 11 'without a farewell' "$DISCO" ps -s "$SOCK"
	starts commands-then-good
}

[ $# -gt 0 ] || set -- syntax rules keys kernels initrd memory disks taps places users kvm commands
for part; do "part_$part"; done
echo "badinput: $passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ] || exit 1
[ -e /dev/kvm ] || { echo "badinput: no /dev/kvm: what needs it was left out"; exit 77; }
