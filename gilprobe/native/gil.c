/* The GIL, exactly. take_gil signals switch_cond when it has it, drop_gil signals cond when it gives it up (CPython
 * Python/ceval_gil.c, the same from 3.11 to 3.15), and nothing else in the interpreter uses condition variables. */
#include "core.h"

#include "python.h"

#define MOST_GILS 64
/* A timer may fire this late without any other thread being at fault (the kernel's default timer slack, rounded up). */
#define TIMER_SLACK_NS 60000u
/* Further off, a deadline is by another clock. */
#define FAR_NS 10000000000u
#define HOLD_GAP_TICKS 40000u /* 10 to 40 us */

/* Subinterpreters have their own. Entries are only added. */
static _Atomic uint64_t gils[MOST_GILS];
static _Atomic uint32_t gil_count;

/* That of the main interpreter, as a rule; 0 = none has been seen. */
uint64_t gp_gil_first(void) { return atomic_load_explicit(&gils[0], memory_order_relaxed); }

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

/* The GIL has been taken after a wait. */
__attribute__((noinline)) void gp_gil_waited(Slot *slot) {
    slot->busy = 1;
    slot->gil_wait.ready_ns += slot->gil_slice.ready_ns;
    gp_wait_close(slot, &slot->gil_wait);
    slot->gil_wait.start_ns = 0;
    slot->busy = 0;
}

__attribute__((noinline)) void gp_gil_add_hold(Slot *slot, uint64_t since, uint64_t ticks) {
    GilHoldRecord *last = slot->last_hold;
    if (last && last->thread == slot->thread && since - last->end_ticks < HOLD_GAP_TICKS) {
        __atomic_store_n(&last->end_ticks, ticks, __ATOMIC_RELAXED);
        return;
    }
    slot->busy = 1;
    last = gp_array_begin(slot, &slot->gil_holds, GP_CHUNK_HOLDS, sizeof *last);
    if (last) {
        *last = (GilHoldRecord){.thread = slot->thread, .start_ticks = since, .end_ticks = ticks};
        gp_array_done(&slot->gil_holds, sizeof *last);
    }
    slot->last_hold = last;
    slot->busy = 0;
}

static __attribute__((noinline)) void unknown_signalled(Slot *slot, uint64_t condition, uint64_t ticks, void *caller) {
    if (known(condition)) {
        slot->gil_condition = condition;
        gp_gil_dropped(slot, ticks, caller);
    } else if (known(condition - GIL_SWITCH_OFFSET)) {
        slot->gil_condition = condition - GIL_SWITCH_OFFSET;
        gp_gil_taken(slot, ticks);
    } else if (slot->unknown_signal == condition + GIL_SWITCH_OFFSET) {
        learn(condition);
        slot->gil_condition = condition;
        slot->record->gil_since_ticks = slot->unknown_signal_ticks;
        gp_gil_dropped(slot, ticks, caller);
    } else if (slot->unknown_signal == condition - GIL_SWITCH_OFFSET) {
        learn(condition - GIL_SWITCH_OFFSET);
        slot->gil_condition = condition - GIL_SWITCH_OFFSET;
        gp_gil_taken(slot, ticks);
    } else {
        slot->unknown_signal = condition;
        slot->unknown_signal_ticks = ticks;
    }
}

/* Not that of the GIL which this thread had last. */
__attribute__((noinline)) void gp_gil_signalled_first(Slot *slot, uint64_t condition, void *caller) {
    if (!gp_from_python(caller))
        return;
    gp_gc_learn();
    unknown_signalled(slot, condition, gp_ticks(), caller);
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
    if (wait->start_ns) {
        wait->ready_ns += slot->gil_slice.ready_ns;
        slot->gil_slice.start_ns = slot->gil_slice.end_ns;
        slot->gil_slice.ahead =
            atomic_load_explicit(&gp_bucket((const void *)condition)->waiters, memory_order_relaxed) - 1;
        return;
    }
    slot->busy = 1;
    wait->start_ns = gp_now();
    wait->ready_ns = 0;
    uint32_t ahead = atomic_load_explicit(&gp_bucket((const void *)condition)->waiters, memory_order_relaxed);
    slot->gil_slice = (GilSlice){.start_ns = wait->start_ns, .ahead = ahead};
    wait->flags = 0;
    wait->look_weight = 0;
    wait->op = GP_OP_COND;
    wait->subject = GP_SUBJECT_GIL;
    wait->address = condition;
    gp_wait_open(slot, wait, (const void *)condition, gp_stack_here(slot, caller));
    slot->busy = 0;
}

/* A thread that was signalled, or whose slice was over, and that then got no core, was runnable, not blocked. */
void gp_gil_slice_end(Slot *slot, uint64_t condition, const struct timespec *deadline, bool timed_out) {
    GilSlice *slice = &slot->gil_slice;
    uint64_t due_ns = (uint64_t)deadline->tv_sec * 1000000000u + (uint64_t)deadline->tv_nsec;
    slice->end_ns = gp_now();
    if (!timed_out)
        due_ns = gp_posted_after((const void *)condition, slice->start_ns, slice->ahead);
    else if (due_ns < slice->start_ns || due_ns - slice->start_ns > FAR_NS)
        due_ns = 0;
    else
        due_ns += TIMER_SLACK_NS;
    slice->ready_ns = due_ns && slice->end_ns > due_ns ? slice->end_ns - due_ns : 0;
}
