/* SPDX-License-Identifier: MIT */
/*
 * A guest that ends at once: a multiboot 1 kernel whose first instructions write '!' to COM1, then
 * 0 to the debug exit at port 0xf4 (exit status 1).
 */
	.section .multiboot, "a"
	.align 4
	.long 0x1badb002, 0, -0x1badb002
	.text
	.globl _start
_start:
	mov $0x3f8, %dx
	mov $'!', %al
	out %al, %dx
	xor %eax, %eax
	out %al, $0xf4
1:	hlt
	jmp 1b
