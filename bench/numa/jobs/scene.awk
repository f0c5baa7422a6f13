# SPDX-License-Identifier: MIT
#
# scene.awk: a hilly landscape of 2 n^2 triangles for the ray tracer (-v n=72).
function high(i, j, x, z) {
	x = i / n * 8 - 4
	z = j / n * 8 - 2
	return 0.4 * sin(3 * x) * cos(2 * z) + 0.15 * sin(11 * x + 5 * z)
}

function corner(k, i, j) {
	return sprintf("V%d %.3f %.3f %.3f", k, i / n * 8 - 4, high(i, j), j / n * 8 - 2)
}

function triangle(a, b, c, i, j) {
	print "TRI", a, b, c
	printf "TEXTURE AMBIENT 0.1 DIFFUSE 0.7 SPECULAR 0.2 OPACITY 1.0 COLOR %.1f 0.6 0.3 TEXFUNC 0\n", (i + j) % 10 / 10
}

BEGIN {
	if (!n)
		n = 72
	print "BEGIN_SCENE\nRESOLUTION 160 120\nCAMERA\n ZOOM 1.0\n ASPECTRATIO 1.0\n ANTIALIASING 0\n RAYDEPTH 3"
	print " CENTER 0.0 2.5 -4.5\n VIEWDIR 0 -0.45 1\n UPDIR 0 1 0\nEND_CAMERA"
	print "LIGHT CENTER -4.0 6.0 -5.0 RAD 0.2 COLOR 1 1 1\nBACKGROUND 0.2 0.3 0.5"
	for (i = 0; i < n; i++)
		for (j = 0; j < n; j++) {
			triangle(corner(0, i, j), corner(1, i + 1, j), corner(2, i + 1, j + 1), i, j)
			triangle(corner(0, i, j), corner(1, i + 1, j + 1), corner(2, i, j + 1), i, j)
		}
	print "END_SCENE"
}
