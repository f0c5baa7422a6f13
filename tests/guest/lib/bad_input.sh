# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# bad_input.sh: what test_bad_input.sh judges mistakes by, and what it makes them with; read by it.
#
# Needs:  DISCO, KERNEL, D (the directory it is in), SOCK, SLOW; counts in passed, failed, skipped; messages maps each to the
#         mistake that had it; monitor is the process of up.
# shellcheck disable=SC2004,SC2015,SC2154 # "a && b || c" is meant for both; the names above are the caller's

ok() {
	passed=$((passed + 1))
	echo "ok   $1"
	[ -z "${VERBOSE:-}" ] || sed 's/^/       /' err
}
no() {
	failed=$((failed + 1))
	echo "FAIL $1: ${*:2}"
}
skip() {
	skipped=$((skipped + 1))
	echo "skip $1: ${*:2}"
}

# ours: processes this test started and left, /proc/PID each.
ours() {
	grep -lsz "^DISCO_TEST=$D\$" /proc/[0-9]*/environ | sed 's,/environ$,,' | while read -r p; do
		[ "$(readlink "$p/exe")" != "$DISCO" ] && [ "$(readlink "$p/exe")" != "$D/disco" ] || echo "$p"
	done
}

# left: what a failed start left behind, in rest; nothing. "quick": without looking for processes.
left() {
	local p
	rest=''
	for p in "$SOCK" "$SOCK.lock" run con core* /sys/class/net/dbad[1-9]*; do
		[ ! -e "$p" ] || rest+=" $p"
	done
	[ "${1:-}" = quick ] && return
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		p=$(ours)
		[ -n "$p" ] || return 0
		sleep 0.05
	done
	rest+=" processes $p"
}

