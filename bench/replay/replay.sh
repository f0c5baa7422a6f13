#!/bin/bash
# SPDX-License-Identifier: MIT
#
# replay.sh: measures the placement policies by replay.
#
# Use:    make bench-replay, or B=build bench/replay/replay.sh RESULTS
# Gives:  RESULTS/replay.json, replay.md and replay.svg; about three minutes of one CPU.
# Holds:  needs no KVM, no root and no network; changes nothing else.
set -eu
cd "$(dirname "$0")/../.."
commit=$(git rev-parse --short HEAD 2>/dev/null || true)
exec "${B:-build}/bench/replay/sweep" "${1:-docs/results}" "$commit"
