/* The GIL, exactly. take_gil signals switch_cond when it has it, drop_gil signals cond when it gives it up (CPython
 * Python/ceval_gil.c, the same from 3.11 to 3.15), and nothing else in the interpreter uses condition variables. */
#include "core.h"

#include "python.h"

#define MOST_GILS 64
#define HOLD_GAP_TICKS 40000u /* 10 to 40 us */

/* Subinterpreters have their own. Entries are only added. */
static _Atomic uint64_t gils[MOST_GILS];
static _Atomic uint32_t gil_count;

static bool known(uint64_t condition) {
    uint32_t count = atomic_load_explicit(&gil_count, memory_order_acquire);
    for (uint32_t i = 0; i < count && i < MOST_GILS; i++)
        if (atomic_load_explicit(&gils[i], memory_order_relaxed) == condition)
            return true;
    return false;
}

static void learn(uint64_t condition) {
    if (known(condition))
        return;
    uint32_t at = atomic_fetch_add(&gil_count, 1);
    if (at < MOST_GILS)
        atomic_store(&gils[at], condition);
}

static void taken(Slot *slot, uint64_t ticks) {
    slot->record->gil_since_ticks = ticks;
    if (slot->gil_wait.start_ns) {
        slot->busy = 1;
        gp_wait_close(slot, &slot->gil_wait);
        slot->gil_wait.start_ns = 0;
        slot->busy = 0;
    }
}

static __attribute__((noinline)) void add_hold(Slot *slot, uint64_t since, uint64_t ticks) {
    HoldRecord *last = slot->last_hold;
    if (last && last->thread == slot->thread && since - last->end_ticks < HOLD_GAP_TICKS) {
        __atomic_store_n(&last->end_ticks, ticks, __ATOMIC_RELAXED);
        return;
    }
    slot->busy = 1;
    last = gp_array_begin(slot, &slot->holds, GP_CHUNK_HOLDS, sizeof *last);
    if (last) {
        *last = (HoldRecord){.thread = slot->thread, .start_ticks = since, .end_ticks = ticks};
        gp_array_done(&slot->holds, sizeof *last);
    }
    slot->last_hold = last;
    slot->busy = 0;
}

static void dropped(Slot *slot, uint64_t ticks) {
    ThreadRecord *record = slot->record;
    uint64_t since = record->gil_since_ticks;
    if (!since)
        return;
    record->gil_held_ticks += ticks - since;
    record->gil_holds++;
    record->gil_since_ticks = 0;
    if (GP_RARE(gp_options.holds))
        add_hold(slot, since, ticks);
}

static __attribute__((noinline)) void unknown_signalled(Slot *slot, uint64_t condition, uint64_t ticks) {
    if (known(condition)) {
        slot->gil_condition = condition;
        dropped(slot, ticks);
    } else if (known(condition - GIL_SWITCH_OFFSET)) {
        slot->gil_condition = condition - GIL_SWITCH_OFFSET;
        taken(slot, ticks);
    } else if (slot->unknown_signal == condition + GIL_SWITCH_OFFSET) {
        learn(condition);
        slot->gil_condition = condition;
        slot->record->gil_since_ticks = slot->unknown_signal_ticks;
        dropped(slot, ticks);
    } else if (slot->unknown_signal == condition - GIL_SWITCH_OFFSET) {
        learn(condition - GIL_SWITCH_OFFSET);
        slot->gil_condition = condition - GIL_SWITCH_OFFSET;
        taken(slot, ticks);
    } else {
        slot->unknown_signal = condition;
        slot->unknown_signal_ticks = ticks;
    }
}

/* A condition variable of the interpreter's was signalled. */
void gp_gil_signalled(Slot *slot, uint64_t condition, void *caller) {
    if (condition == slot->gil_condition)
        dropped(slot, gp_ticks());
    else if (slot->gil_condition && condition == slot->gil_condition + GIL_SWITCH_OFFSET)
        taken(slot, gp_ticks());
    else if (gp_from_python(caller))
        unknown_signalled(slot, condition, gp_ticks());
}

/* Is this wait one for the GIL? Timed: take_gil waits on cond; untimed: drop_gil waits on switch_cond. */
bool gp_gil_condition(Slot *slot, uint64_t condition, void *caller, bool timed) {
    uint64_t gil = timed ? condition : condition - GIL_SWITCH_OFFSET;
    if (gil == slot->gil_condition)
        return true;
    if (!gp_from_python(caller))
        return false;
    learn(gil);
    slot->gil_condition = gil;
    return true;
}

/* take_gil waits in slices of the switch interval: they are one wait, which ends when the GIL is taken. */
void gp_gil_wait_begin(Slot *slot, uint64_t condition, void *caller) {
    OpenWait *wait = &slot->gil_wait;
    if (wait->start_ns)
        return;
    slot->busy = 1;
    wait->start_ns = gp_now();
    wait->flags = 0;
    wait->op = GP_OP_COND;
    wait->subject = GP_SUBJECT_GIL;
    wait->address = condition;
    gp_wait_open(slot, wait, (const void *)condition, gp_stack_here(slot, caller));
    slot->busy = 0;
}
