/* Threads: a slot each while they live; a slot serves one thread after another. */
#define _GNU_SOURCE
#include "core.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "real.h"

/* A thread's run delay costs an open, a read and a close: not worth it for one this short. */
#define LONG_ENOUGH_NS 2000000u
/* Its page faults and context switches cost one system call, of which a short thread has few to spare. */
#define WORTH_COUNTING_NS 500000u
/* glibc's struct pthread keeps the thread's id somewhere between these. */
#define FIRST_TID_OFFSET 64u
#define LAST_TID_OFFSET 1536u
#define BIRTHS_MEASURED 8u
#define BIRTH_MEASURED_EVERY 256u
#define ENDS_MEASURED 64u
#define END_MEASURED_EVERY 4u

GP_TLS Slot *gp_slot_here;
GP_TLS bool gp_slot_gone;

_Atomic uint32_t gp_live_threads;
uint32_t gp_session;

static _Atomic(Slot *) all_slots;
static _Atomic uint64_t free_slots; /* a Slot's address below, a count of changes in the top 16 bits (ABA) */
static _Atomic uint32_t next_slot, next_thread;
static pthread_key_t end_of_thread;
static uint32_t tid_offset; /* 0 = not known */

Slot *gp_slots_all(void) { return atomic_load_explicit(&all_slots, memory_order_acquire); }

/* Another number after a thread came or went. */
uint64_t gp_slots_changed(void) { return (uint64_t)atomic_load(&next_thread) << 32 | atomic_load(&gp_live_threads); }

#define ADDRESS_BITS 48
static Slot *slot_at(uint64_t tagged) { return (Slot *)(tagged & ((1ull << ADDRESS_BITS) - 1)); }

static void push_free(Slot *slot) {
    uint64_t head = atomic_load_explicit(&free_slots, memory_order_relaxed), fresh;
    do {
        atomic_store_explicit(&slot->next_free, slot_at(head), memory_order_relaxed);
        fresh = (uint64_t)slot | ((head >> ADDRESS_BITS) + 1) << ADDRESS_BITS;
        /* Release: pairs with the acquire in pop_free. */
    } while (
        !atomic_compare_exchange_weak_explicit(&free_slots, &head, fresh, memory_order_release, memory_order_relaxed));
}

static Slot *pop_free(void) {
    uint64_t head = atomic_load_explicit(&free_slots, memory_order_acquire), fresh;
    Slot *slot;
    do {
        slot = slot_at(head);
        if (!slot)
            return NULL;
        /* May be of a later time, when another thread has popped this slot meanwhile: then the exchange fails. */
        Slot *next = atomic_load_explicit(&slot->next_free, memory_order_relaxed);
        fresh = (uint64_t)next | ((head >> ADDRESS_BITS) + 1) << ADDRESS_BITS;
    } while (
        !atomic_compare_exchange_weak_explicit(&free_slots, &head, fresh, memory_order_acquire, memory_order_acquire));
    return slot;
}

/* Of the calling thread. */
void gp_read_kernel(Slot *slot, uint64_t now_ns) {
    ThreadRecord *record = slot->record;
    struct rusage usage;
    if (now_ns - record->start_ns > WORTH_COUNTING_NS && !gp_syscall3(SYS_getrusage, RUSAGE_THREAD, &usage, 0)) {
        record->minor_faults = (uint64_t)usage.ru_minflt - slot->past.minor_faults;
        record->major_faults = (uint64_t)usage.ru_majflt - slot->past.major_faults;
        record->voluntary_switches = (uint64_t)usage.ru_nvcsw - slot->past.voluntary_switches;
        record->involuntary_switches = (uint64_t)usage.ru_nivcsw - slot->past.involuntary_switches;
    }
    uint64_t cpu_ns, run_delay_ns;
    if (now_ns - record->start_ns > LONG_ENOUGH_NS && gp_read_schedstat(slot->tid, &cpu_ns, &run_delay_ns)) {
        record->run_delay_ns = run_delay_ns;
        record->run_delay_read_ns = now_ns;
    }
    record->cpu_ns = gp_thread_cpu_ns();
    record->read_ns = now_ns;
}

