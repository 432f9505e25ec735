/* A native thread, which needs no GIL, looks at the wait-for graph ten times a second. */
#define _GNU_SOURCE
#include "graph.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "python.h"
#include "real.h"

#define SURE_ALONE_CHECKS 4
#define SURE_STILL_CHECKS 2
#define MOST_CYCLES 16
#define MOST_TOLD 256
#define SHARE_OF_CORE 0.0015 /* that resolving the graph may use in the long run */
#define BURST_NS 20000000    /* and as much more at once: what a deadlock among a thousand threads takes to be sure */
#define STACK_BYTES (512u << 10)

static Node nodes[GP_MOST_NODES];
static Graph graph;
static pthread_t watcher;
static _Atomic int running; /* 0 no, 1 yes, 2 asked to end; also the futex it sleeps on */
static uint64_t told[MOST_TOLD];
static uint32_t told_count, standstill_checks;
static bool standstill_told;
static int64_t owed_ns;     /* of CPU time */
static _Atomic bool paused; /* around fork() */

/* Signals other than SIGINT with the handler that SIGINT has: Python's own, so the program has handlers in Python. */
static bool python_handles_signals(void) {
    struct sigaction interrupt, other;
    bool known =
        !sigaction(SIGINT, NULL, &interrupt) && interrupt.sa_handler != SIG_DFL && interrupt.sa_handler != SIG_IGN;
    for (int number = 1; number < 32; number++) {
        if (number == SIGINT || sigaction(number, NULL, &other))
            continue;
        /* A background job ignores SIGINT. faulthandler's own handlers are the interpreter's, too. */
        bool fault = number == SIGSEGV || number == SIGFPE || number == SIGABRT || number == SIGBUS || number == SIGILL;
        if (known ? other.sa_handler == interrupt.sa_handler
                  : !fault && (uint64_t)other.sa_handler - gp_python_text < gp_python_text_bytes)
            return true;
    }
    return false;
}

static uint64_t cycle_print(const Cycle *cycle) {
    uint64_t print = 0; /* whichever member comes first */
    for (int i = 0; i < cycle->count; i++)
        print += gp_mix((uint64_t)(cycle->members[i] >= 0 ? (uint64_t)nodes[cycle->members[i]].thread : 0) ^
                            (uint64_t)nodes[cycle->members[i]].slot,
                        nodes[cycle->members[i]].wait_id);
    return print | 1;
}

static bool is_told(uint64_t print) {
    for (uint32_t i = 0; i < told_count && i < MOST_TOLD; i++)
        if (told[i] == print)
            return true;
    return false;
}

static void remember_told(uint64_t print) { told[told_count++ % MOST_TOLD] = print; }

/* The youngest of those that wait by a lock's or a join's method, which can raise. */
static void raise_in_one(const Cycle *cycle) {
    LockThread *chosen = NULL;
    for (int i = 0; i < cycle->count; i++) {
        LockThread *thread = nodes[cycle->members[i]].thread;
        if (thread && thread->asked && !thread->ghost && !(thread->asked_how & ~GP_ASK_AGAIN) &&
            (!chosen || thread->number > chosen->number))
            chosen = thread;
    }
    if (chosen)
        __atomic_store_n(&chosen->raise_error, 1, __ATOMIC_RELEASE);
}

static void act_on(const Cycle *cycle) {
    if (gp_watch.on_deadlock == GP_RAISE)
        raise_in_one(cycle);
    if (gp_watch.on_deadlock == GP_ABORT) {
        gp_finish(GP_END_QUICK_EXIT);
        gp_need_real();
        gp_real._exit(124);
    }
}

static bool is_contention(const Node *node) {
    return node->need != GP_NEED_NOTHING && node->need <= GP_NEED_WORLD && node->need != GP_NEED_JOIN;
}

static bool stalls(const Node *node, uint64_t limit_checks) {
    return !node->ghost && node->stable && node->checks >= limit_checks && is_contention(node) &&
           !gp_seen_of(node)->stall_told;
}

/* A lock that nobody has, and that many want, may have been given to one of them that has no core yet. Where hooks see
 * nothing, a thread that has got its lock in C and has no core yet looks as if it waited. A cycle that
 * rests on nobody else being able to help must stand longer there. */
