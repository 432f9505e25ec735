/* Memory operands of x86-64 instructions, and the code before a program counter. */
#ifndef GILPROBE_OPERAND_X86_64_H
#define GILPROBE_OPERAND_X86_64_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "python.h"

enum { RAX = 0, RDX = 2, RSP = 4, RBP = 5, NONE = -1 };

typedef struct {
    int base, index, scale; /* register numbers as in SampleRecord, or NONE */
    int64_t displacement;
    bool relative; /* to the next instruction */
} Operand;

static inline int32_t gp_read32(const uint8_t *at) {
    int32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* `at` is the ModRM byte, of a mode that is not 3 (Intel SDM volume 2, section 2.1.3). Returns what follows. */
static inline const uint8_t *gp_operand(const uint8_t *at, uint8_t rex, Operand *operand) {
    uint8_t modrm = *at++;
    int mode = modrm >> 6, rm = modrm & 7;
    *operand = (Operand){.base = NONE, .index = NONE, .scale = 1};
    if (rm == 4) {
        uint8_t sib = *at++;
        int index = (sib >> 3 & 7) | (rex & 2) << 2;
        if (index != 4)
            operand->index = index;
        operand->scale = 1 << (sib >> 6);
        operand->base = (sib & 7) | (rex & 1) << 3;
        if ((sib & 7) == 5 && mode == 0) {
            operand->base = NONE;
            operand->displacement = gp_read32(at);
            at += 4;
        }
    } else if (rm == 5 && mode == 0) {
        operand->relative = true;
        operand->displacement = gp_read32(at);
        at += 4;
    } else {
        operand->base = rm | (rex & 1) << 3;
    }
    if (mode == 1)
        operand->displacement = (int8_t)*at++;
    else if (mode == 2) {
        operand->displacement = gp_read32(at);
        at += 4;
    }
    return at;
}

/* next: address of the next instruction; registers: as in SampleRecord. */
static inline uint64_t gp_operand_address(const Operand *operand, const uint64_t *registers, uint64_t next) {
    uint64_t address = (uint64_t)operand->displacement;
    if (operand->relative)
        address += next;
    if (operand->base != NONE)
        address += registers[operand->base];
    if (operand->index != NONE)
        address += registers[operand->index] * (uint64_t)operand->scale;
    return address;
}

/* The `bytes` of code before `pc`; false where they cannot be read. */
static inline bool gp_code_before(uint8_t *out, uint64_t pc, uint32_t bytes) {
    if ((pc & 4095) < bytes)
        return gp_read_safely(out, pc - bytes, bytes);
    memcpy(out, (const void *)(pc - bytes), bytes);
    return true;
}

#endif