static void thread_begin(Slot *slot, uint32_t tid, uint64_t start_cpu_ns, uint64_t start_run_delay_ns) {
    slot->tid = tid;
    slot->thread = atomic_fetch_add_explicit(&next_thread, 1, memory_order_relaxed) + 1;
    slot->named = 0;
    slot->io_slow = 0;
    slot->gave_way = 0;
    slot->usual[0] = slot->usual[1] = (Usual){.wait_ns = 1000000};
    slot->blocked = slot->vforked = slot->over = 0;
    slot->session = gp_session;
    memset(&slot->past, 0, sizeof slot->past);
    slot->gil_condition = 0;
    slot->unknown_signal = 0;
    slot->lock_thread = NULL;
    slot->last_pc = slot->state = 0;
    memset(&slot->gil_wait, 0, sizeof slot->gil_wait);
    memset(&slot->spin, 0, sizeof slot->spin);
    gp_long_holds_clear(slot);
    slot->cuda_use = NULL;
    slot->cuda_launches = slot->cuda_runtime_call = slot->cuda_last.driver = slot->cuda_last.runtime = 0;
    gp_index_clear(&slot->waits);
    gp_index_clear(&slot->lock_holds);
    gp_spans_clear(slot);
    ThreadRecord *record = gp_record_begin(slot, GP_THREAD, sizeof *record);
    slot->record = record ? record : &slot->scratch;
    if (!record)
        memset(&slot->scratch, 0, sizeof slot->scratch);
    slot->record->thread = slot->thread;
    slot->record->tid = slot->tid;
    slot->record->start_ns = gp_now();
    slot->record->start_cpu_ns = slot->record->cpu_ns = start_cpu_ns;
    slot->record->start_run_delay_ns = slot->record->run_delay_ns = start_run_delay_ns;
    if (record)
        gp_record_done(slot);
}

static void forget_file(Slot *slot) {
    memset(&slot->records, 0, sizeof slot->records);
    memset(&slot->events, 0, sizeof slot->events);
    memset(&slot->samples, 0, sizeof slot->samples);
    memset(&slot->span_events, 0, sizeof slot->span_events);
    memset(&slot->gpu_work, 0, sizeof slot->gpu_work);
    memset(&slot->gpu_marks, 0, sizeof slot->gpu_marks);
    memset(&slot->gil_holds, 0, sizeof slot->gil_holds);
    slot->last_hold = NULL;
    gp_index_clear(&slot->stacks);
    gp_index_clear(&slot->types);
}

static uint32_t tid_here(void) { return (uint32_t)gp_syscall3(SYS_gettid, 0, 0, 0); }

/* The main thread's id stands where every thread's does. */
static void find_tid(void) {
    const char *self = (const char *)pthread_self();
    uint32_t tid = tid_here();
    for (uint32_t at = FIRST_TID_OFFSET; at < LAST_TID_OFFSET; at += 4)
        if (*(const uint32_t *)(self + at) == tid) {
            tid_offset = tid_offset ? UINT32_MAX : at;
            if (tid_offset == UINT32_MAX)
                break;
        }
    if (tid_offset == UINT32_MAX)
        tid_offset = 0;
}

/* Of a thread that pthread_create has just made. What it used of the CPU until now is measured for some and taken to be
 * the same for the others: the clock and the id are a system call each. */
static void begin_at_birth(Slot *slot) {
    static _Atomic uint64_t usual_cpu_ns;
    uint32_t made = atomic_load_explicit(&next_thread, memory_order_relaxed);
    if (!tid_offset || made < BIRTHS_MEASURED || made % BIRTH_MEASURED_EVERY == 0) {
        uint64_t cpu_ns = gp_thread_cpu_ns();
        atomic_store_explicit(&usual_cpu_ns, cpu_ns, memory_order_relaxed);
        uint32_t tid = tid_here();
        if (tid_offset && *(const uint32_t *)((const char *)pthread_self() + tid_offset) != tid)
            tid_offset = 0;
        thread_begin(slot, tid, cpu_ns, 0);
    } else {
        uint32_t tid = *(const uint32_t *)((const char *)pthread_self() + tid_offset);
        thread_begin(slot, tid, atomic_load_explicit(&usual_cpu_ns, memory_order_relaxed), 0);
    }
    slot->gil_condition = gp_gil_first();
    atomic_fetch_add_explicit(&gp_live_threads, 1, memory_order_relaxed);
}

