/* --prove: freezes objects that the parent names, with the world stopped, and tells how far the program has got. Where
 * the build can defer an object's count (3.14 and later, objects the collector tracks) it does that instead: it is what
 * the program itself could do.
 *
 * A thread of our own waits for the parent's word on a mapped page and writes PROGRESS records. The world is stopped by
 * PyUnstable_GC_VisitObjects, which calls us back while all other threads stand still at a safe point: none of them is
 * in the middle of a count. A frozen object is immortal to CPython (ob_tid 0, ob_ref_local 2^32-1, ob_ref_shared 0), is
 * not counted any more, and is never freed. */
#define _GNU_SOURCE
#include "core.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "python.h"
#include "real.h"

#define TICK_NS 5000000
#define TICKS_A_PROGRESS 10
#define TRIES 40
#define QUEUED 2u /* low bits of ob_ref_shared: the owner is about to merge the two counts */
#define FLAG_BITS 3u

static ProveControl *control;
static Slot own; /* no thread of the script's: it writes records and is in none of them */
static void (*visit_objects)(int (*)(void *, void *), void *);
static int (*defer_count)(void *); /* NULL before 3.14 */
static int (*gil_ensure)(void);
static void (*gil_release)(int);
static int (*is_initialized)(void), (*is_finalizing)(void);
static void *(*first_interpreter)(void), *(*next_interpreter)(void *);

static bool has_type(const ProveObject *wanted, uint64_t type) {
    char name[sizeof wanted->type_name] = "";
    uint64_t address;
    if (!gp_read_safely(&address, type + gp_python.type_name, 8))
        return false;
    for (uint32_t bytes = sizeof name - 1; bytes && !gp_read_safely(name, address, bytes);)
        bytes /= 2;
    return !strncmp(name, wanted->type_name, sizeof name - 1);
}

static enum FreezeResult freeze(ProveObject *wanted) {
    ObjectHead head;
    if (!gp_read_safely(&head, wanted->object, sizeof head) || !gp_type_of(&own, wanted->object, 0) ||
        !has_type(wanted, head.type))
        return GP_FREEZE_GONE;
    wanted->local = head.local;
    wanted->shared = head.shared;
    wanted->thread = head.thread;
    if (head.local == GP_IMMORTAL_LOCAL)
        return GP_FREEZE_WAS_IMMORTAL;
    if ((head.shared & FLAG_BITS) == QUEUED)
        return GP_FREEZE_QUEUED;
    if (defer_count && defer_count((void *)wanted->object))
        return GP_FREEZE_DEFERRED;
    ObjectHead *object = (ObjectHead *)wanted->object;
    __atomic_store_n(&object->thread, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&object->local, GP_IMMORTAL_LOCAL, __ATOMIC_RELAXED);
    __atomic_store_n(&object->shared, 0, __ATOMIC_RELAXED);
    return GP_FREEZE_DONE;
}

/* Called once, for any object, while the world stands still. */
static int world_stopped(void *object, void *argument) {
    (void)object;
    *(bool *)argument = true;
    for (uint32_t i = 0; i < control->count && i < GP_PROVE_MOST; i++) {
        ProveObject *wanted = &control->objects[i];
        if (wanted->result == GP_FREEZE_WAITING || wanted->result == GP_FREEZE_QUEUED)
            wanted->result = (uint32_t)freeze(wanted);
    }
    return 0;
}

static bool any_queued(void) {
    for (uint32_t i = 0; i < control->count && i < GP_PROVE_MOST; i++)
        if (control->objects[i].result == GP_FREEZE_QUEUED || control->objects[i].result == GP_FREEZE_WAITING)
            return true;
    return false;
}

static void nap(void) {
    struct timespec tick = {0, TICK_NS};
    gp_syscall6(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (long)&tick, 0, 0, 0);
}

static void write_frozen(uint64_t begin_ns, uint64_t end_ns) {
    for (uint32_t i = 0; i < control->count && i < GP_PROVE_MOST; i++) {
        const ProveObject *object = &control->objects[i];
        FreezeRecord *record = gp_record_begin(&own, GP_FREEZE, sizeof *record);
        if (!record)
            return;
        record->object = object->object;
        record->result = object->result;
        record->type_id = gp_type_of(&own, object->object, 0);
        record->local = object->local;
        record->shared = object->shared;
        record->owner = object->thread;
        gp_record_done(&own);
    }
    StopRecord *record = gp_record_begin(&own, GP_STOP, sizeof *record);
    if (!record)
        return;
    record->begin_ns = begin_ns;
    record->end_ns = end_ns;
    gp_record_done(&own);
}

/* Only the main interpreter's threads are stopped: another's might be in the middle of a count. */
static bool subinterpreters(void) { return next_interpreter(first_interpreter()) != NULL; }

static void obey(void) {
    uint64_t begin_ns = gp_now();
    bool stopped = false;
    for (int i = 0; i < TRIES && is_initialized() && !is_finalizing() && !subinterpreters(); i++) {
        int state = gil_ensure();
        visit_objects(world_stopped, &stopped);
        gil_release(state);
        if (!any_queued())
            break;
        nap();
    }
    if (stopped)
        write_frozen(begin_ns, gp_now());
    /* Release: pairs with the parent's read of `done`, after which it reads the results. */
    __atomic_store_n(&control->done, stopped ? 1u : 2u, __ATOMIC_RELEASE);
}

