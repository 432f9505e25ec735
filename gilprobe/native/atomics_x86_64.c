/* The address that the atomic instruction just executed went to. The program counter of a sample stands just behind it.
 */
#define _GNU_SOURCE
#include "core.h"

#include "operand_x86_64.h"
#include "python.h"

#define LONGEST 12
#define SHORTEST 3

typedef struct {
    int length;
    Operand operand;
    int written[2]; /* registers whose old value is gone */
} Atomic;

/* Bytes of immediate after a one-byte opcode with a memory operand that may carry a lock prefix; -1: none such. */
static int one_byte_opcode(uint8_t opcode, bool short_operand, Atomic *atomic, int reg) {
    if (opcode == 0x86 || opcode == 0x87) { /* xchg locks by itself */
        atomic->written[0] = reg;
        return 0;
    }
    if (opcode < 0x40 && (opcode & 7) < 2)
        return 0; /* add or adc sbb and sub xor, to memory */
    switch (opcode) {
    case 0x80:
    case 0x83:
        return 1;
    case 0x81:
        return short_operand ? 2 : 4;
    case 0xf6:
    case 0xf7:
    case 0xfe:
    case 0xff:
        return 0;
    default:
        return -1;
    }
}

static int two_byte_opcode(uint8_t opcode, Atomic *atomic, int reg) {
    switch (opcode) {
    case 0xb0:
    case 0xb1: /* cmpxchg */
        atomic->written[0] = RAX;
        return 0;
    case 0xc0:
    case 0xc1: /* xadd */
        atomic->written[0] = reg;
        return 0;
    case 0xc7: /* cmpxchg8b, cmpxchg16b */
        atomic->written[0] = RAX;
        atomic->written[1] = RDX;
        return 0;
    case 0xab:
    case 0xb3:
    case 0xbb: /* bts, btr, btc with a register */
        return 0;
    case 0xba: /* with an immediate */
        return 1;
    default:
        return -1;
    }
}

static bool decode(const uint8_t *code, Atomic *atomic) {
    const uint8_t *at = code;
    bool lock = false, short_operand = false;
    for (; *at == 0xf0 || *at == 0x66 || *at == 0xf2 || *at == 0xf3; at++) {
        lock |= *at == 0xf0;
        short_operand |= *at == 0x66;
        if (at - code > 3)
            return false;
    }
    uint8_t rex = (*at & 0xf0) == 0x40 ? *at++ : 0;
    bool two_bytes = *at == 0x0f;
    if (two_bytes)
        at++;
    uint8_t opcode = *at++, modrm = *at++;
    int mode = modrm >> 6, reg = (modrm >> 3 & 7) | (rex & 4) << 1;
    *atomic = (Atomic){.written = {NONE, NONE}};
    int immediate =
        two_bytes ? two_byte_opcode(opcode, atomic, reg) : one_byte_opcode(opcode, short_operand, atomic, reg);
    if (immediate < 0 || mode == 3 || (!lock && (two_bytes || (opcode & 0xfe) != 0x86)))
        return false;
    at = gp_operand(at - 1, rex, &atomic->operand);
    atomic->length = (int)(at - code) + immediate;
    return true;
}

static bool lost(const Atomic *atomic, int reg) {
    return reg != NONE && (reg == atomic->written[0] || reg == atomic->written[1]);
}

/* registers: as in SampleRecord. 0 if there is no atomic instruction before the pc or its address is gone. */
uint64_t gp_atomic_address(uint64_t pc, const uint64_t *registers) {
    uint8_t code[2 * LONGEST + 8] = {0};
    if (!gp_code_before(code, pc, LONGEST))
        return 0;
    for (int length = SHORTEST; length <= LONGEST; length++) {
        Atomic atomic;
        if (!decode(code + LONGEST - length, &atomic) || atomic.length != length)
            continue;
        if (lost(&atomic, atomic.operand.base) || lost(&atomic, atomic.operand.index))
            return 0;
        return gp_operand_address(&atomic.operand, registers, pc);
    }
    return 0;
}
