/* The watchdog's own state: which thread holds and wants which lock, told by the swapped methods of _thread.lock,
 * _thread.RLock and _thread._ThreadHandle. One LockThread a thread, written by that thread alone. */
#ifndef GILPROBE_WATCH_H
#define GILPROBE_WATCH_H

#include <pthread.h>

#include "core.h"

#pragma GCC visibility push(hidden)

#define GP_PLACE_FRAMES 3
#define GP_MOST_HELD 48
#define GP_TOUCHED_BITS 9

/* The innermost Python frames at some moment: enough to name the line through threading.py's own wrappers. */
typedef struct {
    uint64_t code[GP_PLACE_FRAMES], instruction[GP_PLACE_FRAMES];
} Place;

enum LockKind { GP_LOCK = 1, GP_RLOCK = 2, GP_JOIN = 3 };

/* How a lock is asked for. */
enum AskFlags {
    GP_ASK_TRY = 1,   /* does not block */
    GP_ASK_TIMED = 2, /* gives up */
    GP_ASK_AGAIN = 4  /* a plain lock that this thread itself took and no one is known to have released */
};

typedef struct {
    uint64_t lock; /* 0 = free; also cleared by a thread that releases what another took */
    Place taken;
    uint32_t count;   /* of an RLock */
    uint32_t clock;   /* of births, when it was taken: a later lock at this address is another */
    uint8_t kind;     /* LockKind */
    uint8_t ask;      /* AskFlags */
    uint8_t internal; /* the standard library's own: a thread's end, a waiter's signal, an import's */
    uint32_t tick;    /* gp_watch_tick, when it was taken */
    uint32_t stack_id;
    uint64_t since_ns; /* 0 = this hold is not timed */
} Held;

/* Which of a thread's holds are timed (holds.c). */
typedef struct {
    uint32_t tick;       /* gp_watch_tick, when it last looked */
    uint32_t until;      /* so many more are not timed */
    uint32_t from;       /* what `until` started with */
    uint32_t budget;     /* so many more may be timed one after the other before the next tick */
    uint32_t generation; /* of the file that `last` is in */
    uint32_t random;
    uint32_t recorded;    /* the thread's id in that file */
    LockHoldRecord *last; /* where the last timed one was counted; NULL = it has not ended */
    uint64_t last_ns;
} HoldTimer;

/* What the watchdog reads of every thread at every check comes first, in one cache line. */
typedef struct LockThread {
    struct LockThread *next_all; /* never changes */
    /* What it asks for now: written before `asked`, which is stored last (release), 0 = nothing. */
    uint64_t asked;
    uint64_t sequence; /* counts what it has asked for: an equal one means the same wait */
    uint8_t asked_kind, asked_how;
    uint8_t raise_error; /* set by the watchdog: end the wait by DeadlockError */
    uint8_t ghost;       /* what it holds stays held: it ended (1), or did not survive fork() (2) */
    _Atomic bool in_use;
    uint8_t need, whom, worker; /* the watchdog's, as is `condition`: of the wait `read_sequence` */
    Slot *slot;                 /* NULL where the process is not recorded */
    WatchSeen seen;
    /* up to here */
    uint64_t read_sequence, condition;
    uint64_t last_released;
    uint64_t wait_ns; /* when it last began to wait for a condition */
    uint32_t depth;
    uint64_t dropped;    /* takings that found no room in `held` */
    uint64_t plain_code; /* the last code object that was found to release other threads' locks by design */
    HoldTimer timer;
    Held held[GP_MOST_HELD];
    /* By the lock's hash: 32 bits of which lock was last taken there, and the clock of births then. */
    uint64_t touched[1 << GP_TOUCHED_BITS];
    uint64_t edge_cache[64];
    uint64_t state; /* PyThreadState when it was first seen */
    pthread_t pthread;
    uint32_t tid, number;
    char name[GP_NAME_BYTES];
    char module[96]; /* whose import it waits for */
} LockThread;

extern GP_TLS LockThread *gp_lock_thread;

enum OnDeadlock { GP_REPORT = 0, GP_RAISE = 1, GP_ABORT = 2 };

