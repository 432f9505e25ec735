/* The recorder's own state: one slot a thread, nothing shared between threads on a hot path. */
#ifndef GILPROBE_CORE_H
#define GILPROBE_CORE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

#include "format.h"

#define GP_HIDDEN __attribute__((visibility("hidden")))
#define GP_EXPORT __attribute__((visibility("default")))
#define GP_TLS __thread __attribute__((tls_model("initial-exec")))
#define GP_RARE(condition) __builtin_expect(!!(condition), 0)

#pragma GCC visibility push(hidden)

typedef struct {
    uint64_t hash; /* 0 = free */
    uint64_t value;
} IndexEntry;

/* Open addressing, keyed by a 64-bit hash that stands for the key. Grows by mmap. */
typedef struct {
    IndexEntry *entries;
    uint32_t capacity; /* a power of two */
    uint32_t used;
    IndexEntry first[64];
} Index;

typedef struct {
    ChunkHeader *chunk; /* NULL until there is room */
    uint32_t used;      /* payload bytes */
    uint32_t capacity;
    uint64_t retry_ns; /* no room: do not try again before */
} Cursor;

typedef struct {
    uint64_t start_ns;                /* 0 = no burst */
    uint64_t start_ticks, last_ticks; /* a yield is too short to read the slower clock around it */
    uint64_t ready_ticks;             /* of which another thread had the core */
    uint64_t gap_ticks, yield_ticks;  /* BURST_GAP_NS, YIELD_NS (waits.c) */
    uint64_t caller;
    uint64_t address; /* of the PyMutex, 0 = not known */
    uint32_t yields;
    uint32_t stack_id;
} SpinBurst;

typedef struct {
    uint64_t start_ns;
    uint64_t address;      /* of the thing waited for, as the report names it */
    const void *posted_at; /* where its releaser posts */
    uint64_t spin_ns;
    uint64_t ready_ns; /* in the spin, but without a core */
    uint32_t yields;
    uint32_t stack_id;
    uint32_t type_id;
    uint8_t op;
    uint8_t subject;
    uint16_t flags;
    uint32_t look_weight;                    /* 0 = not looked at: see looks.c */
    bool lookable;                           /* it might have been */
    uint64_t look_cpu_ns, look_run_delay_ns; /* the thread's at the wait's begin, then what the wait took of each */
    uint64_t look_ready_ns;                  /* ready_ns when the look began */
} OpenWait;

/* One of the timed waits that together are a wait for the GIL. */
typedef struct {
    uint64_t start_ns, end_ns;
    uint64_t ready_ns; /* from when it could have gone on until it did */
    uint32_t ahead;    /* waiters that came before */
} GilSlice;

/* A thread's waits lately. */
typedef struct {
    uint32_t wait_ns;
    int32_t delay_ns;   /* of it, without a core and not known from posts; of those that were looked at (looks.c) */
    uint64_t square_ns; /* of how far from it they lie: they may lie far off now and then */
} Usual;

/* Handlers of the script's that ran in a thread; interrupting: those without SA_RESTART; own: the sampler's. */
typedef struct {
    volatile uint32_t any;
    volatile uint32_t interrupting;
    volatile uint32_t own;
} HandledSignals;

#define GP_SPAN_DEPTH 32

typedef struct {
    uint64_t hash; /* of its name */
    SpanRecord *record;
    uint64_t start_ns;
    uint64_t cpu_ns;
    uint64_t run_delay_ns;
    uint64_t faults;
} OpenSpan;

#define GP_HOLDS_KEPT 8
#define GP_LEAST_HOLD_TICKS 2000000u /* 0.5 to 2 ms: shorter holds are not looked at */

typedef struct {
    uint64_t least_ticks; /* shorter holds cannot get in */
    uint64_t blocked_ns;  /* within the hold that goes on */
    uint64_t blocked_most_ns;
    uint32_t blocked_stack_id;
    uint32_t count;
    LongHoldRecord *kept[GP_HOLDS_KEPT]; /* in the file */
} LongHolds;

