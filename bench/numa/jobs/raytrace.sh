# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2034,SC2154
# a scene of 10368 triangles, read by one CPU and then traced by all; the region begins with the tracing
prepare() {
	cp "$made/scene.dat" "$made/atwork.so" /deb/tmp/
	in_root env LD_PRELOAD=/tmp/atwork.so tachyon -help
	in_memory 'usr/bin/tachyon*' 'usr/lib/x86_64-linux-gnu/*.so.*'
}
begin() { :; }
work() {
	in_root env LD_PRELOAD=/tmp/atwork.so AT_WORK_CPU=$((cpus - 1)) \
		tachyon /tmp/scene.dat -numthreads "$cpus" -res 300 225 -format PPM -o /tmp/image.ppm
}
result() { cat /deb/tmp/image.ppm; }
