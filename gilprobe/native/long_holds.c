/* The longest holds of the GIL of each thread: those at whose end another thread waited for it come first. */
#include "core.h"

static bool longer(const LongHoldRecord *a, bool contended, uint64_t ticks) {
    if (contended != (a->waiters != 0))
        return contended;
    return ticks > a->end_ticks - a->start_ticks;
}

static LongHoldRecord *room(Slot *slot, bool contended, uint64_t ticks) {
    LongHolds *holds = &slot->long_holds;
    if (holds->count < GP_HOLDS_KEPT) {
        LongHoldRecord *record = gp_record_begin(slot, GP_LONG_HOLD, sizeof *record);
        if (!record)
            return NULL;
        record->thread = slot->thread;
        gp_record_done(slot);
        return holds->kept[holds->count++] = record;
    }
    LongHoldRecord *least = holds->kept[0];
    for (uint32_t i = 1; i < GP_HOLDS_KEPT; i++)
        if (longer(least, holds->kept[i]->waiters != 0, holds->kept[i]->end_ticks - holds->kept[i]->start_ticks) ==
            false)
            least = holds->kept[i];
    return longer(least, contended, ticks) ? least : NULL;
}

/* Holds shorter than this cannot get in any more. */
static uint64_t least_ticks(const LongHolds *holds) {
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < holds->count; i++) {
        uint64_t ticks = holds->kept[i]->end_ticks - holds->kept[i]->start_ticks;
        if (!holds->kept[i]->waiters)
            return GP_LEAST_HOLD_TICKS;
        least = ticks < least ? ticks : least;
    }
    return holds->count < GP_HOLDS_KEPT ? GP_LEAST_HOLD_TICKS : least;
}

void gp_long_hold(Slot *slot, uint64_t since, uint64_t ticks, void *caller) {
    const void *condition = (const void *)slot->gil_condition;
    uint32_t waiters = atomic_load_explicit(&gp_bucket(condition)->waiters, memory_order_relaxed);
    slot->busy = 1;
    LongHoldRecord *record = room(slot, waiters != 0, ticks - since);
    if (record) {
        uint32_t stack_id = gp_stack_here(slot, caller);
        record->end_ticks = 0;
        record->stack_id = stack_id;
        record->waiters = waiters;
        record->blocked_stack_id = slot->long_holds.blocked_stack_id;
        record->blocked_ns = slot->long_holds.blocked_ns;
        record->start_ticks = since;
        /* Release: a reader that sees an end must see the rest of it. */
        __atomic_store_n(&record->end_ticks, ticks, __ATOMIC_RELEASE);
        slot->long_holds.least_ticks = least_ticks(&slot->long_holds);
    }
    slot->busy = 0;
}

void gp_long_holds_clear(Slot *slot) { slot->long_holds = (LongHolds){.least_ticks = GP_LEAST_HOLD_TICKS}; }
