/* The calls in which threads wait for each other. */
#define _GNU_SOURCE
#include "core.h"

#include <linux/futex.h>
#include <stdarg.h>

#include "python.h"
#include "real.h"

#define CALLER __builtin_return_address(0)

static void begin(Slot *slot, OpenWait *wait, enum Op op, enum Subject subject, const void *address, void *caller) {
    slot->busy = 1;
    int error = errno;
    wait->op = (uint8_t)op;
    wait->address = (uint64_t)address;
    wait->start_ns = gp_now();
    if (slot->spin.start_ns)
        gp_spin_take_over(slot, wait);
    if (op == GP_OP_SEM && gp_from_python(caller)) {
        /* The word before a parking-lot semaphore is wait_entry.addr: the PyMutex or PyEvent this thread parks on
         * (CPython Python/parking_lot.c, struct wait_entry; the same in 3.13 to 3.15). Before a semaphore of its own,
         * which malloc gave, it is the chunk's size. */
        if (gp_python.minor < 13 || gp_is_thread_lock(caller)) {
            subject = GP_SUBJECT_SEMAPHORE;
        } else {
            wait->address = ((const uint64_t *)address)[-1];
            subject = gp_parked_on(slot, wait->address, wait->flags & GP_WAIT_TIMED, &wait->type_id);
        }
    }
    wait->subject = (uint8_t)subject;
    gp_wait_open(slot, wait, address, gp_stack_here(slot, caller));
    slot->blocked = 1;
    slot->busy = 0;
    errno = error;
}

static void end(Slot *slot, OpenWait *wait, bool timed_out) {
    int error = errno;
    slot->busy = 1;
    slot->blocked = 0;
    if (timed_out)
        wait->flags |= GP_WAIT_TIMED_OUT;
    if (GP_RARE(slot->over))
        gp_wait_drop(wait);
    else
        gp_wait_close(slot, wait);
    slot->busy = 0;
    errno = error;
}

/* ---- semaphores */

static int interrupted(Slot *slot, const OpenWait *wait) {
    slot->blocked = 0;
    gp_wait_cancel(slot, wait);
    errno = EINTR;
    return -1;
}

/* Try first: up to 3.12 CPython comes here for free locks too. */
#define SEMAPHORE_WAIT(flag, call)                                        \
    gp_need_real();                                                       \
    Slot *slot = gp_slot();                                               \
    if (!slot)                                                            \
        return call;                                                      \
    int error = errno;                                                    \
    if (!gp_real.sem_trywait(semaphore))                                  \
        return 0;                                                         \
    errno = error;                                                        \
    uint32_t handled = slot->handled.interrupting;                        \
    OpenWait wait = {.flags = flag};                                      \
    begin(slot, &wait, GP_OP_SEM, GP_SUBJECT_UNKNOWN, semaphore, CALLER); \
    if (GP_RARE(slot->handled.interrupting != handled))                   \
        return interrupted(slot, &wait);                                  \
    int result = call;                                                    \
    end(slot, &wait, result &&errno == ETIMEDOUT);                        \
    return result

GP_EXPORT int sem_wait(sem_t *semaphore) { SEMAPHORE_WAIT(0, gp_real.sem_wait(semaphore)); }

GP_EXPORT int sem_timedwait(sem_t *semaphore, const struct timespec *deadline) {
    SEMAPHORE_WAIT(GP_WAIT_TIMED, gp_real.sem_timedwait(semaphore, deadline));
}

GP_EXPORT int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *deadline) {
    SEMAPHORE_WAIT(GP_WAIT_TIMED, gp_real.sem_clockwait(semaphore, clock, deadline));
}

GP_EXPORT int sem_post(sem_t *semaphore) {
    gp_need_real();
    gp_post_check(semaphore, CALLER);
    return gp_real.sem_post(semaphore);
}

/* ---- condition variables: the GIL's, and those of C++ */

static int condition_wait(pthread_cond_t *condition, void *caller, const struct timespec *deadline, int (*call)(void *),
                          void *arguments) {
    bool timed = deadline;
    Slot *slot = gp_slot();
    if (!slot)
        return call(arguments);
    if (gp_gil_condition(slot, (uint64_t)condition, caller, timed)) {
        if (timed) {
            gp_gil_wait_begin(slot, (uint64_t)condition, caller);
            slot->blocked = 1;
            int result = call(arguments);
            slot->busy = 1;
            slot->blocked = 0;
            gp_gil_slice_end(slot, (uint64_t)condition, deadline, result == ETIMEDOUT);
            slot->busy = 0;
            return result;
        }
        OpenWait wait = {.flags = GP_WAIT_FORCED};
        begin(slot, &wait, GP_OP_COND, GP_SUBJECT_GIL, condition, caller);
        int result = call(arguments);
        end(slot, &wait, false);
        return result;
    }
    OpenWait wait = {.flags = timed ? GP_WAIT_TIMED : 0};
    begin(slot, &wait, GP_OP_COND, GP_SUBJECT_UNKNOWN, condition, caller);
    int result = call(arguments);
    end(slot, &wait, result == ETIMEDOUT);
    return result;
}

