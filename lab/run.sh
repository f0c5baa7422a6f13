#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh: boots the lab, an emulated NUMA machine with a working /dev/kvm, and runs one command in
# it as root.
#
# Use:      lab/run.sh [OPTION...] -- SCRIPT|COMMAND [ARGUMENT...]      (--help lists the options)
# Gives:    the command's output, live, and its exit status; 124 after --timeout, 125 when the
#           emulated machine died or could not start. A kernel's complaints (BUG, WARNING, stall
#           ...) are shown at the end.
# Inside:   /build (the build directory), /repo (this tree, the current directory), /lab (kernels,
#           initramfs, disk image; see build.sh), /in: read-only; /out: kept; /usr: this machine's
#           own, so its programs run there.
# Holds:    the emulator never outlives this script; several may run at the same time; nothing is
#           left in /tmp.
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"

nodes=${LAB_NODES:-4}
cpus=${LAB_CPUS:-2}
mem=${LAB_MEM:-1024}
thread=${LAB_THREAD:-single}
timeout=600
dist=20
dists=()
in=
out=
plugin=
memsys=
kernel=host
shmem=advise
interactive=no
quiet=no
append=
log=
extra=()
disks=()
command=()

# The emulated SVM does not intercept XSETBV, so KVM and a guest would disagree on the size of the
# FPU's state.  And `rep movsb` and `rep stosb` are emulated byte by byte: without ERMS, kernels and
# libc copy by words, four times as fast.
NO_XSAVE=xsave=off,avx=off,avx2=off,fma=off,f16c=off,mpx=off,pku=off,vaes=off
NO_ERMS=erms=off

# Set while it runs: this run's directory, its directory in /dev/shm, the emulator's process,
# QEMU's arguments.
run=
shm=
pid=
devices=()
machine=()
timed_out=no

usage() {
	cat <<'END'
usage: lab/run.sh [OPTION...] -- SCRIPT|COMMAND [ARGUMENT...]
  --nodes N               NUMA nodes (4; environment LAB_NODES)
  --cpus-per-node C       CPUs of each (2; LAB_CPUS)
  --mem MB                memory of each node in MiB (1024; LAB_MEM)
  --dist D                distance between different nodes (20)
  --dist-matrix "..."     all distances, row by row, commas or blanks between them
  --thread single|multi   emulate all CPUs in one thread (default, and better tried) or one each
                          (LAB_THREAD)
  --timeout S             end it after S seconds (600)
  --in DIR                that directory is /in, read-only
  --out DIR               that directory is /out, writable (default: one that goes away)
  --disk FILE             attach an image as /dev/vda, vdb ...; what is written to it is forgotten
  --kernel default|6.12   the emulated machine's kernel: the distribution's, or Linux 6.12
  --shmem MODE            transparent_hugepage/shmem_enabled: always, within_size, advise, never
                          (advise)
  --plugin SO,ARGS        load a TCG plugin; %R in ARGS is a directory of this run, in which the
                          files node0, node1 ... are the nodes' memories
  --memsys MACHINE[,KEY=VALUE...]
                          model that machine's memory (bench/memsys), with its distances; keys:
                          sample, quantum, slow, interval, trace=FILE, trace_most, checktlb
  --append WORDS          more words for the emulated machine's kernel command line
  --extra ARG             one more argument for QEMU (repeat it)
  --log FILE              keep the emulated machine's kernel log there
  --quiet                 say nothing but what the command says
  --interactive           the command gets this terminal
END
}

# Reads the options into the variables above; what is left is the command.
parse() {
	while [ $# -gt 0 ]; do
		case $1 in
		--quiet) quiet=yes && shift && continue ;;
		--interactive) interactive=yes && shift && continue ;;
		--help | -h) usage && exit 0 ;;
		--) shift && break ;;
		-*) [ $# -gt 1 ] || die 2 "$1: unknown, or its value is missing (lab/run.sh --help)" ;;
		*) break ;;
		esac
		case $1 in
		--nodes) nodes=$2 ;;
		--cpus-per-node) cpus=$2 ;;
		--mem) mem=$2 ;;
		--dist) dist=$2 ;;
		--dist-matrix) read -r -a dists <<<"${2//[,;]/ }" ;;
		--thread) thread=$2 ;;
		--timeout) timeout=$2 ;;
		--in) in=$(from_caller "$2") ;;
		--out) out=$(from_caller "$2") ;;
		--disk) disks+=("$(from_caller "$2")") ;;
		--kernel) kernel=host-$2 ;;
		--shmem) shmem=$2 ;;
		--plugin) plugin=$2 ;;
		--memsys) memsys=$2 ;;
		--append) append=$2 ;;
		--extra) extra+=("$2") ;;
		--log) log=$(from_caller "$2") ;;
		*) die 2 "unknown option $1 (lab/run.sh --help)" ;;
		esac
		shift 2
	done
	command=("$@")
}

