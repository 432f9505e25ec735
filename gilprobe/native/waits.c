/* A wait from its publication to its place in the aggregate. */
#include "core.h"

#include <string.h>

#include "python.h"

/* Yields closer together than this, from one caller, are one burst (a yield is 0.8 us). */
#define BURST_GAP_NS 3000u
/* A yield that found nobody else takes 0.8 us; what goes beyond this was another thread's turn. */
#define YIELD_NS 2000u
/* By then the two clocks, read a tenth of a microsecond apart, tell their ratio well enough. */
#define SCALE_AFTER_NS 1000000u
#define REFRESH_NS 200000000u
#define MOST_WITH_THREADS 256
#define SAVED_REGISTERS 6u
#define STACK_NEAR 65536u

/* Publishes a wait whose op, subject, address, type and start are set. */
void gp_wait_open(Slot *slot, OpenWait *wait, const void *posted_at, uint32_t stack_id) {
    wait->posted_at = posted_at;
    wait->stack_id = stack_id;
    atomic_fetch_add_explicit(&gp_bucket(posted_at)->waiters, 1, memory_order_seq_cst);
    ThreadRecord *record = slot->record;
    record->open_address = wait->address;
    record->open_stack_id = stack_id;
    record->open_type_id = wait->type_id;
    record->open_op = wait->op;
    record->open_subject = wait->subject;
    record->open_flags = wait->flags;
    gp_look_begin(slot, wait);
    /* Release: a reader that sees the start must see what is waited for. */
    __atomic_store_n(&record->open_start_ns, wait->start_ns, __ATOMIC_RELEASE);
}

static uint64_t wait_key(const OpenWait *wait, uint64_t releaser, uint32_t span_id) {
    uint64_t hash = gp_mix(wait->op | (uint64_t)wait->subject << 8 | (uint64_t)wait->flags << 16, wait->stack_id);
    return gp_mix(gp_mix(hash, releaser), wait->type_id | (uint64_t)span_id << 32) | 1;
}

static WaitRecord *wait_record(Slot *slot, const OpenWait *wait, uint64_t releaser) {
    static _Atomic uint32_t next_wait;
    /* A thread that meets thousands of others keeps the lines that released it, no longer the threads. */
    if (GP_RARE(slot->waits.used > MOST_WITH_THREADS))
        releaser &= UINT32_MAX;
    uint64_t key = wait_key(wait, releaser, slot->spans.current);
    IndexEntry *entry = gp_index_find(&slot->waits, key);
    if (entry)
        return (WaitRecord *)entry->value;
    WaitRecord *record = gp_record_begin(slot, GP_WAIT, sizeof *record);
    if (!record)
        return NULL;
    record->wait_id = atomic_fetch_add_explicit(&next_wait, 1, memory_order_relaxed) + 1;
    record->head.flags = wait->flags;
    record->thread = slot->thread;
    record->op = wait->op;
    record->subject = wait->subject;
    record->stack_id = wait->stack_id;
    record->releaser_stack_id = (uint32_t)releaser;
    record->releaser_thread = (uint32_t)(releaser >> 32);
    record->type_id = wait->type_id;
    record->span_id = slot->spans.current;
    record->address = wait->address;
    record->first_ns = wait->start_ns;
    gp_record_done(slot);
    entry = gp_index_insert(&slot->waits, key);
    if (entry)
        entry->value = (uint64_t)record;
    return record;
}

static void add_event(Slot *slot, const WaitRecord *record, const OpenWait *wait, uint64_t duration_ns,
                      uint64_t wake_ns) {
    EventRecord *event = gp_array_begin(slot, &slot->events, GP_CHUNK_EVENTS, sizeof *event);
    if (!event)
        return;
    *event = (EventRecord){.wait_id = record->wait_id,
                           .thread = slot->thread,
                           .start_ns = wait->start_ns,
                           .duration_ns = duration_ns,
                           .address = wait->address,
                           .wake_ns = wake_ns > UINT32_MAX ? UINT32_MAX : (uint32_t)wake_ns,
                           .spin_ns = wait->spin_ns > UINT32_MAX ? UINT32_MAX : (uint32_t)wait->spin_ns};
    gp_array_done(&slot->events, sizeof *event);
}

