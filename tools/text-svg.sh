#!/bin/sh
# SPDX-License-Identifier: MIT
#
# text-svg.sh: draws text as a terminal would show it, as one self-contained SVG.
#
# Use:    tools/text-svg.sh [TITLE] <TEXT >PICTURE
#         tools/demo.sh draws its output so; docs/img/demo.svg is one of these.
# Gives:  lines that begin with a time in brackets have it in grey; the word ok is green; after an empty line the
#         next one is a heading.
# Holds:  plain ASCII and UTF-8 in; tabs and control characters are dropped; everything is escaped.
set -eu
LC_ALL=C.UTF-8
export LC_ALL

# The width of a character is said twice, to the box and to the text, so that any fixed-width font fits.
tr -d '\000-\010\013-\037' | awk -v title="${1:-}" '
	function escape(s) {
		gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); gsub(/>/, "\\&gt;", s)
		return s
	}
	# One piece of a line, at a column; blanks around it are left out, as not all viewers count them.
	function piece(s, column, row, class) {
		match(s, /^ */)
		column += RLENGTH
		s = substr(s, RLENGTH + 1)
		sub(/ +$/, "", s)
		if (s != "")
			printf "<text x=\"%.2f\" y=\"%d\" class=\"%s\" textLength=\"%.1f\" xml:space=\"preserve\">%s</text>\n",
				LEFT + column * CHAR, TOP + row * LINE, class, length(s) * CHAR, escape(s)
	}
	BEGIN { CHAR = 7.224; LINE = 18; LEFT = 20; TOP = 60 }
	{ gsub(/\t/, "  "); line[NR] = $0; if (length($0) > wide) wide = length($0) }
	END {
		width = LEFT * 2 + wide * CHAR
		height = TOP + NR * LINE + 4
		printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" ", width, height, width, height
		print "font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"12\">"
		print "<style>.t{fill:#d8dee9}.d{fill:#7f8ba0}.h{fill:#ffffff;font-weight:bold}.g{fill:#8fd18a;font-weight:bold}</style>"
		printf "<rect width=\"%d\" height=\"%d\" rx=\"10\" fill=\"#1f2430\"/>\n", width, height
		for (i = 0; i < 3; i++)
			printf "<circle cx=\"%d\" cy=\"20\" r=\"5\" fill=\"%s\"/>\n", 24 + 18 * i, i == 0 ? "#d9736b" : i == 1 ? "#d9b45b" : "#79b573"
		if (title != "")
			printf "<text x=\"%d\" y=\"24\" class=\"d\" text-anchor=\"middle\">%s</text>\n", width / 2, escape(title)
		for (r = 1; r <= NR; r++) {
			s = line[r]; at = 0; class = "t"
			if (r > 1 && line[r - 1] == "" && s != "")
				class = "h"
			if (match(s, /^\[ *[0-9.]+\]/)) {
				at = RLENGTH
				piece(substr(s, 1, at), 0, r - 1, "d")
				s = substr(s, at + 1)
			}
			while (class == "t" && match(s, / ok( |$)/)) {
				ok = RSTART
				piece(substr(s, 1, ok), at, r - 1, class)
				piece("ok", at + ok, r - 1, "g")
				at += ok + 2; s = substr(s, ok + 3)
			}
			piece(s, at, r - 1, class)
		}
		print "</svg>"
	}'