typedef struct {
    volatile uint32_t current; /* id of the innermost span, 0 = none */
    uint32_t depth;
    uint32_t too_deep; /* begun beyond GP_SPAN_DEPTH, and not ended */
    uint64_t read_ns;  /* of the two below */
    uint64_t run_delay_ns;
    uint64_t faults;
    uint64_t ended;    /* in all threads that this slot has served */
    SpanRecord *other; /* for those that found no room */
    Index known;
    OpenSpan open[GP_SPAN_DEPTH];
} Spans;
/* What the watchdog saw of a thread at its last check. */
typedef struct {
    uint64_t wait_id;
    uint32_t since; /* the check that first saw this same wait */
    uint8_t stall_told;
} WatchSeen;

typedef struct Slot {
    uint32_t index;
    uint32_t thread;
    ThreadRecord *record; /* in the file, or `scratch` when there was no room */
    uint32_t tid;
    union {
        struct {
            volatile uint8_t busy;    /* inside the recorder: a signal handler's hooks pass through */
            volatile uint8_t blocked; /* inside a recorded wait: nested ones pass through */
            volatile uint8_t vforked; /* a vfork child may be running on our memory */
            volatile uint8_t over;    /* the recording has ended */
            volatile uint8_t unkeyed; /* made in a signal handler, where its end could not be provided for */
        };
        volatile uint64_t pass_through; /* any of them: one load on the hot paths */
    };
    uint32_t session; /* of the recording it belongs to */
    struct {
        uint64_t minor_faults, major_faults, voluntary_switches, involuntary_switches;
    } past; /* of the thread before it was recorded */
    HandledSignals handled;
    CudaUseRecord *cuda_use; /* of the context used last, NULL = none yet */
    uint32_t cuda_launches;
    uint32_t cuda_runtime_call; /* CUPTI's number of the runtime's launch that the thread is in, 0 = none */
    struct {
        uint32_t driver, runtime;
    } cuda_last; /* numbers of the last launch, 0 = none */
    uint8_t named;
    uint8_t spin_register;   /* which callee-saved register held the PyMutex last time */
    uint8_t io_slow;         /* the last hooked I/O call blocked: measure the next one fully */
    uint64_t gil_condition;  /* address of the GIL's `cond`; its switch_cond is 88 bytes on (GIL_SWITCH_OFFSET) */
    uint64_t unknown_signal; /* last condition signalled from the interpreter that was no known GIL's */
    uint64_t unknown_signal_ticks;
    uint64_t gave_way; /* voluntary context switches, after its last long I/O call */
    Usual usual[2];    /* waits for another thread, for I/O */
    uint32_t look_random;
    uint32_t run_delay_asked;
    _Atomic int run_delay_fd; /* plus one; 0 = none */
    uint64_t run_delay_file;  /* which file that is */
    OpenWait gil_wait;        /* start_ns 0 = not waiting */
    GilSlice gil_slice;
    LongHolds long_holds;
    SpinBurst spin;
    Spans spans;
    Cursor records, events, samples, span_events, gpu_work, gpu_marks, gil_holds;
    GilHoldRecord *last_hold; /* in the file; still its chunk's last */
    Index waits, stacks, types, lock_holds;
    ThreadRecord scratch;
    _Atomic(struct Slot *) next_free;
    struct Slot *next_all;
    _Atomic bool in_use;
    int sampler_fd;
    _Atomic int counter_fd;                          /* plus one; 0 = none */
    _Atomic uint64_t sampler;                        /* sampler.h: how it is sampled */
    uint64_t heap_state, heap_heartbeat, heap_turns; /* prove.c */
    struct LockThread *lock_thread;                  /* the watchdog's (watch.h), NULL while it has none */
    volatile uint64_t last_pc;                       /* of the last sample */
    uint64_t state;                                  /* the PyThreadState when the thread was first seen with one */
    WatchSeen seen;                                  /* while there is no lock_thread */
} Slot;

