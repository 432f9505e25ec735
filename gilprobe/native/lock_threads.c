/* The threads that use locks: made when one first does, and kept where an ended one still holds some. */
#define _GNU_SOURCE
#include "graph.h"

#include <string.h>

#include "python.h"

#define LINE_BYTES 64
#define COLOURS 64

GP_TLS LockThread *gp_lock_thread;
static GP_TLS bool lock_thread_gone;
static _Atomic(LockThread *) all_threads;
static _Atomic uint32_t next_number;
_Atomic uint32_t gp_lock_threads_changed;
static pthread_key_t end_of_thread;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

LockThread *gp_lock_threads(void) { return atomic_load_explicit(&all_threads, memory_order_acquire); }

static void keep_what_it_holds(LockThread *thread, uint8_t ghost) {
    thread->ghost = ghost;
    thread->asked = 0;
}

static void thread_ended(void *argument) {
    LockThread *thread = argument;
    gp_lock_thread = NULL;
    lock_thread_gone = true;
    if (thread->slot && thread->slot->lock_thread == thread)
        thread->slot->lock_thread = NULL;
    bool holds = false;
    for (uint32_t i = 0; i < thread->depth; i++) {
        if (thread->held[i].internal)
            thread->held[i].lock = 0;
        else
            holds |= thread->held[i].lock && thread->held[i].kind == GP_LOCK;
    }
    if (holds) /* its place is not used again, so that the report can say who took them */
        keep_what_it_holds(thread, 1);
    atomic_store_explicit(&thread->in_use, false, memory_order_release);
    atomic_fetch_add(&gp_lock_threads_changed, 1);
}

static void make_key(void) { pthread_key_create(&end_of_thread, thread_ended); }

static LockThread *reused(void) {
    for (LockThread *thread = gp_lock_threads(); thread; thread = thread->next_all) {
        bool free = false;
        if (!atomic_load_explicit(&thread->in_use, memory_order_relaxed) && !thread->ghost &&
            atomic_compare_exchange_strong(&thread->in_use, &free, true))
            return thread;
    }
    return NULL;
}

LockThread *gp_lock_thread_new(void) {
    if (lock_thread_gone)
        return NULL;
    LockThread *thread = reused();
    if (thread) {
        /* All but the chain, which the watchdog may be following, and the count of waits: never one it has seen. */
        atomic_store_explicit(&thread->in_use, false, memory_order_relaxed);
        thread->sequence++;
        thread->asked = 0;
        thread->raise_error = thread->need = thread->whom = thread->worker = 0;
        thread->slot = NULL;
        memset(&thread->seen, 0, sizeof *thread - offsetof(LockThread, seen));
    } else {
        /* Were they all at the start of a page, the watchdog's looks at them would share a few sets of the cache. */
        char *memory = gp_memory(sizeof *thread + COLOURS * LINE_BYTES);
        thread = memory ? (LockThread *)(memory + atomic_load(&next_number) % COLOURS * LINE_BYTES) : NULL;
        if (!thread) {
            lock_thread_gone = true;
            atomic_fetch_add(&gp_locks_dropped, 1);
            return NULL;
        }
        LockThread *head = atomic_load_explicit(&all_threads, memory_order_relaxed);
        do
            thread->next_all = head;
        while (!atomic_compare_exchange_weak_explicit(&all_threads, &head, thread, memory_order_release,
                                                      memory_order_relaxed));
    }
    thread->number = atomic_fetch_add(&next_number, 1) + 1;
    thread->tid = (uint32_t)gp_syscall3(SYS_gettid, 0, 0, 0);
    thread->pthread = pthread_self();
    thread->state = (uint64_t)gp_python.thread_state();
    if (atomic_load_explicit(&gp_active, memory_order_relaxed)) {
        thread->slot = gp_slot();
        if (!thread->slot)
            thread->slot = gp_slot_here;
        if (thread->slot)
            thread->slot->lock_thread = thread;
    }
    atomic_store_explicit(&thread->in_use, true, memory_order_release);
    atomic_fetch_add(&gp_lock_threads_changed, 1);
    pthread_setspecific(end_of_thread, thread);
    return gp_lock_thread = thread;
}

void gp_lock_threads_setup(void) { pthread_once(&key_once, make_key); }

/* In the child of fork only the calling thread lives; what the others held stays locked for ever. */
void gp_locks_forked(void) {
    for (LockThread *thread = gp_lock_threads(); thread; thread = thread->next_all) {
        if (thread == gp_lock_thread) {
            thread->tid = (uint32_t)gp_syscall3(SYS_gettid, 0, 0, 0);
            thread->slot = gp_slot_here;
            if (thread->slot)
                thread->slot->lock_thread = thread;
        } else if (atomic_load(&thread->in_use)) {
            if (thread->depth)
                gp_thread_state_name(thread);
            keep_what_it_holds(thread, 2);
            atomic_store(&thread->in_use, false);
            thread->slot = NULL;
        }
    }
    atomic_fetch_add(&gp_lock_threads_changed, 1);
}