/* It has the GIL meanwhile. */
static void blocked_in_hold(Slot *slot, const OpenWait *wait, uint64_t duration_ns) {
    LongHolds *holds = &slot->long_holds;
    holds->blocked_ns += duration_ns;
    if (duration_ns > holds->blocked_most_ns) {
        holds->blocked_most_ns = duration_ns;
        holds->blocked_stack_id = wait->stack_id;
    }
}

/* posted_ns: when the releaser ended the wait, 0 = not known. */
void gp_wait_add(Slot *slot, const OpenWait *wait, uint64_t end_ns, uint64_t posted_ns, uint64_t releaser) {
    uint64_t duration_ns = end_ns > wait->start_ns ? end_ns - wait->start_ns : 0;
    uint64_t wake_ns = posted_ns && posted_ns <= end_ns ? end_ns - posted_ns : 0;
    wake_ns += wait->ready_ns;
    if (wake_ns > duration_ns)
        wake_ns = duration_ns;
    if (slot->record->gil_since_ticks && wait->subject != GP_SUBJECT_GIL)
        blocked_in_hold(slot, wait, duration_ns);
    WaitRecord *record = wait_record(slot, wait, releaser);
    if (record) {
        record->count++;
        record->total_ns += duration_ns;
        if (duration_ns > record->max_ns)
            record->max_ns = duration_ns;
        record->wake_ns += wake_ns;
        gp_look_add(slot, record, wait, wake_ns);
        record->spin_ns += wait->spin_ns;
        record->yields += wait->yields;
        record->last_ns = end_ns;
        if (record->address != wait->address) {
            record->address = wait->address;
            __atomic_fetch_or(&record->head.flags, GP_WAIT_ADDRESSES, __ATOMIC_RELAXED);
        }
        unsigned bucket = duration_ns ? 63u - (unsigned)__builtin_clzll(duration_ns) : 0;
        record->histogram[bucket < GP_HISTOGRAM_BUCKETS ? bucket : GP_HISTOGRAM_BUCKETS - 1]++;
        if (GP_RARE(gp_options.events))
            add_event(slot, record, wait, duration_ns, wake_ns);
    }
    /* What the kernel knows, now and then, so that a killed process still has it. */
    if (end_ns - slot->record->read_ns > REFRESH_NS && end_ns - slot->record->start_ns > REFRESH_NS) {
        gp_read_kernel(slot, end_ns);
        gp_clock_pair(&gp_header->end_ns, &gp_header->end_ticks);
    }
}

/* The recording ended meanwhile: it keeps the wait as an open one. */
void gp_wait_drop(const OpenWait *wait) {
    atomic_fetch_sub_explicit(&gp_bucket(wait->posted_at)->waiters, 1, memory_order_relaxed);
}

/* The call was never made. */
void gp_wait_cancel(Slot *slot, const OpenWait *wait) {
    slot->record->open_start_ns = 0;
    gp_wait_drop(wait);
}

void gp_wait_close(Slot *slot, OpenWait *wait) {
    uint64_t end_ns = gp_now(), posted_ns = 0, releaser = 0;
    gp_look_end(slot, wait, end_ns - wait->start_ns);
    if (!gp_posted(wait->posted_at, wait->start_ns, &posted_ns, &releaser))
        posted_ns = releaser = 0;
    if (wait->flags & GP_WAIT_TIMED_OUT)
        posted_ns = releaser = 0;
    slot->record->open_start_ns = 0;
    if (GP_RARE(wait->subject == GP_SUBJECT_STOP_THE_WORLD))
        gp_gc_world_stopped(slot);
    atomic_fetch_sub_explicit(&gp_bucket(wait->posted_at)->waiters, 1, memory_order_relaxed);
    /* A wait for the GIL has counted what came after its posts, slice by slice. */
    gp_wait_add(slot, wait, end_ns, wait == &slot->gil_wait ? 0 : posted_ns, releaser);
}

/* In 2^-24 ns. The recording's begin and now: the further apart they are, the more exact it is. */
static uint64_t ticks_scale(void) {
    static _Atomic uint64_t known;
    uint64_t scale = atomic_load_explicit(&known, memory_order_relaxed), now_ns, now_ticks;
    if (scale)
        return scale;
    gp_clock_pair(&now_ns, &now_ticks);
    uint64_t ns = now_ns - gp_header->start_ns, ticks = now_ticks - gp_header->start_ticks;
    scale = ticks ? (uint64_t)((double)ns / (double)ticks * (1 << 24)) : 1 << 24;
    if (ns > SCALE_AFTER_NS)
        atomic_store_explicit(&known, scale, memory_order_relaxed);
    return scale;
}