static void write_progress(void) {
    uint64_t allocations = 0, io_calls = 0, spans = 0;
    for (Slot *slot = gp_slots_all(); slot; slot = slot->next_all) {
        allocations += slot->heap_turns;
        io_calls += slot->record->quick_io_count;
        spans += slot->spans.ended;
    }
    struct timespec cpu;
    gp_syscall3(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, &cpu, 0);
    ProgressRecord *record = gp_record_begin(&own, GP_PROGRESS, sizeof *record);
    if (!record)
        return;
    record->time_ns = gp_now();
    record->cpu_ns = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
    record->allocations = allocations;
    record->io_calls = io_calls;
    record->spans = spans;
    gp_record_done(&own);
}

static void *attend(void *argument) {
    (void)argument;
    gp_slot_here = &own; /* busy: its own calls pass through every hook */
    for (uint32_t tick = 0; atomic_load_explicit(&gp_active, memory_order_relaxed); tick++) {
        nap();
        if (tick % TICKS_A_PROGRESS == 0)
            write_progress();
        /* Acquire: pairs with the parent's store, after which the objects it names are whole. */
        if (__atomic_load_n(&control->command, __ATOMIC_ACQUIRE) == 1 && !control->done) {
            write_progress();
            obey();
            write_progress();
        }
    }
    return NULL;
}

static bool map_control(void) {
    char path[sizeof gp_options.folder + 16];
    snprintf(path, sizeof path, "%s.control", gp_options.folder);
    long fd = gp_syscall6(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0, 0, 0);
    if (fd < 0)
        return false;
    long address = gp_syscall6(SYS_mmap, 0, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    gp_syscall3(SYS_close, fd, 0, 0);
    if (address < 0 && address > -4096)
        return false;
    control = (ProveControl *)address;
    /* Children of the script are given our options too: only the first process is proved on. */
    uint32_t taker = 0;
    return __atomic_compare_exchange_n(&control->pid, &taker, gp_header->pid, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED) ||
           taker == gp_header->pid; /* it has run another program by exec */
}

void gp_prove_setup(void) {
    if (!gp_options.prove || !gp_python.free_threaded || !map_control())
        return;
    visit_objects = (void (*)(int (*)(void *, void *), void *))dlsym(RTLD_DEFAULT, "PyUnstable_GC_VisitObjects");
    defer_count = (int (*)(void *))dlsym(RTLD_DEFAULT, "PyUnstable_Object_EnableDeferredRefcount");
    gil_ensure = (int (*)(void))dlsym(RTLD_DEFAULT, "PyGILState_Ensure");
    gil_release = (void (*)(int))dlsym(RTLD_DEFAULT, "PyGILState_Release");
    is_initialized = (int (*)(void))dlsym(RTLD_DEFAULT, "Py_IsInitialized");
    is_finalizing = (int (*)(void))dlsym(RTLD_DEFAULT, "Py_IsFinalizing");
    first_interpreter = (void *(*)(void))dlsym(RTLD_DEFAULT, "PyInterpreterState_Head");
    next_interpreter = (void *(*)(void *))dlsym(RTLD_DEFAULT, "PyInterpreterState_Next");
    if (!first_interpreter || !next_interpreter || !visit_objects || !gil_ensure || !gil_release || !is_initialized ||
        !is_finalizing)
        return;
    own.busy = 1;
    own.index = UINT32_MAX;
    own.record = &own.scratch;
    own.sampler_fd = -1;
    gp_index_clear(&own.waits);
    gp_index_clear(&own.stacks);
    gp_index_clear(&own.types);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    if (!gp_real.pthread_create(&thread, NULL, attend, NULL))
        pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- how far a thread has got: mimalloc's heartbeat, which counts how often it had to look for free blocks */

#define FURTHEST_HEAPS 4096u
#define FURTHEST_TLD (64u << 10)

/* _PyThreadStateImpl.mimalloc is {current_object_heap; heaps[]; tld; ...}; each heap begins with a pointer to tld, and
 * tld with the heartbeat (CPython Include/internal/pycore_mimalloc.h and mimalloc/types.h, 3.13 to 3.15). */
static uint64_t heartbeat_of(uint64_t state) {
    for (uint64_t at = state + 64; at < state + FURTHEST_HEAPS; at += 8) {
        uint64_t words[2], first;
        if (!gp_read_safely(words, at, sizeof words))
            return 0;
        if (words[0] < at + 8 || words[0] >= state + FURTHEST_TLD || words[1] <= words[0] ||
            words[1] >= state + FURTHEST_TLD)
            continue;
        if (gp_read_safely(&first, words[0], 8) && first == words[1])
            return words[1] - state;
    }
    return 0;
}

/* In the sampler's handler, in the thread itself. */
void gp_prove_sample(Slot *slot) {
    static _Atomic uint64_t offset; /* 0 = not looked for yet */
    uint64_t state = gp_python.known ? (uint64_t)gp_python.thread_state() : 0;
    if (!state)
        return;
    uint64_t at = atomic_load_explicit(&offset, memory_order_relaxed);
    if (!at) {
        at = heartbeat_of(state);
        if (!at)
            return;
        atomic_store_explicit(&offset, at, memory_order_relaxed);
    }
    uint64_t now = *(const volatile uint64_t *)(state + at);
    bool same = slot->heap_state == state && now >= slot->heap_heartbeat;
    slot->heap_turns += same ? now - slot->heap_heartbeat : now;
    slot->heap_state = state;
    slot->heap_heartbeat = now;
}
