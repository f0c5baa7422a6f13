# SPDX-License-Identifier: MIT
#
# lab.mk: the emulated NUMA machine's targets, for the Makefile at the root.
#
#   lab-deps    installs the Debian packages the lab needs
#   lab-build   makes kernels, initramfs and the Debian disk (lab/build.sh; cached in $(LAB))
#   lab         a shell in the lab; LAB_NODES, LAB_CPUS, LAB_MEM, LAB_THREAD give its shape
#   lab-test    runs tests/lab/*.sh; LAB_JOBS=2 runs two at a time, LAB_TESTS="t01 t03" only some

B ?= build
LAB ?= $(B)/lab
LAB_JOBS ?= 1
export B LAB

.PHONY: lab-deps lab-build lab lab-test

lab-deps:
	@tools/deps.sh lab

lab-build: lab-deps
	@lab/build.sh all

lab: lab-build
	@lab/shell.sh

lab-test: lab-build
	@LAB_JOBS=$(LAB_JOBS) tests/lab/run.sh $(LAB_TESTS)