static uint64_t ns_of(uint64_t ticks, uint64_t scale) { return (uint64_t)((unsigned __int128)ticks * scale >> 24); }

static void spin_of(const SpinBurst *spin, OpenWait *wait) {
    uint64_t scale = ticks_scale();
    wait->start_ns = spin->start_ns;
    wait->spin_ns = ns_of(spin->last_ticks - spin->start_ticks - spin->ready_ticks, scale);
    wait->ready_ns = ns_of(spin->ready_ticks, scale);
    wait->yields = spin->yields;
}

/* The burst before a thread parked belongs to that wait. */
void gp_spin_take_over(Slot *slot, OpenWait *wait) {
    SpinBurst *spin = &slot->spin;
    if (gp_ticks() - spin->last_ticks > spin->gap_ticks || wait->op != GP_OP_SEM) {
        gp_spin_close(slot);
        return;
    }
    spin_of(spin, wait);
    spin->start_ns = 0;
}

/* A burst that ended without parking is a wait of its own. */
void gp_spin_close(Slot *slot) {
    SpinBurst *spin = &slot->spin;
    if (!spin->start_ns)
        return;
    OpenWait wait = {.address = spin->address, .op = GP_OP_YIELD, .stack_id = spin->stack_id};
    spin_of(spin, &wait);
    if (spin->address)
        wait.subject = (uint8_t)gp_parked_on(slot, spin->address, false, &wait.type_id);
    spin->start_ns = 0;
    /* Alone, a thread can only have spun on a mutex that it holds itself: a method of an object that calls another
     * of the same object (CPython _PyCriticalSection_BeginSlow). It waits for nobody. */
    if (atomic_load_explicit(&gp_live_threads, memory_order_relaxed) > 1)
        gp_wait_add(slot, &wait, wait.start_ns + wait.spin_ns + wait.ready_ns, 0, 0);
}

/* A PyMutex spins with its address in a callee-saved register: the byte there is locked (bit 0) and it is an object's
 * or a lock's. 0 if no register holds one. */
static uint64_t spinning_on(Slot *slot, const uint64_t *registers) {
    for (unsigned i = 0; i < SAVED_REGISTERS; i++) {
        unsigned at = (slot->spin_register + i) % SAVED_REGISTERS;
        uint64_t address = registers[at];
        uint32_t type_id;
        uint8_t bits;
        bool on_stack = address - ((uint64_t)&bits - STACK_NEAR) < 2 * STACK_NEAR;
        if (address < 65536 || address >> 47 || on_stack || ((address & 7) != 2 && (address & 7) != 0))
            continue;
        if (!gp_is_readable(address) || (bits = *(const volatile uint8_t *)address) > 3)
            continue;
        enum Subject subject = gp_parked_on(slot, address, false, &type_id);
        if (subject == GP_SUBJECT_OBJECT || subject == GP_SUBJECT_LOCK_OBJECT) {
            slot->spin_register = (uint8_t)at;
            return address;
        }
    }
    return 0;
}

/* registers: rbx, rbp, r12, r13, r14, r15 at the call. */
void gp_spin_yielded(Slot *slot, uint64_t start_ticks, uint64_t end_ticks, void *caller, const uint64_t *registers) {
    SpinBurst *spin = &slot->spin;
    if (spin->start_ns && (start_ticks - spin->last_ticks > spin->gap_ticks || spin->caller != (uint64_t)caller))
        gp_spin_close(slot);
    if (!spin->start_ns) {
        uint64_t scale = ticks_scale();
        *spin = (SpinBurst){.start_ns = gp_now() - ns_of(gp_ticks() - start_ticks, scale),
                            .start_ticks = start_ticks,
                            .gap_ticks = ((uint64_t)BURST_GAP_NS << 24) / scale,
                            .yield_ticks = ((uint64_t)YIELD_NS << 24) / scale,
                            .caller = (uint64_t)caller,
                            .stack_id = gp_stack_here(slot, caller)};
        if (gp_python.free_threaded && gp_from_python(caller))
            spin->address = spinning_on(slot, registers);
    }
    spin->yields++;
    spin->last_ticks = end_ticks;
    if (end_ticks - start_ticks > spin->yield_ticks)
        spin->ready_ticks += end_ticks - start_ticks - spin->yield_ticks;
}
