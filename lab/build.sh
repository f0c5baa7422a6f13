#!/bin/bash
# SPDX-License-Identifier: MIT
#
# build.sh: makes what the lab is built of, from Debian packages: kernels, initramfs, the guests'
# userlands.
#
# Use:      lab/build.sh [base|image|all|bench|6.12]   base: kernels and initramfs; image, all (default):
#           the Debian disk as well; bench: the benchmarks' disk; 6.12: another kernel for the emulated
#           machine (lab/run.sh --kernel 6.12)
# Gives:    in $LAB (default $B/lab, B default build):
#             host-vmlinux, host.cpio, host/      the emulated machine's kernel (unmodified),
#                                                 initramfs, modules
#             guest-vmlinuz, guest-vmlinux, guest/   the guests' kernel: bzImage, ELF, modules
#             host-6.12-vmlinux, host-6.12.cpio, host-6.12/   the same of Linux 6.12
#             svmfix.so, tsckhz                   a plugin that mends a fault of the emulator;
#                                                 measures the time stamp counter
#             guest-busybox.cpio.gz               the small guest: lab/guest/init and its jobs
#             debian.ext4, debian.list            a real Debian root disk; its packages, versions
#             bench.ext4, bench.list              programs that the benchmarks of bench/numa run
# Holds:    nothing is installed on the machine; what is there and newer than its sources is kept;
#           one at a time (a lock), and a file appears only when it is complete.
# shellcheck disable=SC2086,SC2016 # lists of names are meant to split; formats are apt's and awk's
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"

# Modules in the emulated machine's initramfs, what they need included: consoles and shares first,
# then KVM.
HOST_MODULES='virtio_pci virtio_console 9pnet_virtio 9p virtio_blk kvm_amd'
# Drivers of the small guest, loaded when there is such a device; built-in ones are passed over.
GUEST_DRIVERS='virtio_pci virtio_mmio virtio_blk virtio_net virtio_console virtio_rng
               virtio_balloon virtiofs ext4 overlay af_packet'
# Parts of the kernel packages that no lab needs; they are three quarters of their size.
UNUSED='drivers/gpu drivers/media drivers/infiniband drivers/isdn drivers/scsi drivers/staging
        drivers/usb drivers/iio drivers/hwmon drivers/mtd drivers/platform drivers/ata
        drivers/bluetooth drivers/mmc drivers/net/ethernet drivers/net/wireless drivers/net/usb
        drivers/net/can drivers/input/joystick drivers/input/keyboard drivers/input/misc
        drivers/input/mouse drivers/input/rmi4 drivers/input/serio drivers/input/tablet
        drivers/input/touchscreen sound
        fs/ocfs2 fs/gfs2 fs/ceph fs/cifs net/bluetooth net/wireless net/mac80211 net/can'
# The real userland: a compiler and make, tools for disks and networks, a system manager, a login.
IMAGE_PACKAGES='systemd-sysv udev dbus login gcc libc6-dev make fio iproute2 iputils-ping
                netcat-openbsd wget kmod procps busybox-static stress-ng'
# What the benchmarks run: a compiler, a ray tracer, a logic simulator, a database.
BENCH_PACKAGES='gcc libc6-dev make tachyon-bin-nox iverilog sqlite3'
# The package whose source the guests compile.
DEMO_SOURCE=bzip2