typedef struct {
    pthread_cond_t *condition;
    pthread_mutex_t *mutex;
    const struct timespec *deadline;
    clockid_t clock;
} ConditionCall;

static int call_wait(void *a) {
    ConditionCall *c = a;
    return gp_real.pthread_cond_wait(c->condition, c->mutex);
}
static int call_timedwait(void *a) {
    ConditionCall *c = a;
    return gp_real.pthread_cond_timedwait(c->condition, c->mutex, c->deadline);
}
static int call_clockwait(void *a) {
    ConditionCall *c = a;
    return gp_real.pthread_cond_clockwait(c->condition, c->mutex, c->clock, c->deadline);
}

GP_EXPORT int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
    gp_need_real();
    ConditionCall call = {condition, mutex, NULL, 0};
    return condition_wait(condition, CALLER, NULL, call_wait, &call);
}

GP_EXPORT int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                     const struct timespec *deadline) {
    gp_need_real();
    ConditionCall call = {condition, mutex, deadline, 0};
    return condition_wait(condition, CALLER, deadline, call_timedwait, &call);
}

GP_EXPORT int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                                     const struct timespec *deadline) {
    gp_need_real();
    ConditionCall call = {condition, mutex, deadline, clock};
    return condition_wait(condition, CALLER, deadline, call_clockwait, &call);
}

/* What is rare is out of line, so that the common way needs no stack frame. */
static __attribute__((noinline, cold)) int signal_slowly(pthread_cond_t *condition, void *caller) {
    gp_need_real();
    gp_post_check(condition, caller);
    return gp_real.pthread_cond_signal(condition);
}

GP_EXPORT int pthread_cond_signal(pthread_cond_t *condition) {
    Slot *slot = gp_slot();
    if (slot)
        gp_gil_signalled(slot, (uint64_t)condition, CALLER);
    int (*real)(pthread_cond_t *) = gp_real.pthread_cond_signal;
    if (GP_RARE(!real || gp_is_waited_for(condition)))
        return signal_slowly(condition, CALLER);
    return real(condition);
}

GP_EXPORT int pthread_cond_broadcast(pthread_cond_t *condition) {
    gp_need_real();
    gp_post_check(condition, CALLER);
    return gp_real.pthread_cond_broadcast(condition);
}

/* ---- mutexes */

/* A plain load tells a free mutex (struct __pthread_mutex_s.__lock, glibc's ABI): nothing to record then. A stale value
 * only costs a wait unseen or a try too many. */
static inline bool mutex_is_free(const pthread_mutex_t *mutex) {
    return __atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED) == 0;
}

/* The GIL's own mutexes lie behind its condition variables: a wait there is one for the GIL. */
static enum Subject subject_of_mutex(const Slot *slot, const void *mutex) {
    bool gil = slot->gil_condition && (uint64_t)mutex - slot->gil_condition < 2 * GIL_SWITCH_OFFSET;
    return gil ? GP_SUBJECT_GIL : GP_SUBJECT_UNKNOWN;
}

/* Nested in a wait for the GIL, or in a thread we do not record: pass through. */
#define MUTEX_WAIT(call, flag)                                                                   \
    gp_need_real();                                                                              \
    Slot *slot = gp_slot();                                                                      \
    if (!slot || slot->gil_wait.start_ns)                                                        \
        return call;                                                                             \
    int result = gp_real.pthread_mutex_trylock(mutex);                                           \
    if (result != EBUSY)                                                                         \
        return result == 0 || result == EOWNERDEAD || result == ENOTRECOVERABLE ? result : call; \
    OpenWait wait = {.flags = flag};                                                             \
    begin(slot, &wait, GP_OP_MUTEX, subject_of_mutex(slot, mutex), mutex, caller);               \
    result = call;                                                                               \
    end(slot, &wait, result == ETIMEDOUT);                                                       \
    return result

static __attribute__((noinline, cold)) int lock_slowly(pthread_mutex_t *mutex, void *caller) {
    MUTEX_WAIT(gp_real.pthread_mutex_lock(mutex), 0);
}

GP_EXPORT int pthread_mutex_lock(pthread_mutex_t *mutex) {
    int (*real)(pthread_mutex_t *) = gp_real.pthread_mutex_lock;
    if (GP_RARE(!real || !mutex_is_free(mutex)))
        return lock_slowly(mutex, CALLER);
    return real(mutex);
}

GP_EXPORT int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *deadline) {
    void *caller = CALLER;
    gp_need_real();
    if (__builtin_expect(mutex_is_free(mutex), 1))
        return gp_real.pthread_mutex_timedlock(mutex, deadline);
    MUTEX_WAIT(gp_real.pthread_mutex_timedlock(mutex, deadline), GP_WAIT_TIMED);
}

