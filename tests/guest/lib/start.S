/* SPDX-License-Identifier: MIT */
/*
 * Entry points of a test kernel (multiboot and PVH), interrupt entries, and the way of an
 * application processor from real mode to ap_entry().
 * Interface: guest.h.  32-bit flat protected mode without paging; selectors 0x10 code, 0x18 data.
 * A CPU's stack is its entry of `stacks`, chosen by its APIC id.
 */
#define STACK  16384
#define MAGIC  0x1badb002
#define FLAGS  3
#define AP_PAGE 0x30000

.section .multiboot, "a"
.long MAGIC, FLAGS, -(MAGIC + FLAGS)

.section .note.pvh, "a", @note
.long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
.asciz "Xen"
.long start_pvh

.text
.code32
.globl start_multiboot
start_multiboot:
    mov $stacks + STACK, %esp
    push %ebx
    push %eax
    jmp 1f
start_pvh:
    mov $stacks + STACK, %esp
    push %ebx
    push $0
1:  lgdt gdt_ptr
    ljmp $0x10, $2f
2:  mov $0x18, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    call guest_main
3:  cli
    hlt
    jmp 3b

/* ---- interrupts: one entry of 16 bytes each, all lead to on_interrupt(frame) ---- */

.balign 16
.globl vectors
vectors:
.set v, 0
.rept 256
    .balign 16
    .if !(v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21)
    pushl $0
    .endif
    pushl $v
    jmp common
    .set v, v + 1
.endr

common:
    pusha
    cld
    push %esp
    call on_interrupt
    add $4, %esp
    popa
    add $8, %esp
    cmpb $0, no_iret
    jne 5f
    iret
5:  pushl 8(%esp) /* the flags, then eip and cs: the same, but for NMIs, which stay blocked */
    popf
    lret $4

/* ---- application processors: copied to AP_PAGE, started there in real mode ---- */

.code16
.globl ap_start, ap_end
ap_start:
    cli
    mov %cs, %ax
    mov %ax, %ds
    lgdtl gdt_ptr_low - ap_start
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $0x10, $(AP_PAGE + (ap32 - ap_start))
.code32
ap32:
    mov $0x18, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $1, %eax
    cpuid
    shr $24, %ebx
    mov %ebx, %eax
    inc %eax
    imul $STACK, %eax, %eax
    lea stacks(%eax), %esp
    push %ebx
    mov $ap_entry, %eax
    call *%eax
4:  cli
    hlt
    jmp 4b
.balign 8
gdt_ptr_low:
    .word gdt_end - gdt - 1
    .long gdt
ap_end:

.data
.balign 8
gdt:
    .quad 0, 0
    .quad 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_end:
gdt_ptr:
    .word gdt_end - gdt - 1
    .long gdt

.bss
.balign 16
.globl stacks
stacks:
    .skip STACK * 16
