/* Timers on the CPU clocks of threads. A new thread gets its own only when the process has computed for a while since:
 * most short ones end before, and a timer is three system calls. */
#define _GNU_SOURCE
#include "core.h"

#include <signal.h>
#include <string.h>

#include "sampler.h"

/* Of the process's CPU time, until the census. Less than the first sample, which comes at the thread's first period. */
#define CENSUS_NS 5000000
/* A census is taken in a signal handler: many threads are dealt with in several. */
#define MOST_AT_ONCE 64
#define MOST_GREETED 4096
#define ONE_SECOND_NS 1000000000u

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static struct {
    _Atomic uint32_t tid; /* 0 = adopted by the thread's slot */
    int timer;
} greeted[MOST_GREETED];
static uint32_t greeted_count;

static const char census_mark; /* its address comes with the census's signal */
static int census_timer = -1;
static _Atomic bool census_due;

/* The kernel's clock of another thread (linux/posix-timers.h, MAKE_THREAD_CPUCLOCK with CPUCLOCK_SCHED). */
static clockid_t clock_of(uint32_t tid) { return (clockid_t)(~tid << 3 | 6); }

/* On the CPU clock of a thread of this process, first at the clock's next period; its id, or -1. */
static int start_timer(uint32_t tid, clockid_t clock, bool from_birth) {
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = GP_SAMPLER_SIGNAL;
    event.sigev_notify_thread_id = (pid_t)tid;
    int id;
    if (gp_syscall3(SYS_timer_create, clock, &event, &id) < 0)
        return -1;
    uint64_t period_ns = ONE_SECOND_NS / gp_options.rate_hz;
    struct timespec period = {(time_t)(period_ns / ONE_SECOND_NS), (long)(period_ns % ONE_SECOND_NS)};
    struct itimerspec both = {period, period};
    gp_syscall6(SYS_timer_settime, id, from_birth ? TIMER_ABSTIME : 0, (long)&both, 0, 0, 0);
    gp_header->flags |= GP_HEADER_SAMPLED_TIMER;
    return id;
}

static int adopt(uint32_t tid) {
    for (uint32_t i = 0; i < greeted_count; i++) {
        uint32_t expected = tid;
        if (atomic_compare_exchange_strong(&greeted[i].tid, &expected, 0))
            return greeted[i].timer;
    }
    return -1;
}

bool gp_timer_adopt(Slot *slot) {
    int id = adopt(slot->tid);
    if (id >= 0)
        atomic_store(&slot->sampler, gp_timer_word(id));
    return id >= 0;
}

void gp_timer_start(Slot *slot) {
    int id = start_timer(slot->tid, CLOCK_THREAD_CPUTIME_ID, false);
    if (id >= 0)
        atomic_store(&slot->sampler, gp_timer_word(id));
}

static void call_census(void) {
    struct itimerspec once = {{0, 0}, {0, CENSUS_NS}};
    gp_syscall6(SYS_timer_settime, census_timer, 0, (long)&once, 0, 0, 0);
}

/* False: there is no census. */
bool gp_timer_later(Slot *slot) {
    if (census_timer < 0)
        return false;
    atomic_store(&slot->sampler, GP_SAMPLER_WAITS);
    /* Exchange: pairs with the one in gp_census, which looks at all slots after it. */
    if (!atomic_exchange(&census_due, true))
        call_census();
    return true;
}

/* In any thread, on the census's signal. */
void gp_census(void) {
    uint32_t left = MOST_AT_ONCE;
    atomic_exchange(&census_due, false);
    for (Slot *slot = gp_slots_all(); slot; slot = slot->next_all) {
        uint64_t expected = GP_SAMPLER_WAITS;
        if (atomic_load_explicit(&slot->sampler, memory_order_relaxed) != expected)
            continue;
        if (!left--) {
            if (!atomic_exchange(&census_due, true))
                call_census();
            return;
        }
        /* An own word for each: the slot may be another thread's by then, and wait for its own. */
        static _Atomic uint64_t attempts;
        uint64_t mine = GP_SAMPLER_STARTS | atomic_fetch_add(&attempts, 1) << 8;
        if (!atomic_compare_exchange_strong(&slot->sampler, &expected, mine))
            continue;
        /* Not before the exchange, which is with the thread that waits now, maybe not with the one seen above. */
        uint32_t tid = slot->tid;
        int id = start_timer(tid, clock_of(tid), true);
        /* Whoever ended meanwhile has left another word: the timer is nobody's. */
        if (!atomic_compare_exchange_strong(&slot->sampler, &mine, id < 0 ? GP_SAMPLER_NONE : gp_timer_word(id)) &&
            id >= 0)
            gp_syscall3(SYS_timer_delete, id, 0, 0);
    }
}

bool gp_is_census(const siginfo_t *info) { return info->si_code == SI_TIMER && info->si_ptr == &census_mark; }

void gp_census_setup(void) {
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = GP_SAMPLER_SIGNAL;
    event.sigev_value.sival_ptr = (void *)&census_mark;
    atomic_store(&census_due, false);
    if (gp_syscall3(SYS_timer_create, CLOCK_PROCESS_CPUTIME_ID, &event, &census_timer) < 0)
        census_timer = -1;
}

void gp_census_end(void) {
    if (census_timer >= 0)
        gp_syscall3(SYS_timer_delete, census_timer, 0, 0);
    census_timer = -1;
}

/* Threads that were there before the recording, and may compute on without ever calling a hook: a timer of ours on
 * their clock brings them its signal. */
void gp_timers_greet(void) {
    static uint32_t tids[MOST_GREETED];
    uint32_t count = gp_tasks(tids, MOST_GREETED);
    greeted_count = 0;
    for (uint32_t i = 0; i < count && i < MOST_GREETED; i++) {
        if (gp_slot_here && tids[i] == gp_slot_here->tid)
            continue;
        int timer = start_timer(tids[i], clock_of(tids[i]), false);
        if (timer < 0)
            continue;
        greeted[greeted_count].timer = timer;
        atomic_store(&greeted[greeted_count].tid, tids[i]);
        greeted_count++;
    }
}

void gp_timers_ungreet(void) {
    for (uint32_t i = 0; i < greeted_count; i++)
        if (atomic_exchange(&greeted[i].tid, 0))
            gp_syscall3(SYS_timer_delete, greeted[i].timer, 0, 0);
    greeted_count = 0;
}

/* A child of fork has none of its parent's. */
void gp_timers_forked(void) {
    greeted_count = 0;
    gp_census_setup();
}
