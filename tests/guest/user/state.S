/* SPDX-License-Identifier: MIT */
/*
 * Entry of the user-mode programs, and PROG_STATE: puts values of its own slot into every
 * register a move between views must carry, and compares them for ever.  Values come from the
 * slot's address, so two vCPUs that got each other's registers would see it.
 *
 * rbx slot, rsp its stack, rax and rcx scratch; rdx rsi rdi rbp r8-r15 = slot ^ a constant each;
 * vector registers 0-14 = slot->vector (16-31 too and k1-k7 with AVX-512), 15 scratch; x87 stack
 * and control word, MXCSR, RFLAGS, FS and GS base.  slot->error gets the number of what differed.
 */
#include "user.h"

.text
.globl user_start
user_start:
    call user_main

/* Compares a general register with slot ^ constant. */
.macro gpr reg, constant, number
    mov %rbx, %rax
    xor $\constant, %rax
    mov $\number, %ecx
    cmp %rax, \reg
    jne wrong
.endm
.macro load reg, constant
    mov %rbx, \reg
    xor $\constant, \reg
.endm

.macro each_gpr what
    \what %rdx, 0x11111111
    \what %rsi, 0x22222222
    \what %rdi, 0x33333333
    \what %rbp, 0x44444444
    \what %r8, 0x55555555
    \what %r9, 0x66666666
    \what %r10, 0x77777777
    \what %r11, 0x0a0a0a0a
    \what %r12, 0x1b1b1b1b
    \what %r13, 0x2c2c2c2c
    \what %r14, 0x3d3d3d3d
    \what %r15, 0x4e4e4e4e
.endm

.globl state_loop
state_loop:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rdi, %rbx
    mov %rsp, SLOT_STACK(%rbx)
    each_gpr load
    ldmxcsr SLOT_MXCSR(%rbx)
    fninit
    fldcw SLOT_FCW(%rbx)
    fldpi
    fildll SLOT_SELF(%rbx)
    cmpl $1, SLOT_LEVEL(%rbx)
    ja load512
    je load256
    .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14
    movdqu SLOT_VECTOR + 64 * \i(%rbx), %xmm\i
    .endr
    jmp again
load256:
    .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14
    vmovdqu SLOT_VECTOR + 64 * \i(%rbx), %ymm\i
    .endr
    jmp again
load512:
    .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14
    vmovdqu64 SLOT_VECTOR + 64 * \i(%rbx), %zmm\i
    .endr
    .irp i, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    vmovdqu64 SLOT_VECTOR + 64 * \i(%rbx), %zmm\i
    .endr
    .irp i, 1, 2, 3, 4, 5, 6, 7
    kmovq SLOT_VECTOR + 64 * \i(%rbx), %k\i
    .endr

again:
    /* flags, the direction too, over a while that changes none */
    push SLOT_FLAGS(%rbx)
    popf
    mov $300, %ecx
1:  lea -1(%rcx), %rcx
    jrcxz 2f
    jmp 1b
2:  pushf
    pop %rax
    cld
    and $0xcd5, %eax
    mov $1, %ecx
    cmp SLOT_FLAGS(%rbx), %rax
    jne wrong
    mov $2, %ecx
    cmp SLOT_SELF(%rbx), %rbx
    jne wrong
    mov $3, %ecx
    cmp SLOT_STACK(%rbx), %rsp
    jne wrong
    .set number, 4
    .macro check reg, constant
    gpr \reg, \constant, number
    .set number, number + 1
    .endm
    each_gpr check
    mov $20, %ecx
    mov %fs:0, %rax
    cmp SLOT_FS(%rbx), %rax
    jne wrong
    mov $21, %ecx
    mov %gs:0, %rax
    cmp SLOT_GS(%rbx), %rax
    jne wrong
    mov $22, %ecx
    stmxcsr SLOT_TEMP(%rbx)
    mov SLOT_TEMP(%rbx), %eax
    cmp SLOT_MXCSR(%rbx), %eax
    jne wrong
    mov $23, %ecx
    fnstcw SLOT_TEMP(%rbx)
    mov SLOT_TEMP(%rbx), %ax
    cmp SLOT_FCW(%rbx), %ax
    jne wrong
    mov $24, %ecx
    fld %st(0)
    fistpll SLOT_TEMP(%rbx)
    mov SLOT_TEMP(%rbx), %rax
    cmp %rbx, %rax
    jne wrong
    mov $25, %ecx
    fldpi
    fcomip %st(2), %st
    jne wrong
    cmpl $1, SLOT_LEVEL(%rbx)
    ja check512
    je check256
    .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14
    mov $30 + \i, %ecx
    movdqu SLOT_VECTOR + 64 * \i(%rbx), %xmm15
    pcmpeqb %xmm\i, %xmm15
    pmovmskb %xmm15, %eax
    cmp $0xffff, %eax
    jne wrong
    .endr
    jmp round
check256:
    .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14
    mov $30 + \i, %ecx
    vpcmpeqb SLOT_VECTOR + 64 * \i(%rbx), %ymm\i, %ymm15
    vpmovmskb %ymm15, %eax
    cmp $-1, %eax
    jne wrong
    .endr
    jmp round
check512:
    .irp i, 1, 2, 3, 4, 5, 6, 7
    mov $60 + \i, %ecx
    kmovq %k\i, %rax
    cmp SLOT_VECTOR + 64 * \i(%rbx), %rax
    jne wrong
    .endr
    .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14
    mov $30 + \i, %ecx
    vpcmpeqq SLOT_VECTOR + 64 * \i(%rbx), %zmm\i, %k0
    kmovb %k0, %eax
    cmp $0xff, %eax
    jne wrong
    .endr
    .irp i, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    mov $30 + \i, %ecx
    vpcmpeqq SLOT_VECTOR + 64 * \i(%rbx), %zmm\i, %k0
    kmovb %k0, %eax
    cmp $0xff, %eax
    jne wrong
    .endr

round:
    incq SLOT_LOOPS(%rbx)
    cmpq $0, SLOT_STOP(%rbx)
    je again
    jmp out
wrong:
    mov %rcx, SLOT_ERROR(%rbx)
out:
    cld
    fninit
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