static void begin_with_a_past(Slot *slot) {
    uint64_t cpu_ns = gp_thread_cpu_ns(), run_delay_ns = 0, ignored;
    uint32_t tid = tid_here();
    /* A thread that ran before we saw it (the main thread, one made before we were loaded) has a past. */
    bool past = cpu_ns > LONG_ENOUGH_NS / 4;
    if (past)
        gp_read_schedstat(tid, &ignored, &run_delay_ns);
    thread_begin(slot, tid, cpu_ns, run_delay_ns);
    struct rusage usage;
    if (past && !gp_syscall3(SYS_getrusage, RUSAGE_THREAD, &usage, 0)) {
        slot->past.minor_faults = (uint64_t)usage.ru_minflt;
        slot->past.major_faults = (uint64_t)usage.ru_majflt;
        slot->past.voluntary_switches = (uint64_t)usage.ru_nvcsw;
        slot->past.involuntary_switches = (uint64_t)usage.ru_nivcsw;
    }
    atomic_fetch_add_explicit(&gp_live_threads, 1, memory_order_relaxed);
}

/* In a signal handler nothing may be called that allocates. */
Slot *gp_slot_new(enum FirstSeen seen) {
    gp_slot_gone = true; /* a signal that comes now must not make another */
    Slot *slot = pop_free();
    if (!slot) {
        slot = gp_memory(sizeof *slot);
        if (!slot) {
            gp_lose(NULL, ENOMEM);
            return NULL;
        }
        slot->index = atomic_fetch_add_explicit(&next_slot, 1, memory_order_relaxed);
        slot->sampler_fd = -1;
        slot->busy = 1;
        slot->session = gp_session;
        forget_file(slot);
        Slot *head = atomic_load_explicit(&all_slots, memory_order_relaxed);
        do
            slot->next_all = head;
        while (!atomic_compare_exchange_weak_explicit(&all_slots, &head, slot, memory_order_release,
                                                      memory_order_relaxed));
    }
    slot->busy = 1;
    if (slot->session != gp_session)
        forget_file(slot);
    gp_slot_here = slot;
    gp_slot_gone = false;
    if (seen == GP_SEEN_AT_BIRTH)
        begin_at_birth(slot);
    else
        begin_with_a_past(slot);
    atomic_store_explicit(&slot->in_use, true, memory_order_release);
    if (seen == GP_SEEN_IN_SIGNAL)
        slot->unkeyed = 1;
    else
        pthread_setspecific(end_of_thread, slot);
    gp_sampler_start(slot, seen == GP_SEEN_AT_BIRTH);
    if (!atomic_load_explicit(&gp_active, memory_order_relaxed))
        slot->over = 1;
    slot->busy = 0;
    return slot;
}

Slot *gp_slot_unlisted(void) {
    Slot *slot = gp_memory(sizeof *slot);
    if (!slot)
        return NULL;
    slot->index = atomic_fetch_add_explicit(&next_slot, 1, memory_order_relaxed);
    slot->record = &slot->scratch;
    slot->sampler_fd = -1;
    slot->busy = 1;
    return slot;
}

/* Reading the CPU's clock is a large part of the end of a thread that did next to nothing: of those that live so
 * shortly, most are taken to have used as much of their lives as those that were read. */
static void read_at_end(Slot *slot, uint64_t now_ns) {
    static _Atomic uint32_t usual_share; /* CPU of a life, in 2^-16 */
    ThreadRecord *record = slot->record;
    uint64_t lived_ns = now_ns - record->start_ns + 1;
    uint32_t share = atomic_load_explicit(&usual_share, memory_order_relaxed);
    bool brief = lived_ns < WORTH_COUNTING_NS;
    if (brief && slot->thread > ENDS_MEASURED && slot->thread % END_MEASURED_EVERY) {
        record->cpu_ns = record->start_cpu_ns + (lived_ns * share >> 16);
        return; /* read_ns stays 0 */
    }
    gp_read_kernel(slot, now_ns);
    if (!brief)
        return;
    uint64_t used_ns = record->cpu_ns > record->start_cpu_ns ? record->cpu_ns - record->start_cpu_ns : 0;
    uint32_t now_share = (uint32_t)((used_ns < lived_ns ? used_ns : lived_ns) * UINT16_MAX / lived_ns);
    atomic_store_explicit(&usual_share, share ? (share * 7 + now_share) / 8 : now_share, memory_order_relaxed);
}