tmp=
cleanup() {
	[ -z "$tmp" ] || rm -rf --one-file-system "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# apt_get ARGS...: apt-get that refreshes its lists once when they do not know or no longer have
# what is asked for.
apt_get() {
	local opts=(-q -o APT::Sandbox::User=root)
	apt-get "${opts[@]}" "$@" >"$tmp/apt.log" 2>&1 && return
	if [ "$(id -u)" = 0 ]; then
		say "refreshing the package lists"
		apt-get "${opts[@]}" update >>"$tmp/apt.log" 2>&1 || true
		apt-get "${opts[@]}" "$@" >"$tmp/apt.log" 2>&1 && return
	fi
	tail -n 5 "$tmp/apt.log" >&2
	die 1 "apt-get $* failed"
}

# kernel_packages NAME...: the packages that hold the kernel behind the first of these names that
# the archive knows.
kernel_packages() {
	local name found
	for name; do
		found=$(apt-cache depends "$name" 2>/dev/null |
			awk '$1 == "Depends:" && $2 ~ /^linux-(image|modules)-[0-9]/ { print $2 }')
		if [ -n "$found" ]; then
			# Ubuntu keeps modules apart.
			apt-cache depends "${found%%$'\n'*}" 2>/dev/null |
				awk '$1 == "Depends:" && $2 ~ /^linux-modules-[0-9]/ { print $2 }'
			echo "$found"
			return
		fi
	done
}

# extract_vmlinux BZIMAGE ELF: takes the ELF file out of a bzImage (boot protocol 2.08:
# payload_offset and _length).
extract_vmlinux() {
	local sects offset length start
	sects=$(od -An -tu1 -j $((0x1f1)) -N1 "$1")
	read -r offset length < <(od -An -tu4 -j $((0x248)) -N8 "$1")
	start=$(((sects + 1) * 512 + offset))
	# The last four bytes are the size of the contents, not part of the compressed stream.
	tail -c +$((start + 1)) "$1" | head -c $((length - 4)) >"$tmp/payload" || true
	case $(od -An -tx1 -N4 "$tmp/payload" | tr -d ' ') in
	fd377a58) xz -dc "$tmp/payload" ;;
	28b52ffd) zstd -qdc "$tmp/payload" ;;
	02214c18) lz4 -qdc "$tmp/payload" ;;
	1f8b*) gzip -dc "$tmp/payload" ;;
	7f454c46) cat "$tmp/payload" ;;
	*) die 1 "$1: a kernel compressed in a way that is not known here" ;;
	esac >"$2"
	[ "$(head -c 4 "$2" | tail -c 3)" = ELF ] || die 1 "$1: no ELF file inside"
}