static __attribute__((noinline, cold)) int unlock_slowly(pthread_mutex_t *mutex, void *caller) {
    gp_need_real();
    gp_post_check(mutex, caller);
    return gp_real.pthread_mutex_unlock(mutex);
}

GP_EXPORT int pthread_mutex_unlock(pthread_mutex_t *mutex) {
    int (*real)(pthread_mutex_t *) = gp_real.pthread_mutex_unlock;
    if (GP_RARE(!real || gp_is_waited_for(mutex)))
        return unlock_slowly(mutex, CALLER);
    return real(mutex);
}

#define RWLOCK_WAIT(try, call)                                          \
    gp_need_real();                                                     \
    Slot *slot = gp_slot();                                             \
    if (!slot)                                                          \
        return call;                                                    \
    int result = try;                                                   \
    if (result != EBUSY)                                                \
        return result == 0 ? 0 : call;                                  \
    OpenWait wait = {0};                                                \
    begin(slot, &wait, GP_OP_RWLOCK, GP_SUBJECT_UNKNOWN, lock, CALLER); \
    result = call;                                                      \
    end(slot, &wait, false);                                            \
    return result

GP_EXPORT int pthread_rwlock_rdlock(pthread_rwlock_t *lock) {
    RWLOCK_WAIT(gp_real.pthread_rwlock_tryrdlock(lock), gp_real.pthread_rwlock_rdlock(lock));
}

GP_EXPORT int pthread_rwlock_wrlock(pthread_rwlock_t *lock) {
    RWLOCK_WAIT(gp_real.pthread_rwlock_trywrlock(lock), gp_real.pthread_rwlock_wrlock(lock));
}

GP_EXPORT int pthread_rwlock_unlock(pthread_rwlock_t *lock) {
    gp_need_real();
    gp_post_check(lock, CALLER);
    return gp_real.pthread_rwlock_unlock(lock);
}

GP_EXPORT int pthread_join(pthread_t thread, void **value) {
    gp_need_real();
    Slot *slot = gp_slot();
    if (!slot)
        return gp_real.pthread_join(thread, value);
    OpenWait wait = {0};
    begin(slot, &wait, GP_OP_JOIN, GP_SUBJECT_UNKNOWN, (const void *)thread, CALLER);
    int result = gp_real.pthread_join(thread, value);
    end(slot, &wait, false);
    return result;
}

/* ---- bare futexes (torch, nvImageCodec and other C++ runtimes) */

GP_EXPORT long syscall(long number, ...) {
    va_list list;
    va_start(list, number);
    long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
    long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
    va_end(list);
    gp_need_real();
    if (number == SYS_futex) {
        long command = b & FUTEX_CMD_MASK;
        if (command == FUTEX_WAKE || command == FUTEX_WAKE_BITSET || command == FUTEX_WAKE_OP)
            gp_post_check((const void *)a, CALLER);
        Slot *slot = command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET ? gp_slot() : NULL;
        if (slot) {
            OpenWait wait = {.flags = d ? GP_WAIT_TIMED : 0};
            begin(slot, &wait, GP_OP_FUTEX, GP_SUBJECT_UNKNOWN, (const void *)a, CALLER);
            long result = gp_real.syscall(number, a, b, c, d, e, f);
            end(slot, &wait, result && errno == ETIMEDOUT);
            return result;
        }
    }
    return gp_real.syscall(number, a, b, c, d, e, f);
}

/* ---- spinning */

__attribute__((used, visibility("hidden"))) int gp_sched_yield(const uint64_t *registers, void *caller) {
    gp_need_real();
    Slot *slot = gp_slot();
    if (!slot)
        return gp_real.sched_yield();
    uint64_t start_ticks = gp_ticks();
    int result = gp_real.sched_yield();
    slot->busy = 1;
    gp_spin_yielded(slot, start_ticks, gp_ticks(), caller, registers);
    slot->busy = 0;
    return result;
}

/* In assembly, for the callee-saved registers as they are at the call: one of them holds the PyMutex. */
__asm__(".globl sched_yield\n"
        ".type sched_yield, @function\n"
        "sched_yield:\n"
        "  .cfi_startproc\n"
        "  subq $56, %rsp\n"
        "  .cfi_adjust_cfa_offset 56\n"
        "  movq %rbx, 0(%rsp)\n"
        "  movq %rbp, 8(%rsp)\n"
        "  movq %r12, 16(%rsp)\n"
        "  movq %r13, 24(%rsp)\n"
        "  movq %r14, 32(%rsp)\n"
        "  movq %r15, 40(%rsp)\n"
        "  movq %rsp, %rdi\n"
        "  movq 56(%rsp), %rsi\n"
        "  call gp_sched_yield\n"
        "  addq $56, %rsp\n"
        "  .cfi_adjust_cfa_offset -56\n"
        "  ret\n"
        "  .cfi_endproc\n"
        ".size sched_yield, . - sched_yield\n");
