#!/bin/bash
# SPDX-License-Identifier: MIT
#
# shell.sh: an interactive root shell in the lab; leaving it ends the emulated machine.
#
# Use:      lab/shell.sh [OPTION of run.sh...]
# Holds:    no time limit but a day; everything else as lab/run.sh says.
set -eu
cd "$(dirname "$0")/.."
echo "lab: an emulated NUMA machine. disco is /build/disco, kernels and disks are in /lab, 'exit' ends it." >&2
exec lab/run.sh --timeout 86400 --interactive "$@" -- 'cd /repo; exec bash --norc -i'