static void thread_end(Slot *slot, uint64_t now_ns) {
    if (slot->gil_wait.start_ns)
        gp_wait_close(slot, &slot->gil_wait);
    slot->gil_wait.start_ns = 0;
    gp_spin_close(slot);
    gp_spans_close(slot, now_ns);
    read_at_end(slot, now_ns);
    if (!slot->named)
        gp_name_thread(slot, NULL);
    slot->record->open_start_ns = 0;
    /* Release: a reader that sees the end must see the final figures. */
    __atomic_store_n(&slot->record->end_ns, now_ns, __ATOMIC_RELEASE);
}

/* The key's destructor. Others may run after it: from here on their waits pass through. */
void gp_slot_release(void *argument) {
    Slot *slot = argument;
    gp_slot_here = NULL;
    gp_slot_gone = true;
    slot->busy = 1;
    gp_sampler_stop(slot);
    gp_run_delay_close(slot);
    if (atomic_load_explicit(&gp_active, memory_order_relaxed) && slot->session == gp_session)
        thread_end(slot, gp_now());
    slot->record = &slot->scratch;
    if (slot->session == gp_session)
        atomic_fetch_sub_explicit(&gp_live_threads, 1, memory_order_relaxed);
    atomic_store_explicit(&slot->in_use, false, memory_order_release);
    push_free(slot);
}

/* Hooks between the parent's vfork and its return run in the child, on the parent's memory. */
static bool vfork_over(Slot *slot) {
    if ((uint32_t)gp_syscall3(SYS_getpid, 0, 0, 0) != gp_header->pid)
        return false;
    slot->vforked = 0;
    return true;
}

/* The recording that this slot was in has ended and another has begun. */
static void begin_again(Slot *slot) {
    slot->busy = 1;
    if (slot->gil_wait.start_ns) /* open when the first one ended: no hook saw its end */
        atomic_fetch_sub_explicit(&gp_bucket(slot->gil_wait.posted_at)->waiters, 1, memory_order_relaxed);
    forget_file(slot);
    begin_with_a_past(slot);
    gp_sampler_start(slot, false);
    slot->busy = 0;
}

/* Some flag is set: may hooks use the slot all the same? */
bool gp_slot_usable(Slot *slot) {
    if (slot->busy || slot->blocked)
        return false;
    if (slot->over) {
        if (slot->session == gp_session || !atomic_load_explicit(&gp_active, memory_order_relaxed))
            return false;
        begin_again(slot);
    }
    if (slot->unkeyed) {
        pthread_setspecific(end_of_thread, slot);
        slot->unkeyed = 0;
    }
    return !slot->vforked || vfork_over(slot);
}

/* Of a thread that was there before the recording, and may never have waited. */
Slot *gp_slot_in_signal(void) {
    Slot *slot = gp_slot_here;
    if (!atomic_load_explicit(&gp_active, memory_order_relaxed))
        return NULL;
    if (!slot)
        return gp_slot_gone ? NULL : gp_slot_new(GP_SEEN_IN_SIGNAL);
    if (slot->over && !slot->busy && !slot->blocked && slot->session != gp_session)
        begin_again(slot);
    return slot->over ? NULL : slot;
}

