/* SPDX-License-Identifier: MIT */
/*
 * What the model must know of an x86 instruction, from its bytes: four questions, no more.
 * Pure; the bytes are those of one whole instruction.  Threads: any.
 */
#ifndef DISCO_BENCH_MEMSYS_DECODE_H
#define DISCO_BENCH_MEMSYS_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* May it drop translations: mov to a control or invlpg and its kin, invpcid? */
bool decode_drops_translations(const uint8_t *code, size_t size);

/* Is it VMRUN? */
bool decode_is_vmrun(const uint8_t *code, size_t size);

/* Does it read and write memory in one locked access: a lock prefix, or xchg with memory? */
bool decode_is_locked(const uint8_t *code, size_t size);

/* The command of a magic instruction, command << 8 | argument (roi.h); 0: it is none. */
uint32_t decode_command(const uint8_t *code, size_t size);

#endif