# judge NAME STATUS NEEDLE GOT: the status, and the one line in err. Messages are to be distinct: names of files and
# lines, which differ anyhow, do not count.
judge() {
	local line plain lines
	mapfile -t lines <err
	line=${lines[0]:-}
	[ "$4" = "$2" ] || { no "$1" "status $4 instead of $2: ${lines[*]:0:3}"; return 1; }
	[ ${#lines[@]} = 1 ] || { no "$1" "${#lines[@]} lines instead of one: ${lines[*]:0:4}"; return 1; }
	[[ $line = "disco: "* ]] || { no "$1" "not by disco: $line"; return 1; }
	[[ $line = *"$3"* ]] || { no "$1" "no '$3' in: $line"; return 1; }
	[[ $line != *[[:cntrl:]]* ]] || { no "$1" "control characters: $line"; return 1; }
	[ ${#line} -gt 24 ] || { no "$1" "says too little: $line"; return 1; }
	plain=${line#disco: }
	[[ ! $plain =~ ^[^\ ]*\.cfg:[0-9]+:\ (.*)$ ]] || plain=${BASH_REMATCH[1]}
	while [[ $plain =~ ^(.*)"$D"[^\ :\;]*(.*)$ ]]; do plain="${BASH_REMATCH[1]}FILE${BASH_REMATCH[2]}"; done
	if [ -z "${AGAIN:-}" ] && [ -n "${messages[$plain]:-}" ]; then
		no "$1" "${messages[$plain]} has this message too: $line"
		return 1
	fi
	messages[$plain]=$1
}

# bad NAME STATUS NEEDLE COMMAND...: the command fails so, says so, and leaves nothing. RUNS=yes: a site runs, do not look
# for what is left; AGAIN=yes: a mistake that was made before in another way, its message may be the same.
bad() {
	local name=$1 want=$2 needle=$3 got rest
	shift 3
	timeout $((20 * SLOW)) "$@" >out 2>err </dev/null
	got=$?
	judge "$name" "$want" "$needle" $got || return 1
	[ -z "${RUNS:-}" ] || { ok "$name"; return 0; }
	left ${QUICK:+quick}
	[ -z "$rest" ] || { no "$name" "left behind: $rest"; return 1; }
	ok "$name"
}

# site FILE GUESTS [TOP]: a site of tenants.
site() {
	cat >"$1" <<-END
		name = "bad";
		socket = "$SOCK";
		rundir = "$D/run";
		templates = { base = { vcpus = 1; memory = "8M"; kernel = "$KERNEL"; boot = "multiboot"; ready = "tenant up"; }; };
		${3:-}
		guests = ( $2 );
	END
}

# third KEYS: a site of three, of which only the last is wrong, by KEYS; b.cfg.
third() {
	site b.cfg "{ name = \"one\"; template = \"base\"; }, { name = \"two\"; template = \"base\"; vcpus = 2; },
		{ name = \"last\"; template = \"base\"; $1 }"
}

# bad3 NAME STATUS NEEDLE KEYS: such a site does not start, not by halves, and does not stand in the way of the next.
bad3() {
	third "$4"
	bad "$1" "$2" "$3" "$DISCO" up b.cfg
}

# up FILE: starts a monitor in the background, until its guests are ready.
up() {
	"$DISCO" up "$1" >up.out 2>&1 &
	monitor=$!
	for _ in $(seq $((200 * SLOW))); do
		kill -0 $monitor 2>/dev/null || return 1
		[ "$("$DISCO" ps -s "$SOCK" --json 2>/dev/null | jq '[.guests[] | select(.ready_ms == null)] | length')" = 0 ] && return 0
		sleep 0.05
	done
	return 1
}
down() {
	timeout $((20 * SLOW)) "$DISCO" down --now -s "$SOCK" >/dev/null 2>&1
	wait "$monitor"
	monitor=''
	rm -rf run # what the consoles said stays, for people
}

# starts NAME: a good site of three starts where bad ones failed.
starts() {
	local rest
	third ''
	if up b.cfg && down && left && [ -z "$rest" ]; then
		ok "$1"
	else
		no "$1" "a good site does not start or end: $(tail -n 3 up.out) ${rest:-}"
	fi
}

kvm() {
	[ -r /dev/kvm ] && [ -w /dev/kvm ] || { skip "$1" "no /dev/kvm"; return 1; }
}

# Before a command: as a user who may nothing.
NOBODY=(setpriv --reuid=65534 --regid=65534 --clear-groups)
can_be_nobody() {
	[ "$(id -u)" = 0 ] && "${NOBODY[@]}" true 2>/dev/null
}
can_unshare() {
	unshare -m sh -c 'mount -t tmpfs none /mnt' 2>/dev/null
}

# le N BYTES: a number as printf's escapes, little endian.
le() {
	local i n=$1
	for ((i = 0; i < $2; i++)); do
		printf '\\x%02x' $((n & 255))
		n=$((n >> 8))
	done
}

# poke FILE OFFSET ESCAPES: overwrites bytes.
poke() {
	printf '%b' "$3" | dd of="$1" bs=1 seek=$(($2)) conv=notrunc 2>/dev/null
}

# bzimage FILE: a header by which a boot loader takes a file for a kernel of 64 KiB; there is no Linux in it.
bzimage() {
	rm -f "$1"
	truncate -s $((1024 + 65536)) "$1"
	poke "$1" 0x1f1 "$(le 1 1)"            # setup_sects
	poke "$1" 0x1f4 "$(le 4096 4)"         # syssize, in 16 bytes
	poke "$1" 0x1fe '\x55\xaa\xeb\x66HdrS' # boot_flag, jump over the header, its magic
	poke "$1" 0x206 "$(le 0x20f 2)"        # version
	poke "$1" 0x211 "$(le 1 1)"            # loadflags: LOADED_HIGH
	poke "$1" 0x22c "$(le 0x7fffffff 4)"   # initrd_addr_max
	poke "$1" 0x230 "$(le 0x200000 4)"     # kernel_alignment
	poke "$1" 0x234 '\x01\x15'             # relocatable, min_alignment
	poke "$1" 0x236 "$(le 1 2)"            # xloadflags: XLF_KERNEL_64
	poke "$1" 0x238 "$(le 2047 4)"         # cmdline_size
	poke "$1" 0x258 "$(le 0x1000000 8)"    # pref_address
	poke "$1" 0x260 "$(le 0x100000 4)"     # init_size
}