# Refuses what cannot work, before anything is started.
check() {
	local number file
	[ ${#command[@]} -gt 0 ] || { usage >&2 && exit 2; }
	for number in "$nodes" "$cpus" "$mem" "$dist" "$timeout"; do
		[[ $number =~ ^[1-9][0-9]*$ ]] || die 2 "'$number' is no positive number"
	done
	[ "$kernel" != host-default ] || kernel=host
	[[ $kernel =~ ^host(-6\.12)?$ ]] || die 2 "--kernel is default or 6.12, not ${kernel#host-}"
	[[ $thread =~ ^(single|multi)$ ]] || die 2 "--thread is single or multi, not $thread"
	[ "${#dists[@]}" = 0 ] || [ "${#dists[@]}" = $((nodes * nodes)) ] ||
		die 2 "--dist-matrix has ${#dists[@]} numbers, $nodes nodes need $((nodes * nodes))"
	command -v qemu-system-x86_64 >/dev/null || die 125 "no qemu-system-x86_64: run tools/deps.sh lab"
	for file in host.cpio svmfix.so tsckhz guest-busybox.cpio.gz; do
		[ -s "$LAB/$file" ] || lab/build.sh base
	done
	[ -s "$LAB/$kernel.cpio" ] || lab/build.sh "${kernel#host-}"
}

# Whatever happens: the emulator ends, the run's files go.
# shellcheck disable=SC2317 # called by the trap
cleanup() {
	local status=$?
	trap - EXIT
	if [ -n "$pid" ] && kill -KILL "$pid" 2>/dev/null; then wait "$pid" 2>/dev/null || true; fi
	[ -z "$shm" ] || rm -rf "$shm"
	[ -z "$run" ] || rm -rf --one-file-system "$run"
	exit "$status"
}

# Removes what a run left that was killed with -9: its process is gone, its directory says where
# the rest is.
sweep() {
	local old
	for old in "${TMPDIR:-/tmp}"/disco-lab.*/pid; do
		if [ ! -r "$old" ] || kill -0 "$(cat "$old")" 2>/dev/null; then continue; fi
		[ ! -L "${old%/pid}/shm" ] || rm -rf "$(readlink "${old%/pid}/shm")"
		rm -rf --one-file-system "${old%/pid}"
	done
}

# share TAG DIR MOUNTPOINT ro|rw: hands a directory to the emulated machine.
share() {
	local dir readonly=on
	dir=$(cd "$2" && pwd -P) || die 2 "cannot share $2"
	[ "$4" = ro ] || readonly=off
	devices+=(-fsdev "local,id=$1,path=$(comma "$dir"),security_model=none,readonly=$readonly,\
multidevs=remap" -device "virtio-9p-pci,fsdev=$1,mount_tag=$1")
	[ "$1" = ctl ] || echo "share $1 $3 $4" >>"$run/ctl/mounts"
}

# show NAME DIR: shares DIR as /NAME, by a link when it lies in the tree already.
show() {
	local dir
	mkdir -p "$2"
	dir=$(cd "$2" && pwd -P)
	case $dir/ in
	"$REPO"/*) echo "link /repo/${dir#"$REPO"/} /$1" >>"$run/ctl/mounts" ;;
	*) share "$1" "$dir" "/$1" ro ;;
	esac
}

# All that is shared; init reads the list of it.
prepare_shares() {
	mkdir "$run/ctl" "$run/out"
	: >"$run/ctl/mounts"
	share ctl "$run/ctl" /ctl rw
	share usr /usr /host/usr ro
	share repo "$REPO" /repo ro
	show build "$B"
	show lab "$LAB"
	[ -z "$in" ] || share in "$in" /in ro
	out=${out:-$run/out}
	mkdir -p "$out"
	share out "$out" /out rw
	cp /etc/ld.so.cache "$run/ctl/" 2>/dev/null || true
	cp -a /etc/alternatives "$run/ctl/" 2>/dev/null || true
}

# What to run, for init: a script of the tree by its path there, another file by a copy, else a
# command.
prepare_command() {
	local path
	path=$(from_caller "${command[0]}")
	if [ -f "$path" ]; then
		path=$(cd "$(dirname "$path")" && pwd -P)/$(basename "$path")
		case $path in
		"$REPO"/*)
			command[0]=/repo/${path#"$REPO"/}
			[ -x "$path" ] || command=(bash "${command[@]}")
			;;
		*)
			cp "$path" "$run/ctl/script"
			chmod +x "$run/ctl/script"
			command[0]=/ctl/script
			;;
		esac
	elif [ ${#command[@]} = 1 ]; then
		echo "${command[0]}" >"$run/ctl/cmd"
		return
	fi
	printf 'exec' >"$run/ctl/cmd"
	printf ' %q' "${command[@]}" >>"$run/ctl/cmd"
	echo >>"$run/ctl/cmd"
}

# What init must know: the command's terminal and environment.
prepare_env() {
	local stty='stty raw -echo'
	if [ $interactive = yes ]; then
		stty="stty sane rows $(tput lines 2>/dev/null || echo 24) cols $(tput cols 2>/dev/null || echo 80)"
	fi
	cat >"$run/ctl/env" <<END
LAB_SHMEM=$shmem
LAB_KERNEL=$kernel
LAB_CWD=/repo
LAB_STTY='$stty'
LAB_SHELL='bash /ctl/cmd'
export LAB_NODES=$nodes LAB_CPUS=$cpus LAB_MEM=$mem TERM=${TERM:-linux}
END
}

# The memory-system model: its plugin, the distances of the machine it charges for, and the memory it
# shares with programs in the lab (LAB_REGION: its size, for trying one that is too small).
prepare_memsys() {
	local model=${memsys%%,*} keys=,${memsys#*,} tool=$B/bench/memsys/memsys size distances
	[ "$model" != "$memsys" ] || keys=
	[ "$thread" = single ] || die 2 "--memsys needs --thread single"
	if [ ! -x "$tool" ] || [ ! -e "$tool.so" ]; then make -s "B=$B" memsys-build >&2; fi
	if [ ${#dists[@]} = 0 ]; then
		distances=$("$tool" slit "$model" "$nodes") || exit 2
		read -r -a dists <<<"$distances"
	fi
	size=$("$tool" size "$((nodes * cpus))" "$nodes" "$mem") || exit 2
	size=${LAB_REGION:-$size}
	truncate -s "$size" "$shm/region"
	# A trace's file is meant from the caller's directory.
	if [[ $keys =~ ,trace=([^,]+) ]]; then
		keys=${keys/",trace=${BASH_REMATCH[1]}"/",trace=$(from_caller "${BASH_REMATCH[1]}")"}
	fi
	distances=${dists[*]}
	machine+=(-plugin "$tool.so,machine=$model,nodes=$nodes,cpus=$cpus,node_mb=$mem,\
dist=${distances// /:},mem=$shm/node,region=$shm/region$keys")
	devices+=(-object "memory-backend-file,id=region,size=$size,mem-path=$shm/region,share=on"
		-device ivshmem-plain,memdev=region)
}

# The machine: node i has CPUs i*C .. i*C+C-1 and a memory of its own; a plugin finds the nodes'
# memories by file.
# shellcheck disable=SC2054 # the commas are QEMU's
prepare_machine() {
	local i backend
	machine=(-M q35,usb=off,smbus=off,sata=off,vmport=off,hpet=off -accel "tcg,thread=$thread"
		-cpu "max,la57=off,$NO_XSAVE,$NO_ERMS" -m "$((nodes * mem))M"
		-smp "$((nodes * cpus)),sockets=$nodes,cores=$cpus,threads=1")
	# What lab/plugin/svmfix.c mends; LAB_SVMFIX=no leaves it out.
	if [ "${LAB_SVMFIX:-yes}" = yes ] && [ "$(head -c 4 "$LAB/svmfix.so" | tail -c 3)" = ELF ]; then
		machine+=(-plugin "$LAB/svmfix.so,log=$run/dropped,turn=${LAB_TURN:-1000}")
	fi
	if [ -n "$plugin$memsys" ]; then
		shm=$(mktemp -d /dev/shm/disco-lab.XXXXXX)
		ln -s "$shm" "$run/shm"
	fi
	[ -z "$plugin" ] || machine+=(-plugin "${plugin//%R/$shm}")
	[ -z "$memsys" ] || prepare_memsys
	for ((i = 0; i < nodes; i++)); do
		backend=memory-backend-ram,id=m$i,size=${mem}M
		[ -z "$shm" ] ||
			backend=memory-backend-file,id=m$i,size=${mem}M,mem-path=$shm/node$i,share=on
		machine+=(-object "$backend"
			-numa "node,nodeid=$i,cpus=$((i * cpus))-$((i * cpus + cpus - 1)),memdev=m$i")
	done
	for ((i = 0; i < nodes * nodes; i++)); do
		((i / nodes != i % nodes)) || continue
		machine+=(-numa "dist,src=$((i / nodes)),dst=$((i % nodes)),val=${dists[i]:-$dist}")
	done
	for ((i = 0; i < ${#disks[@]}; i++)); do
		devices+=(-drive "file=$(comma "${disks[i]}"),format=raw,if=none,id=d$i,snapshot=on"
			-device "virtio-blk-pci,drive=d$i")
	done
}

# Starts the emulator and waits for its end, or for the time to be over. It dies with this script,
# however that ends.
boot() {
	local input=/dev/null end=$((SECONDS + timeout)) khz
	# Measured in there, the counter's frequency would be wrong whenever this machine is busy.
	khz=$("$LAB/tsckhz")
	[ $interactive = no ] || input=/dev/stdin
	: >"$log"
	setpriv --pdeathsig KILL qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
		"${machine[@]}" -kernel "$LAB/$kernel-vmlinux" -initrd "$LAB/$kernel.cpio" \
		-append "console=ttyS0 loglevel=6 tsc=reliable no_timer_check reboot=t panic=-1 mitigations=off \
random.trust_cpu=on cryptomgr.notests audit=0 nokaslr rcupdate.rcu_expedited=1 8250.nr_uarts=1 \
tsc_early_khz=$khz $append" \
		-chardev "file,id=log,path=$(comma "$log")" -serial chardev:log \
		-chardev stdio,id=tty,signal=off -device virtio-serial-pci -device virtconsole,chardev=tty \
		-device isa-debug-exit,iobase=0xf4,iosize=1 "${devices[@]}" "${extra[@]}" <$input &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		if [ $SECONDS -ge $end ]; then
			timed_out=yes
			kill -KILL "$pid" 2>/dev/null || true
			break
		fi
		sleep 0.1
	done
	wait "$pid" 2>/dev/null || true
	pid=
}

# How it ended, said and as exit status.
report() {
	local complaints
	local pattern='BUG:|WARNING:|Oops|lockup|rcu.*stall|blocked for more|Kernel panic|^lab: '
	complaints=$(grep -a -E "$pattern" "$log" || true)
	if [ $quiet = no ] && [ -n "$complaints" ]; then
		say "the emulated machine's kernel said:"
		printf '%s\n' "$complaints" | head -n 10 >&2
	fi
	[ $timed_out = no ] || die 124 "ended after $timeout s"
	if [ ! -s "$run/ctl/status" ]; then
		tail -n 15 "$log" >&2
		die 125 "the emulated machine ended without a status; above: the end of its kernel's log"
	fi
	[ -z "${LAB_VERBOSE:-}" ] ||
		say "interrupts kept from being delivered twice: $(cat "$run/dropped" 2>/dev/null)"
	exit "$(cat "$run/ctl/status")"
}

main() {
	parse "$@"
	check
	sweep
	run=$(mktemp -d "${TMPDIR:-/tmp}/disco-lab.XXXXXX")
	echo $$ >"$run/pid"
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	log=${log:-$run/kernel.log}
	prepare_shares
	prepare_command
	prepare_env
	prepare_machine
	boot
	report
}

main "$@"
