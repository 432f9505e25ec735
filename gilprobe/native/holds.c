/* How long locks are held: added up for each (thread, taking stack, releasing stack). A clock costs a third of an
 * uncontended `with lock:`, so a thread that takes locks all the time has only some of its holds timed; one that takes
 * up to BUDGET between two checks has all. */
#include "watch.h"

#include "python.h"

#define BUDGET 500    /* both clocks and both stacks of one: some 0.4 us, so 0.2 % of a thread */
#define SPARSE 128    /* then the next one timed comes after so many, and up to twice that more: no loop keeps step */
#define MOST_KEYS 512 /* of a thread */
#define CHECK_NS 100000000u

_Atomic uint32_t gp_watch_tick = 1; /* not what a new thread has seen */

/* Nothing of an earlier file has a meaning in this one: its stack ids, its records. */
static void begin_file(LockThread *thread) {
    for (uint32_t i = 0; i < thread->depth; i++)
        thread->held[i].since_ns = 0;
    thread->timer.last = NULL;
    thread->timer.generation = atomic_load_explicit(&gp_generation, memory_order_relaxed);
}

static void count(LockHoldRecord *record, uint64_t held_ns, uint32_t holds) {
    unsigned bucket = held_ns ? 63u - (unsigned)__builtin_clzll(held_ns) : 0;
    record->count += holds;
    record->total_ns += held_ns * holds;
    record->histogram[bucket < GP_HISTOGRAM_BUCKETS ? bucket : GP_HISTOGRAM_BUCKETS - 1] += holds;
}

/* Those that were not timed are taken to have been as long as the last that was. */
static void count_skipped(HoldTimer *timer) {
    if (timer->last)
        count(timer->last, timer->last_ns, timer->from - timer->until);
    timer->from = timer->until = 0;
}

void gp_hold_begin(LockThread *thread, Held *held) {
    HoldTimer *timer = &thread->timer;
    Slot *slot = gp_slot();
    if (GP_RARE(timer->generation != atomic_load_explicit(&gp_generation, memory_order_relaxed)))
        begin_file(thread);
    count_skipped(timer);
    if (timer->tick != held->tick)
        timer->budget = BUDGET;
    timer->tick = held->tick;
    if (!slot || held->internal)
        return;
    if (timer->budget) {
        timer->budget--;
    } else {
        timer->random = timer->random * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        timer->from = timer->until = SPARSE + (timer->random >> 16) % (2 * SPARSE);
    }
    timer->recorded = slot->thread;
    int error = errno;
    slot->busy = 1;
    held->stack_id = gp_stack_here(slot, NULL);
    held->since_ns = gp_now();
    slot->busy = 0;
    errno = error;
}

static LockHoldRecord *new_record(Slot *slot, uint64_t lock, uint8_t kind, uint32_t taken, uint32_t released) {
    LockHoldRecord *record = gp_record_begin(slot, GP_LOCK_HOLD, sizeof *record);
    if (!record)
        return NULL;
    record->thread = slot->thread;
    record->stack_id = taken;
    record->released_stack_id = released;
    record->kind = kind;
    record->address = lock;
    return record;
}

static LockHoldRecord *record_of(Slot *slot, uint64_t lock, uint8_t kind, uint32_t taken, uint32_t released) {
    bool overflow = slot->lock_holds.used >= MOST_KEYS;
    uint64_t key = gp_mix(gp_mix(kind, taken), released) | 1;
    IndexEntry *entry = gp_index_find(&slot->lock_holds, key);
    if (!entry && overflow) {
        taken = released = 0;
        key = gp_mix(gp_mix(kind, 0), 0) | 1;
        entry = gp_index_find(&slot->lock_holds, key);
    }
    if (entry)
        return (LockHoldRecord *)entry->value;
    LockHoldRecord *record = new_record(slot, lock, kind, taken, released);
    if (!record)
        return NULL;
    record->head.flags = overflow ? GP_LOCK_HOLD_OVERFLOW : 0;
    gp_record_done(slot);
    if ((entry = gp_index_insert(&slot->lock_holds, key)))
        entry->value = (uint64_t)record;
    return record;
}

void gp_hold_end(LockThread *thread, const Held *held) {
    HoldTimer *timer = &thread->timer;
    Slot *slot = gp_slot();
    uint64_t now_ns = held->since_ns ? gp_now() : 0;
    if (!slot || held->internal || timer->generation != atomic_load_explicit(&gp_generation, memory_order_relaxed))
        return;
    int error = errno;
    slot->busy = 1;
    uint32_t taken = held->since_ns
                         ? held->stack_id
                         : gp_stack_of_frame(slot, held->taken.code[0],
                                             gp_code_offset(held->taken.code[0], held->taken.instruction[0]));
    LockHoldRecord *record = record_of(slot, held->lock, held->kind, taken, gp_stack_here(slot, NULL));
    if (record && record->address != held->lock) {
        record->address = held->lock;
        record->head.flags |= GP_LOCK_HOLD_SEVERAL;
    }
    if (record && held->since_ns) {
        uint64_t held_ns = now_ns - held->since_ns;
        count(record, held_ns, 1);
        record->timed++;
        record->max_ns = held_ns > record->max_ns ? held_ns : record->max_ns;
        timer->last = record;
        timer->last_ns = held_ns;
    } else if (record) {
        /* Each check comes at least so long after the one before it. */
        uint64_t least_ns =
            (uint64_t)(atomic_load_explicit(&gp_watch_tick, memory_order_relaxed) - held->tick - 1) * CHECK_NS;
        record->at_least_ns = least_ns > record->at_least_ns ? least_ns : record->at_least_ns;
    }
    slot->busy = 0;
    errno = error;
}

void gp_holds_finish(Slot *slot) {
    uint64_t now_ns = gp_now();
    uint32_t generation = atomic_load_explicit(&gp_generation, memory_order_relaxed);
    for (LockThread *thread = gp_lock_threads(); thread; thread = thread->next_all) {
        if (!thread->timer.recorded || thread->timer.generation != generation)
            continue;
        for (uint32_t i = 0; i < thread->depth && i < GP_MOST_HELD; i++) {
            Held held = thread->held[i];
            if (!held.lock || !held.since_ns || held.internal || held.ask & GP_ASK_AGAIN || held.since_ns > now_ns ||
                gp_lock_is_handed_over(held.lock) || gp_is_stale(&held))
                continue;
            LockHoldRecord *record = new_record(slot, held.lock, held.kind, held.stack_id, 0);
            if (!record)
                return;
            record->head.flags = GP_LOCK_HOLD_OPEN;
            record->thread = thread->timer.recorded;
            record->timed = 1;
            record->max_ns = now_ns - held.since_ns;
            count(record, record->max_ns, 1);
            gp_record_done(slot);
        }
    }
}