# kernel WHO NAME...: fetches and unpacks a kernel into $LAB/WHO, and makes WHO-vmlinuz and
# WHO-vmlinux.
kernel() {
	local who=$1 packages package ver dir=$tmp/$1 part
	shift
	[ -s "$LAB/$who-vmlinux" ] && return
	packages=$(kernel_packages "$@")
	if [ -z "$packages" ] && [ "$(id -u)" = 0 ]; then
		say "refreshing the package lists"
		apt-get -q update >/dev/null 2>&1 || true
		packages=$(kernel_packages "$@")
	fi
	[ -n "$packages" ] || die 1 "the archive has none of these kernels: $*"
	say "$who kernel:" $packages
	mkdir -p "$dir/deb" "$dir/root"
	(cd "$dir/deb" && apt_get download $packages)
	for package in "$dir"/deb/*.deb; do dpkg-deb -x "$package" "$dir/root"; done
	[ -e "$dir/root/lib" ] || ln -s usr/lib "$dir/root/lib"
	ver=$(basename "$dir"/root/lib/modules/*)
	for part in $UNUSED; do rm -rf "$dir/root/lib/modules/$ver/kernel/$part"; done
	depmod -b "$dir/root" "$ver"
	rm -rf "${LAB:?}/$who"
	mkdir -p "$LAB/$who/lib"
	mv "$dir/root/lib/modules" "$LAB/$who/lib/modules"
	cp "$dir/root/boot/config-$ver" "$LAB/$who/config" 2>/dev/null || true
	echo "$ver" >"$LAB/$who/version"
	cp "$dir"/root/boot/vmlinuz-* "$LAB/$who-vmlinuz"
	extract_vmlinux "$LAB/$who-vmlinuz" "$dir/vmlinux"
	mv "$dir/vmlinux" "$LAB/$who-vmlinux"
	rm -rf "$dir"
}

# module_files WHO NAME: the files of a module, those it needs first; nothing for a built-in one.
module_files() {
	modprobe -d "$REPO_LAB/$1" -S "$(cat "$LAB/$1/version")" --show-depends "$2" 2>/dev/null |
		awk '$1 == "insmod" { print $2 }'
}

# copy_module FILE DIR: copies a module there, uncompressed, and prints its name without the
# compression's suffix.
copy_module() {
	local name
	name=$(basename "$1")
	case $name in
	*.xz) name=${name%.xz} && xz -dc "$1" >"$2/$name" ;;
	*.zst) name=${name%.zst} && zstd -qdc "$1" >"$2/$name" ;;
	*) cp "$1" "$2/$name" ;;
	esac
	echo "$name"
}

# stale FILE SOURCE...: true when FILE is missing or older than something in one of the sources.
stale() {
	local file=$1
	shift
	[ ! -s "$file" ] || [ -n "$(find "$@" -newer "$file" -print -quit)" ]
}

# pack DIR FILE: a cpio of all in DIR, owned by root, as the kernel reads it.
pack() {
	(cd "$1" && find . -print0 | sort -z | cpio --null --quiet -o -H newc -R 0:0) >"$2"
}

# host_initramfs WHO: the emulated machine's initramfs, for the kernel WHO. Not compressed: the emulated
# CPU would have to undo it.
host_initramfs() {
	local who=$1 dir=$tmp/$1-fs name file
	stale "$LAB/$who.cpio" lab/host lab/build.sh "$LAB/$who-vmlinux" || return 0
	say "$who initramfs"
	mkdir -p "$dir"/{boot/bin,boot/modules,etc,root,proc,sys,dev,tmp,run,var,ctl,host,mnt,opt,home}
	ln -s /run "$dir/var/run"
	ln -s /tmp "$dir/var/tmp"
	mkdir "$dir"/var/{lib,log,cache}
	cp "$(command -v busybox)" "$dir/boot/bin/busybox"
	for name in $HOST_MODULES; do module_files "$who" "$name"; done | awk '!seen[$0]++' >"$tmp/files"
	while read -r file; do copy_module "$file" "$dir/boot/modules"; done \
		<"$tmp/files" >"$dir/boot/modules/order"
	[ -s "$dir/boot/modules/order" ] || die 1 "the $who kernel has none of: $HOST_MODULES"
	cp lab/host/init "$dir/init"
	cp lab/host/etc/* "$dir/etc/"
	pack "$dir" "$tmp/$who.cpio"
	mv "$tmp/$who.cpio" "$LAB/$who.cpio"
}

# The small guest: busybox, drivers, jobs, and the tools in lab/guest/tools, compiled statically.
guest_initramfs() {
	local dir=$tmp/guestfs name file files tool
	stale "$LAB/guest-busybox.cpio.gz" lab/guest lab/build.sh "$LAB/guest-vmlinux" || return 0
	say "guest initramfs"
	mkdir -p "$dir"/{bin,sbin,usr/bin,usr/sbin,etc,root,proc,sys,dev,tmp,run,lib/modules,jobs,mnt}
	cp "$(command -v busybox)" "$dir/bin/busybox"
	for name in $GUEST_DRIVERS; do
		files=
		while read -r file; do
			files+=" $(copy_module "$file" "$dir/lib/modules")"
		done < <(module_files guest "$name")
		[ -z "$files" ] || echo "$name$files"
	done >"$dir/lib/drivers"
	cp lab/guest/init "$dir/init"
	cp lab/guest/udhcpc.sh "$dir/lib/udhcpc.sh"
	cp lab/guest/jobs/*.sh "$dir/jobs/"
	for tool in lab/guest/tools/*.c; do
		[ -e "$tool" ] || continue
		gcc -O2 -Wall -Werror -static -pthread -o "$dir/bin/$(basename "$tool" .c)" "$tool"
	done
	echo 'root::0:0:root:/root:/bin/sh' >"$dir/etc/passwd"
	echo 'root:x:0:' >"$dir/etc/group"
	pack "$dir" "$tmp/guest.cpio"
	gzip -9n <"$tmp/guest.cpio" >"$tmp/guest.cpio.gz"
	mv "$tmp/guest.cpio.gz" "$LAB/guest-busybox.cpio.gz"
}

# What the emulator is started with: a plugin that mends it (lab/plugin/svmfix.c says what), left out
# when this QEMU does not take it, and a program that measures the time stamp counter.
emulator_tools() {
	local api=1 flags='-std=gnu11 -O2 -Wall -Wextra -Werror'
	stale "$LAB/svmfix.so" lab/plugin lab/build.sh || return 0
	gcc $flags -o "$tmp/tsckhz" lab/plugin/tsckhz.c
	! qemu-system-x86_64 --version | grep -Eq 'version (9|[1-9][0-9])\.' || api=2
	gcc $flags -fPIC -shared -fvisibility=hidden -DPLUGIN_API=$api -o "$tmp/svmfix.so" \
		lab/plugin/svmfix.c -ldl
	if ! echo quit | qemu-system-x86_64 -M none -accel tcg -display none -monitor stdio \
		-plugin "$tmp/svmfix.so" >"$tmp/probe.log" 2>&1; then
		say "this QEMU does not load svmfix.so; guests in the lab may hang"
		echo none >"$tmp/svmfix.so"
	fi
	mv "$tmp/tsckhz" "$LAB/tsckhz"
	mv "$tmp/svmfix.so" "$LAB/svmfix.so"
}

# sources TYPE: the distribution's own package sources of this machine as one-line entries of that
# type.
sources() {
	local key=
	# shellcheck source=/dev/null
	. /etc/os-release
	key=/usr/share/keyrings/$ID-archive-keyring.gpg
	[ -r "$key" ] || key=
	apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' |
		awk -v type="$1" -v id="$ID" -v key="$key" 'tolower($1) == id && !seen[$0]++ {
			print type, (key == "" ? "" : "[signed-by=" key "] ") $2, $3, $4 }'
}

# demo_source DIR: unpacks the source package that the guests compile into DIR, with the
# distribution's patches.
demo_source() {
	local state=$tmp/src
	say "source of $DEMO_SOURCE"
	mkdir -p "$state"/{lists/partial,cache/archives/partial,out}
	sources deb-src >"$state/sources.list"
	local opts=(-q -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=/dev/null
		-o Dir::State::lists="$state/lists" -o Dir::Cache="$state/cache" -o APT::Sandbox::User=root)
	(cd "$state/out" && apt-get "${opts[@]}" update && apt-get "${opts[@]}" source "$DEMO_SOURCE") \
		>"$tmp/apt.log" 2>&1 || {
		tail -n 5 "$tmp/apt.log" >&2
		die 1 "cannot get the source of $DEMO_SOURCE"
	}
	mkdir -p "$1"
	cp -r "$state"/out/*/. "$1/"
}

