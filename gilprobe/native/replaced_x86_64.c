/* What a register was before a load put in its place what it read: `mov 0x30(%rax),%rax`. Compilers that are short of
 * registers take such a base from the stack by the instruction before, and there it still is.
 *
 * Bytes that only look like these two instructions are found too: the reader, who knows where instructions begin, tells
 * them from the real ones.
 */
#define _GNU_SOURCE
#include "core.h"

#include "operand_x86_64.h"

#define LONGEST_LOAD 8
#define LONGEST_SLOT 8
#define FURTHEST 8 /* the instruction after the load may have been executed too: see analysis/x86_64.py */
#define CODE_BYTES (FURTHEST + LONGEST_LOAD + LONGEST_SLOT)

typedef struct {
    int length, to;
    Operand from;
} Load;

/* mov, movzx and movsxd from memory to a whole register, or to a half that clears the other half. */
static bool decode(const uint8_t *code, Load *load) {
    const uint8_t *at = code;
    uint8_t rex = (*at & 0xf0) == 0x40 ? *at++ : 0;
    if (*at == 0x0f && (at[1] == 0xb6 || at[1] == 0xb7))
        at += 2;
    else if (*at == 0x8b || (*at == 0x63 && rex & 8))
        at++;
    else
        return false;
    if (*at >> 6 == 3)
        return false;
    load->to = (*at >> 3 & 7) | (rex & 4) << 1;
    load->length = (int)(gp_operand(at, rex, &load->from) - code);
    return true;
}

static bool is_slot(const uint8_t *code, const Load *load) {
    return (*code & 0xf8) == 0x48 && load->from.index == NONE && (load->from.base == RBP || load->from.base == RSP);
}

/* registers: as in SampleRecord. Sets `back` to the bytes from the pc back to the end of the load; 0: there is none. */
uint64_t gp_replaced_base(uint64_t pc, const uint64_t *registers, uint32_t *back) {
    uint8_t code[CODE_BYTES + 16] = {0};
    if (!gp_code_before(code, pc, CODE_BYTES))
        return 0;
    for (int after = 0; after <= FURTHEST; after++)
        for (int bytes = LONGEST_LOAD; bytes >= 2; bytes--) {
            const uint8_t *at = code + CODE_BYTES - after - bytes;
            Load load, slot;
            if (!decode(at, &load) || load.length != bytes || load.from.base != load.to)
                continue;
            for (int slot_bytes = LONGEST_SLOT; slot_bytes >= 4; slot_bytes--) {
                const uint8_t *slot_at = at - slot_bytes;
                uint64_t base;
                if (!decode(slot_at, &slot) || slot.length != slot_bytes || slot.to != load.to ||
                    !is_slot(slot_at, &slot) ||
                    !gp_read_safely(&base, gp_operand_address(&slot.from, registers, 0), sizeof base))
                    continue;
                *back = (uint32_t)after;
                return base;
            }
        }
    return 0;
}