/* The ids of this process's threads, as many as there is room for; returns how many there are. */
uint32_t gp_tasks(uint32_t *tids, uint32_t room) {
    uint32_t count = 0;
    char entries[4096];
    long fd = gp_syscall6(SYS_openat, AT_FDCWD, (long)"/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0, 0);
    for (long got; fd >= 0 && (got = gp_syscall3(SYS_getdents64, fd, entries, sizeof entries)) > 0;)
        /* struct linux_dirent64: d_reclen at 16, d_name at 19 */
        for (long at = 0; at < got; at += *(uint16_t *)(entries + at + 16)) {
            const char *name = entries + at + 19;
            if (*name == '.')
                continue;
            if (count < room)
                tids[count] = (uint32_t)gp_number(&name);
            count++;
        }
    if (fd >= 0)
        gp_syscall3(SYS_close, fd, 0, 0);
    return count;
}

/* A new recording in a process that may have had one: threads join it one by one, when they next call a hook. */
void gp_slots_begin(void) {
    gp_session++;
    atomic_store(&next_thread, 0);
    /* One stands for all that were there before: they are counted when they are seen. */
    atomic_store(&gp_live_threads, gp_tasks(NULL, 0) > 1 ? 1 : 0);
}

/* In the child of fork: only the calling thread lives; all else is forgotten, its memory with it. */
void gp_slots_forked(void) {
    Slot *slot = gp_slot_here;
    atomic_store(&all_slots, NULL);
    atomic_store(&free_slots, 0);
    atomic_store(&next_thread, 0);
    atomic_store(&next_slot, 0);
    if (!slot)
        return;
    slot->busy = 1;
    slot->index = atomic_fetch_add(&next_slot, 1);
    slot->next_all = NULL;
    atomic_store(&gp_live_threads, 1);
    atomic_store(&all_slots, slot);
    forget_file(slot);
    uint64_t gil_condition = slot->gil_condition, gil_since = slot->record->gil_since_ticks;
    thread_begin(slot, tid_here(), 0, 0);
    slot->gil_condition = gil_condition;
    slot->record->gil_since_ticks = gil_since ? gp_ticks() : 0;
    slot->busy = 0;
}

/* The process ends: what the kernel knows of the threads that are still there. */
void gp_slots_finish(uint64_t now_ns) {
    for (Slot *slot = gp_slots_all(); slot; slot = slot->next_all) {
        if (!atomic_load_explicit(&slot->in_use, memory_order_acquire) || slot->over || slot->session != gp_session)
            continue;
        gp_counter_stop(slot);
        if (slot == gp_slot_here) {
            gp_spin_close(slot);
            gp_spans_close(slot, now_ns);
            gp_read_kernel(slot, now_ns);
            if (!slot->named)
                gp_name_thread(slot, NULL);
            continue;
        }
        ThreadRecord *record = slot->record;
        uint64_t cpu_ns, run_delay_ns;
        if (gp_read_schedstat(slot->tid, &cpu_ns, &run_delay_ns)) {
            record->cpu_ns = cpu_ns;
            record->run_delay_ns = run_delay_ns;
            record->read_ns = record->run_delay_read_ns = now_ns;
        }
        if (!slot->named)
            gp_name_other_thread(slot);
    }
}

void gp_slots_setup(void) {
    pthread_key_create(&end_of_thread, gp_slot_release);
    find_tid();
}

/* hook */

typedef struct {
    void *(*function)(void *);
    void *argument;
    uint32_t parent_thread;
    uint32_t name_bytes;
    char name[GP_NAME_BYTES];
} ThreadStart;

static void *run_thread(void *argument) {
    ThreadStart *start = argument;
    void *(*function)(void *) = start->function;
    argument = start->argument;
    if (!gp_slot_here && !gp_slot_gone && atomic_load_explicit(&gp_active, memory_order_relaxed))
        gp_slot_new(GP_SEEN_AT_BIRTH);
    Slot *slot = gp_slot();
    if (slot) {
        slot->record->parent_thread = start->parent_thread;
        memcpy(slot->record->name, start->name, start->name_bytes);
        slot->record->name_bytes = start->name_bytes;
    }
    free(start);
    return function(argument);
}

GP_EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *),
                             void *argument) {
    gp_need_real();
    gp_got_refresh();
    ThreadStart *start;
    if (!atomic_load_explicit(&gp_active, memory_order_relaxed) || !(start = malloc(sizeof *start)))
        return gp_real.pthread_create(thread, attributes, function, argument);
    Slot *slot = gp_slot();
    start->function = function;
    start->argument = argument;
    start->parent_thread = slot ? slot->thread : 0;
    start->name_bytes = slot ? gp_name_of_started(start->name) : 0;
    int result = gp_real.pthread_create(thread, attributes, run_thread, start);
    if (result)
        free(start);
    return result;
}