# fill_bench ROOT: what the benchmarks need beside the packages.
fill_bench() {
	cp -r "$tmp/demo" "$1/usr/src/demo"
	chown -R 0:0 "$1/usr/src/demo"
	rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/*
	mkdir "$1/usr/src/numa"
	cp bench/numa/jobs/* bench/numa/disk.sh bench/memsys/roi.h "$1/usr/src/numa/"
	# There are no devices in there, and compilers look for this one.
	: >"$1/dev/null"
	chroot "$1" /bin/sh /usr/src/numa/disk.sh >&2
	rm "$1/dev/null"
}

# fill_debian ROOT: what makes the unpacked packages a guest of ours.
fill_debian() {
	local root=$1 unit
	mkdir -p "$root/lib/modules" "$root/etc/systemd/system"
	cp -r "$LAB/guest/lib/modules/." "$root/lib/modules/"
	cp -r lab/guest/debian/. "$root/"
	cp -r "$tmp/demo" "$root/usr/src/demo"
	chown -R 0:0 "$root/usr/src/demo" "$root/lib/modules" "$root/etc"
	chown 0:42 "$root/etc/shadow" "$root/etc/gshadow"
	sed -i 's/^root:[^:]*:/root::/' "$root/etc/shadow"
	: >"$root/etc/machine-id"
	rm -f "$root/etc/resolv.conf"
	echo 'nameserver 10.0.2.3' >"$root/etc/resolv.conf"
	# What only costs time in a guest of this kind.
	for unit in systemd-networkd-wait-online.service systemd-timesyncd.service apt-daily.timer \
		apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_reap.service e2scrub_all.timer \
		fstrim.timer 		systemd-pstore.service systemd-firstboot.service systemd-binfmt.service; do
		ln -sf /dev/null "$root/etc/systemd/system/$unit"
	done
	mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
	ln -sf /lib/systemd/system/systemd-networkd.service \
		"$root/etc/systemd/system/multi-user.target.wants/"
}

# make_ext4 ROOT FILE: an ext4 file system with what is in ROOT and a third more room, made without
# mounting.
make_ext4() {
	local mb
	mb=$(du -sm --apparent-size "$1" | cut -f 1)
	mb=$((mb + mb / 3 + 192))
	truncate -s "${mb}M" "$2"
	mke2fs -q -t ext4 -L debian -m 1 -E lazy_itable_init=0,lazy_journal_init=0 -d "$1" "$2"
}

# disk NAME PACKAGES: makes NAME.ext4 of these packages and what fill_NAME adds, and NAME.list. Without
# root everything below happens in a user namespace of ours.
disk() {
	local suite name=$1 packages=$2 root=$tmp/root inside=
	suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
	if [ "$(id -u)" != 0 ] && [ "${LAB_INSIDE:-}" != yes ]; then
		inside='unshare --map-root-user --map-auto --'
	fi
	[ -d "$tmp/demo" ] || demo_source "$tmp/demo"
	say "userland: $suite with" $packages "(a minute or two)"
	sources deb >"$tmp/sources.list"
	mmdebstrap --quiet --variant=minbase --include="$(echo $packages | tr ' ' ',')" \
		--aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		"$suite" "$tmp/disk.tar" "$tmp/sources.list" >"$tmp/mmdebstrap.log" 2>&1 || {
		tail -n 20 "$tmp/mmdebstrap.log" >&2
		die 1 "mmdebstrap failed"
	}
	say "disk $name.ext4"
	export LAB B tmp
	$inside bash -euo pipefail -c "$(declare -f fill_debian fill_bench make_ext4 say)
		mkdir '$root'
		tar -x --numeric-owner -C '$root' --exclude='./dev/*' -f '$tmp/disk.tar'
		rm '$tmp/disk.tar'
		fill_$name '$root'
		awk '/^Package: /{p=\$2} /^Version: /{print p, \$2}' '$root/var/lib/dpkg/status' \
			>'$tmp/$name.list'
		make_ext4 '$root' '$tmp/$name.ext4'
		rm -rf --one-file-system '$root'"
	mv "$tmp/$name.list" "$LAB/$name.list"
	mv "$tmp/$name.ext4" "$LAB/$name.ext4"
}

# The Debian disk.
debian_image() {
	stale "$LAB/debian.ext4" lab/guest/debian "$LAB/guest-vmlinux" || return 0
	disk debian "$IMAGE_PACKAGES"
}

# The benchmarks' disk: made once, or when its packages or what the workloads work on are others.
bench_image() {
	local of
	of=$(echo "$BENCH_PACKAGES" && cat bench/numa/disk.sh bench/numa/jobs/*.{awk,c,v})
	[ ! -s "$LAB/bench.ext4" ] || [ "$(cat "$LAB/bench.of" 2>/dev/null)" != "$of" ] || return 0
	disk bench "$BENCH_PACKAGES"
	echo "$of" >"$LAB/bench.of"
}

what=${1:-all}
case $what in
base | image | all | bench | 6.12) ;;
*) die 2 "usage: lab/build.sh [base|image|all|bench|6.12]" ;;
esac
mkdir -p "$LAB"
REPO_LAB=$(cd "$LAB" && pwd -P)
exec 9>"$LAB/.lock"
flock -n 9 || { say "waiting for another build of the lab" && flock 9; }
tmp=$(mktemp -d "$REPO_LAB/.tmp.XXXXXX")
chmod 755 "$tmp"
kernel host linux-image-amd64 linux-image-generic
kernel guest linux-image-cloud-amd64 linux-image-kvm linux-image-virtual
host_initramfs host
guest_initramfs
emulator_tools
case $what in
6.12)
	kernel host-6.12 linux-image-6.12-amd64
	host_initramfs host-6.12
	;;
image | all) debian_image ;;
bench) bench_image ;;
esac