static bool is_too_early(const Cycle *cycle) {
    bool guessed = false;
    for (int i = 0; i < cycle->count; i++) {
        const Node *member = &nodes[cycle->members[i]];
        if (member->whom == GP_ANYONE && graph.same < SURE_STILL_CHECKS)
            return true;
        guessed |= member->whom != GP_ONE && !member->slot;
    }
    for (int i = 0; guessed && i < graph.count; i++)
        if (!nodes[i].live && !nodes[i].ghost && nodes[i].checks < SURE_ALONE_CHECKS)
            return true;
    return false;
}

/* What comes after the name in /proc/.../stat: 'S' while the thread is blocked. */
static char kernel_state(const char *path) {
    char text[512], *state;
    long fd = gp_syscall6(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
    long got = fd < 0 ? 0 : gp_syscall3(SYS_read, fd, text, sizeof text - 1);
    if (fd >= 0)
        gp_syscall3(SYS_close, fd, 0, 0);
    text[got > 0 ? got : 0] = 0;
    return (state = strrchr(text, ')')) && state[1] ? state[2] : 0;
}

/* A thread that was woken and has no core yet looks to us as if it still waited, but the kernel knows. Who waits for a
 * lock that another holds needs no such look: its holder lets go of it before it is woken. */
static void let_woken_live(void) {
    for (int i = 0; i < graph.count; i++) {
        Node *node = &nodes[i];
        char path[64];
        if (node->live || node->ghost || (node->whom != GP_TOUCHED && node->whom != GP_ANYONE))
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%u/stat", node->slot ? node->slot->tid : node->thread->tid);
        if (kernel_state(path) != 'S')
            node->stable = false;
    }
}

static bool is_among(uint64_t print, const uint64_t *prints, int count) {
    for (int i = 0; i < count; i++)
        if (prints[i] == print)
            return true;
    return false;
}

static bool any_news(const Cycle *cycles, int count) {
    for (int i = 0; i < count; i++)
        if (!is_told(cycle_print(&cycles[i])))
            return true;
    return false;
}

static void find_deadlocks(void) {
    static Cycle cycles[MOST_CYCLES];
    graph.handlers = python_handles_signals();
    gp_graph_liveness(&graph);
    int count = gp_graph_cycles(&graph, cycles, MOST_CYCLES), found_count = 0;
    uint64_t found[MOST_CYCLES];
    if (any_news(cycles, count)) {
        /* The threads were looked at one after the other, and some may have gone on meanwhile: only what is there twice
         * was there at one moment. */
        for (; found_count < count; found_count++)
            found[found_count] = cycle_print(&cycles[found_count]);
        gp_graph_look_again(&graph);
        gp_graph_resolve(&graph);
        gp_graph_liveness(&graph);
        let_woken_live();
        gp_graph_liveness(&graph);
        count = gp_graph_cycles(&graph, cycles, MOST_CYCLES);
    }
    for (int i = 0; i < count; i++) {
        uint64_t print = cycle_print(&cycles[i]);
        if (is_too_early(&cycles[i]) || is_told(print) || !is_among(print, found, found_count))
            continue;
        remember_told(print);
        /* Said once is enough: no stall of the same wait. */
        for (int m = 0; m < cycles[i].count; m++)
            gp_seen_of(&nodes[cycles[i].members[m]])->stall_told = 1;
        standstill_told = true;
        gp_tell_deadlock(&graph, &cycles[i]);
        act_on(&cycles[i]);
    }
}

static void tell_stalls(uint64_t limit_checks, bool standstill_due) {
    for (int i = 0; i < graph.count; i++)
        if (stalls(&nodes[i], limit_checks)) {
            gp_seen_of(&nodes[i])->stall_told = 1;
            gp_tell_stall(&graph, i, nodes[i].checks * (uint64_t)GP_CHECK_NS);
        }
    if (standstill_due && !standstill_told) {
        standstill_told = true;
        gp_tell_standstill(&graph, standstill_checks * (uint64_t)GP_CHECK_NS);
    }
}

static void check(void) {
    uint64_t limit_checks = gp_watch.limit_ns / GP_CHECK_NS;
    bool all_wait = true, stall_due = false;
    gp_graph_fill(&graph, nodes);
    for (int i = 0; i < graph.count; i++) {
        all_wait &= nodes[i].ghost || (nodes[i].stable && nodes[i].whom != GP_NOBODY_NEEDED);
        /* Just now: longer ones are looked at whenever the graph is. */
        stall_due |= nodes[i].checks == limit_checks && stalls(&nodes[i], limit_checks);
    }
    standstill_checks = all_wait && graph.count ? standstill_checks + 1 : 0;
    if (!standstill_checks)
        standstill_told = false;
    bool standstill_due = standstill_checks >= limit_checks && !standstill_told;
    owed_ns -= owed_ns > 0 ? (int64_t)(GP_CHECK_NS * SHARE_OF_CORE) : 0;
    if (graph.any_waits && (!graph.unchanged || stall_due || standstill_due) && owed_ns < BURST_NS) {
        uint64_t start_ns = gp_thread_cpu_ns();
        uint32_t told_before = told_count;
        gp_graph_resolve(&graph);
        find_deadlocks();
        if (told_count == told_before) /* telling is dear, and seldom */
            owed_ns += (int64_t)(gp_thread_cpu_ns() - start_ns);
        tell_stalls(limit_checks, standstill_due);
    }
    gp_order_check();
    if (atomic_load_explicit(&gp_active, memory_order_relaxed)) { /* so that a process killed later has an end */
        gp_clock_pair(&gp_header->end_ns, &gp_header->end_ticks);
    }
}

/* A process whose main thread has ended (a fork in another thread) lives until its last thread ends: that must not be
 * this one. The ended main thread stays listed, as a zombie. */
static bool is_last_thread(void) {
    struct stat tasks;
    return !gp_syscall3(SYS_stat, "/proc/self/task", &tasks, 0) && tasks.st_nlink <= 4 &&
           kernel_state("/proc/self/stat") == 'Z';
}

static void *watch(void *unused) {
    (void)unused;
    gp_slot_gone = true; /* no hook records this thread */
    gp_syscall3(SYS_prctl, PR_SET_NAME, "gilprobe-watch", 0);
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    struct timespec pause = {0, GP_CHECK_NS};
    while (atomic_load(&running) == 1) {
        gp_syscall6(SYS_futex, (long)&running, FUTEX_WAIT_PRIVATE, 1, (long)&pause, 0, 0);
        if (is_last_thread())
            break;
        /* Relaxed: a thread that sees it late times its holds a little differently. */
        atomic_fetch_add_explicit(&gp_watch_tick, 1, memory_order_relaxed);
        if (atomic_load(&running) == 1 && gp_story_try()) {
            check();
            gp_story_done();
        }
    }
    return unused;
}

void gp_watchdog_start(void) {
    int stopped = 0;
    if (!gp_watch.on || !atomic_compare_exchange_strong(&running, &stopped, 1))
        return;
    paused = false;
    gp_need_real();
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* so that no signal of the script's is handled in it */
    if (gp_real.pthread_create(&watcher, &attributes, watch, NULL))
        atomic_store(&running, 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

void gp_watchdog_stop(void) {
    paused = false;
    gp_locks_pause(false);
    if (atomic_load(&running) != 1)
        return;
    atomic_store(&running, 2);
    gp_syscall3(SYS_futex, &running, FUTEX_WAKE_PRIVATE, 1);
    gp_real.pthread_join(watcher, NULL);
    atomic_store(&running, 0);
    if (gp_story_try()) {
        gp_order_check();
        gp_story_done();
    }
}

/* The recording ends: what the locks' order tells is written while there is still a file. */
void gp_watchdog_finish(void) {
    if (!gp_watch.on)
        return;
    if ((atomic_load(&running) == 1 && !pthread_equal(pthread_self(), watcher)) || paused) {
        gp_watchdog_stop();
        gp_tell_state();
    }
}

/* Python warns of fork() where the kernel counts two threads or more, after it. Where ours is the only other one it
 * ends, until a lock is next asked for: before that nobody can wait for a thread. */
void gp_watchdog_before_fork(void) {
    struct stat tasks;
    if (atomic_load(&running) != 1 || pthread_equal(pthread_self(), watcher) ||
        gp_syscall3(SYS_stat, "/proc/self/task", &tasks, 0) || tasks.st_nlink != 4)
        return;
    gp_watchdog_stop();
    paused = true;
    gp_locks_pause(true);
}

void gp_watchdog_forked(void) {
    if (!gp_watch.on)
        return;
    atomic_store(&running, 0);
    gp_locks_pause(false);
    told_count = standstill_checks = 0;
    standstill_told = false;
    owed_ns = 0;
    gp_locks_forked();
    gp_order_reset();
    gp_story_forked();
    gp_watchdog_start();
}
