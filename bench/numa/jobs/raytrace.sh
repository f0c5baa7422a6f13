# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2034,SC2154
# a scene of 10368 triangles (large: 41472), read by one CPU and then traced by all, picture by picture; the
# region begins with the tracing, and ends before the program tears its scene down
[ "$data" = large ] && data=large-scene.dat || data=scene.dat
prepare() {
	cp "$made/$data" "$made/atwork.so" /deb/tmp/
	in_root env LD_PRELOAD=/tmp/atwork.so tachyon -help
	in_memory 'usr/bin/tachyon*' 'usr/lib/x86_64-linux-gnu/*.so.*'
}
# The program does so itself.
begin() { :; }
end() { :; }
# Each picture from a place a little aside of the next one: view, up, centre.  The last ones are the same
# however many there are before.
cameras() {
	frame=1
	while [ $frame -lt $((warm + size)) ]; do
		printf '0 -0.45 1 0 1 0 0.%03d 2.5 -4.5\n' $((warm + size - frame))
		frame=$((frame + 1))
	done
	printf '0 -0.45 1 0 1 0 0 2.5 -4.5'
}
work() {
	cameras >/deb/tmp/cameras
	in_root env LD_PRELOAD=/tmp/atwork.so AT_WORK_CPU=$((cpus - 1)) AT_WORK_WARM="$warm" AT_WORK_REST="$rest" \
		AT_WORK_END=$((warm + size)) \
		tachyon "/tmp/$data" -numthreads "$cpus" -res 300 225 -format PPM -o /tmp/image.ppm -camfile /tmp/cameras
}
result() { cat /deb/tmp/image.ppm; }
