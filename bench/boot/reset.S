/* SPDX-License-Identifier: MIT */
/*
 * The guest of halt.S as firmware: 64 KiB that begin where a CPU begins, 16 bytes below 4 GiB.  So
 * QEMU runs the same first instructions without any firmware's share of the time.
 */
	.code16
	.text
	.globl _start
_start:
	mov $0x3f8, %dx
	mov $'!', %al
	out %al, %dx
	xor %ax, %ax
	out %al, $0xf4
1:	hlt
	jmp 1b
	.org 0xfff0
	jmp _start
	.org 0x10000