typedef struct {
    bool on;
    uint64_t limit_ns;
    enum OnDeadlock on_deadlock;
} WatchOptions;
extern WatchOptions gp_watch;

/* locks.c */
bool gp_locks_install(void);
void gp_locks_learn_types(void); /* with the GIL */
bool gp_is_stale(const Held *held);
void gp_locks_uninstall(void);
static inline uint32_t gp_touched_at(uint64_t lock) {
    return (uint32_t)((lock >> 4) * 0x9E3779B97F4A7C15u >> (64 - GP_TOUCHED_BITS));
}
/* Has the thread taken this lock, and not only an earlier one at its address? May say yes for no, never no for yes. */
bool gp_has_touched(const LockThread *thread, uint64_t lock);
/* May say no for yes, never yes for no. */
bool gp_has_surely_touched(const LockThread *thread, uint64_t lock);
bool gp_locks_watching(void);
void gp_locks_pause(bool pause);
void gp_place_here(Place *place);
bool gp_is_wait_code(uint64_t code);
extern _Atomic uint64_t gp_locks_dropped;

/* lock_threads.c */
LockThread *gp_lock_threads(void);
extern _Atomic uint32_t gp_lock_threads_changed; /* after one came or went */
LockThread *gp_lock_thread_new(void);            /* for this thread; NULL where it can have none */
void gp_lock_threads_setup(void);
void gp_locks_forked(void);

/* holds.c: how long locks are held */
void gp_hold_begin(LockThread *thread, Held *held);
void gp_hold_end(LockThread *thread, const Held *held);
void gp_holds_finish(Slot *slot);      /* those that have not ended, written to the slot of the caller */
extern _Atomic uint32_t gp_watch_tick; /* counts the watchdog's checks */

/* handed.c */
bool gp_lock_is_handed_over(uint64_t lock);
void gp_released_by_another(LockThread *thread, uint64_t lock);

/* notified.c */
void gp_asked_owner(uint64_t lock);
uint64_t gp_notified_before_ns(const LockThread *thread, uint64_t lock);

/* births.c */
void gp_born(uint64_t lock);
uint32_t gp_birth_of(uint64_t lock);
bool gp_birth_is_lost(uint64_t lock); /* it cannot be told from an earlier one at its address */
uint64_t gp_class_of(uint64_t lock);
void gp_birth_used(uint64_t lock, uint32_t thread_number);
bool gp_birth_is_shared(uint64_t lock); /* between threads, as far as it was taken inside or around others */
bool gp_made_at(uint64_t lock, Place *place);
void gp_learn_lock_type(uint64_t type);
void gp_births_uninstall(void);
extern _Atomic uint32_t gp_birth_clock; /* counts locks made */
extern _Atomic uint64_t gp_births_dropped;

/* order.c: which lock was taken while which was held */
void gp_order_taken(LockThread *thread, const Held *taken);
void gp_order_check(void);
void gp_order_reset(void);
extern _Atomic uint64_t gp_order_dropped;

/* watchdog.c */
void gp_watchdog_start(void);
void gp_watchdog_stop(void);
void gp_watchdog_before_fork(void);
void gp_watchdog_forked(void);
void gp_watchdog_finish(void);

/* story.c: told by one thread at a time */
bool gp_story_try(void);
void gp_story_done(void);
void gp_tell_state(void);
void gp_story_forked(void);

/* places.c: code objects as file, function and line, read from any thread */
typedef struct {
    char file[256], function[96];
    int32_t line, end_line, column, end_column;
} FrameText;
bool gp_frame_text(uint64_t code, uint64_t instruction, FrameText *out);
uint32_t gp_code_offset(uint64_t code, uint64_t instruction); /* bytes into the bytecode */
/* The frames of a thread that is blocked (or is not: then the best that can be had), innermost first. */
int gp_frames_of(uint64_t state, Place *places, int most, uint64_t *outermost);
bool gp_code_is(uint64_t code, const char *function, const char *file_end);
bool gp_source_line(const char *file, int32_t line, char *out, uint32_t room);

#pragma GCC visibility pop

void *gilprobe_deadlock_error(void);
#endif