typedef struct {
    bool events;
    bool prove;
    bool holds; /* every hold of the GIL with its times */
    uint32_t rate_hz;
    int sampler;        /* 0 auto, 1 perf, 2 timer */
    bool counter_given; /* an event to count for each thread, in place of the processor's */
    uint32_t counter_type;
    uint64_t counter_config;
    bool cuda;
    uint32_t cuda_raw; /* so many of CUPTI's records are kept as they come */
    char cupti[768];   /* libcupti's path; empty: look for one */
    char folder[3072];
} Options;

extern GP_TLS Slot *gp_slot_here;
extern GP_TLS bool gp_slot_gone;
extern _Atomic bool gp_active;
extern Options gp_options;
extern FileHeader *gp_header;

/* clock */
static inline uint64_t gp_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

extern bool gp_ticks_are_ns;

static inline uint64_t gp_ticks(void) {
    if (GP_RARE(gp_ticks_are_ns))
        return gp_now();
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* Both clocks at one moment: what lies between them scales every figure in ticks, so a reading that was interrupted is
 * taken again. */
static inline void gp_clock_pair(uint64_t *ns, uint64_t *ticks) {
    uint64_t before, after;
    int tries = 0;
    do {
        before = gp_ticks();
        *ns = gp_now();
        after = gp_ticks();
    } while (after - before > 20000u && ++tries < 4);
    *ticks = before + (after - before) / 2;
}

/* A system call that no hook sees and that leaves errno alone; negative errno on failure. */
static inline long gp_syscall6(long number, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#define gp_syscall3(number, a, b, c) gp_syscall6(number, (long)(a), (long)(b), (long)(c), 0, 0, 0)

static inline uint64_t gp_thread_cpu_ns(void) {
    struct timespec t;
    gp_syscall3(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &t, 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Two odd factors: small numbers, as words and as the first hash, must not meet in one exclusive or. */
static inline uint64_t gp_mix(uint64_t hash, uint64_t word) {
    hash = (hash * 0xC2B2AE3D27D4EB4Fu ^ word) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
}

/* file.c: the file, its extents and chunks */
bool gp_file_open(bool forked);
void gp_file_none(void); /* the process is not recorded: gp_header is only memory */
ChunkHeader *gp_chunk_new(uint32_t slot, enum ChunkKind kind, uint32_t bytes);
void *gp_memory(size_t bytes);
void gp_file_forget(void);
void gp_lose(Slot *slot, int error);
/* Room for one record, zeroed, its head filled in; NULL when there is none (counted). gp_record_done makes it readable.
 */
void *gp_record_begin(Slot *slot, enum RecordType type, size_t bytes);
void gp_record_done(Slot *slot);
void *gp_array_begin(Slot *slot, Cursor *cursor, enum ChunkKind kind, uint32_t bytes);
void gp_array_done(Cursor *cursor, uint32_t bytes);
void gp_meta(Slot *slot, const char *key, const char *value, size_t value_bytes);

/* index.c */
void gp_index_clear(Index *index);
IndexEntry *gp_index_find(Index *index, uint64_t hash);
IndexEntry *gp_index_insert(Index *index, uint64_t hash); /* NULL when it cannot grow */

/* machine.c */
void gp_machine_read(uint64_t *busy_ns, uint64_t *stolen_ns);

/* slots.c: threads */
enum FirstSeen { GP_SEEN_AT_BIRTH, GP_SEEN_LATER, GP_SEEN_IN_SIGNAL };
Slot *gp_slot_new(enum FirstSeen seen);
void gp_slot_release(void *slot);
void gp_slots_forked(void);
void gp_slots_finish(uint64_t now_ns);
void gp_slots_setup(void);
void gp_read_kernel(Slot *slot, uint64_t now_ns);

/* Numbers of files that stay open begin here: the program's own keep theirs. */
#define GP_HIGH_DESCRIPTOR 200

/* run_delay.c */
uint64_t gp_run_delay(Slot *slot);
void gp_run_delay_close(Slot *slot);
void gp_run_delay_close_all(void);

/* proc.c */
long gp_open_task(uint32_t tid, const char *file);
uint64_t gp_task_file(uint32_t tid, const char *file);
uint64_t gp_file_of(long fd);
size_t gp_read_text(long fd, char *text, size_t room);
size_t gp_read_task(uint32_t tid, const char *file, char *text, size_t room);
uint64_t gp_number(const char **text);
void gp_schedstat(const char *text, uint64_t *cpu_ns, uint64_t *run_delay_ns);
bool gp_read_schedstat(uint32_t tid, uint64_t *cpu_ns, uint64_t *run_delay_ns);

Slot *gp_slots_all(void);
uint64_t gp_slots_changed(void);
Slot *gp_slot_unlisted(void);            /* for records of a thread that is not reported on */
extern _Atomic uint32_t gp_live_threads; /* that we have seen and that have not ended */
bool gp_slot_usable(Slot *slot);
Slot *gp_slot_in_signal(void);
void gp_slots_begin(void);
uint32_t gp_tasks(uint32_t *tids, uint32_t room); /* threads of this process that the kernel knows */
extern uint32_t gp_session;                       /* counts the recordings of this process */

/* The slot of the calling thread, or NULL where hooks must pass through. */
static inline Slot *gp_slot(void) {
    Slot *slot = gp_slot_here;
    if (GP_RARE(!slot)) {
        if (!atomic_load_explicit(&gp_active, memory_order_relaxed) || gp_slot_gone)
            return NULL;
        slot = gp_slot_new(GP_SEEN_LATER);
        if (!slot)
            return NULL;
    }
    if (GP_RARE(slot->pass_through) && !gp_slot_usable(slot))
        return NULL;
    return slot;
}

/* python.c: where this interpreter keeps what */
void gp_python_setup(void);
extern uint64_t gp_python_text, gp_python_text_bytes; /* the image that holds the interpreter */
static inline bool gp_from_python(void *return_address) {
    return (uint64_t)return_address - gp_python_text < gp_python_text_bytes;
}

/* frames.c: stacks, code objects */
uint32_t gp_stack_here(Slot *slot, void *return_address);
uint32_t gp_stack_in_signal(Slot *slot); /* of the interrupted code: no frame is trusted, no native frames */
void gp_images_write(Slot *slot);
void gp_frames_forked(void);
extern _Atomic uint32_t gp_generation; /* counts the files this process has begun: ids of older ones are stale */

/* types.c */
uint32_t gp_type_of(Slot *slot, uint64_t object, uint64_t known);
bool gp_is_thread_lock(void *caller);
enum Subject gp_parked_on(Slot *slot, uint64_t address, bool timed, uint32_t *type_id);

/* Of one frame, known by its code object and instruction; 0 where that is no code object any more. */
uint32_t gp_stack_of_frame(Slot *slot, uint64_t code, uint32_t offset);

/* names.c */
void gp_name_thread(Slot *slot, const char *frame);
void gp_name_other_thread(Slot *slot);
uint32_t gp_name_by_frame(const char *frame, char text[GP_NAME_BYTES]);
uint32_t gp_name_of_started(char text[GP_NAME_BYTES]);

/* edges.c: who ended the wait */
#define GP_POSTS_KEPT 12
typedef struct {
    _Alignas(64) _Atomic uint32_t waiters;
    _Atomic uint32_t sequence; /* odd while being written */
    _Atomic uint64_t address;
    _Atomic uint64_t posted_ns;
    _Atomic uint64_t releaser;                /* thread << 32 | stack id */
    _Atomic uint64_t posts_ns[GP_POSTS_KEPT]; /* of the last posts; the oldest is at (sequence / 2) % GP_POSTS_KEPT */
} Bucket;
#define GP_BUCKET_BITS 12
extern Bucket gp_buckets[1 << GP_BUCKET_BITS];
static inline Bucket *gp_bucket(const void *address) {
    return &gp_buckets[((uint64_t)address >> 2) * 0x9E3779B97F4A7C15u >> (64 - GP_BUCKET_BITS)];
}
void gp_post(const void *address, void *return_address);
static inline bool gp_is_waited_for(const void *address) {
    /* Relaxed: a waiter raises the counter before it blocks, and the poster's call that wakes it comes after. */
    return GP_RARE(atomic_load_explicit(&gp_bucket(address)->waiters, memory_order_relaxed));
}
static inline void gp_post_check(const void *address, void *return_address) {
    if (gp_is_waited_for(address))
        gp_post(address, return_address);
}
bool gp_posted(const void *address, uint64_t since_ns, uint64_t *posted_ns, uint64_t *releaser);
uint64_t gp_posted_after(const void *address, uint64_t since_ns, uint32_t ahead);
void gp_edges_forked(void);

/* waits.c */
void gp_wait_open(Slot *slot, OpenWait *wait, const void *posted_at, uint32_t stack_id);
void gp_wait_close(Slot *slot, OpenWait *wait);
void gp_wait_cancel(Slot *slot, const OpenWait *wait);
void gp_wait_drop(const OpenWait *wait);
void gp_wait_add(Slot *slot, const OpenWait *wait, uint64_t end_ns, uint64_t posted_ns, uint64_t releaser);
void gp_spin_close(Slot *slot);
void gp_spin_take_over(Slot *slot, OpenWait *wait);
void gp_spin_yielded(Slot *slot, uint64_t start_ticks, uint64_t end_ticks, void *caller, const uint64_t *registers);

/* looks.c: what the kernel says of some waits */
void gp_look_begin(Slot *slot, OpenWait *wait);
void gp_look_end(Slot *slot, OpenWait *wait, uint64_t duration_ns);
void gp_look_add(Slot *slot, WaitRecord *record, const OpenWait *wait, uint64_t wake_ns);
static inline bool gp_is_io(uint8_t op) { return op >= GP_OP_SLEEP; }

/* spans.c */
void gp_spans_clear(Slot *slot);
void gp_spans_close(Slot *slot, uint64_t now_ns);

/* long_holds.c */
void gp_long_holds_clear(Slot *slot);
void gp_long_hold(Slot *slot, uint64_t since, uint64_t ticks, void *caller);

/* collecting.c */
extern const int *_Atomic gp_gc_flag;    /* the interpreter's; NULL: not known */
extern _Atomic uint32_t gp_gc_collector; /* the thread that collects; 0 = not known to have let another one run */
void gp_gc_learn(void);
void gp_gc_let_go(const Slot *slot);
/* The calling thread gives the GIL away. */
static inline void gp_gc_gil_dropped(const Slot *slot) {
    const int *flag = atomic_load_explicit(&gp_gc_flag, memory_order_relaxed);
    if (GP_RARE(flag && (__atomic_load_n(flag, __ATOMIC_RELAXED) ||
                         atomic_load_explicit(&gp_gc_collector, memory_order_relaxed))))
        gp_gc_let_go(slot);
}
void gp_gc_world_stopped(const Slot *slot);
bool gp_gc_here(const Slot *slot);
void gp_gc_forget(void);

/* gil.c */
#define GIL_SWITCH_OFFSET 88 /* sizeof(pthread_cond_t) + sizeof(pthread_mutex_t): CPython struct _gil_runtime_state */
void gp_gil_signalled_first(Slot *slot, uint64_t condition, void *caller);
void gp_gil_waited(Slot *slot);
void gp_gil_add_hold(Slot *slot, uint64_t since, uint64_t ticks);

static inline void gp_gil_taken(Slot *slot, uint64_t ticks) {
    slot->record->gil_since_ticks = ticks;
    if (GP_RARE(slot->long_holds.blocked_ns))
        slot->long_holds.blocked_ns = slot->long_holds.blocked_most_ns = slot->long_holds.blocked_stack_id = 0;
    if (GP_RARE(slot->gil_wait.start_ns))
        gp_gil_waited(slot);
}

static inline void gp_gil_dropped(Slot *slot, uint64_t ticks, void *caller) {
    ThreadRecord *record = slot->record;
    uint64_t since = record->gil_since_ticks;
    if (GP_RARE(!since)) {
        /* It waited for a GIL that was turned off meanwhile, which free-threaded builds do after each import of a C
         * extension: it passes the signal on and goes its way without (CPython Python/ceval_gil.c, take_gil). */
        if (slot->gil_wait.start_ns)
            gp_gil_waited(slot);
        return;
    }
    record->gil_held_ticks += ticks - since;
    record->gil_holds++;
    record->gil_since_ticks = 0;
    gp_gc_gil_dropped(slot);
    if (GP_RARE(ticks - since > slot->long_holds.least_ticks))
        gp_long_hold(slot, since, ticks, caller);
    if (GP_RARE(gp_options.holds))
        gp_gil_add_hold(slot, since, ticks);
}

/* A condition variable was signalled: maybe one of this thread's GIL. */
static inline void gp_gil_signalled(Slot *slot, uint64_t condition, void *caller) {
    uint64_t gil = slot->gil_condition;
    if (condition == gil)
        gp_gil_dropped(slot, gp_ticks(), caller);
    else if (gil && condition == gil + GIL_SWITCH_OFFSET)
        gp_gil_taken(slot, gp_ticks());
    else
        gp_gil_signalled_first(slot, condition, caller);
}

uint64_t gp_gil_first(void);
bool gp_gil_condition(Slot *slot, uint64_t condition, void *caller, bool timed);
void gp_gil_wait_begin(Slot *slot, uint64_t condition, void *caller);
void gp_gil_slice_end(Slot *slot, uint64_t condition, const struct timespec *deadline, bool timed_out);

/* atomics_x86_64.c */
uint64_t gp_atomic_address(uint64_t pc, const uint64_t *registers);
uint64_t gp_replaced_base(uint64_t pc, const uint64_t *registers, uint32_t *back);

/* counter.c */
void gp_counter_setup(void);
void gp_counter_start(Slot *slot);
void gp_counter_stop(Slot *slot);
void gp_counter_forked(Slot *slot);

/* sampler.c */
bool gp_is_sampler_signal(int number, int code);
void gp_sampler_setup(void);
void gp_sampler_start(Slot *slot, bool fresh);
void gp_sampler_stop(Slot *slot);
void gp_sampler_forked(void);
void gp_sampler_greet(void);
void gp_sampler_stop_all(void);
void gp_sampler_before_exec(void);
void gp_sampler_exec_failed(void);

void gp_sampler_refused(void);
bool gp_sampler_sigaction(int number, const struct sigaction *action, struct sigaction *old);

/* signals.c */
int gp_real_sigaction(int number, const struct sigaction *action, struct sigaction *old);
void gp_signals_guard(void);
void gp_signals_take_over(void);
void gp_signals_give_back(void);

/* got.c */
uint32_t gp_got_patch(void);
uint32_t gp_got_restore(void);
void gp_got_refresh(void);

/* inside.c */
bool gp_is_preloaded(void);
GP_EXPORT int gilprobe_start(const char *folder, const char *options);
GP_EXPORT int gilprobe_stop(void);

/* prove.c */
void gp_prove_setup(void);
void gp_prove_sample(Slot *slot);
/* cupti.c */
void gp_cuda_flush(void);
void gp_cuda_forked(void);

/* start.c */
void gp_clock_setup(void);
void gp_finish(enum EndKind kind);
int gp_start_inside(const char *folder, const char *options);
extern char gp_preload_path[]; /* of this library; empty when not preloaded */
extern char gp_recording_variable[], gp_options_variable[];

#pragma GCC visibility pop
#endif
