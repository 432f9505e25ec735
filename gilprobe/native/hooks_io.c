/* Calls that block for something other than another thread: sleep, poll, files, sockets, child processes, signals. */
#define _GNU_SOURCE
#include "core.h"

#include <sys/resource.h>

#include "real.h"

/* A call shorter than this, or that did not block, is counted, not given a record with a stack. */
#define QUICK_NS 20000u
#define CALLER __builtin_return_address(0)

typedef struct {
    OpenWait wait;
    uint64_t cpu_ns;
    uint64_t gave_way; /* how often the thread had slept before */
    uint64_t due_ns;   /* when its time is over; 0 = it has none, or another clock's */
    void *caller;
    uint64_t waited_ns; /* until when the time limit below has been spent */
    struct timespec left;
    int64_t limit_ns; /* of one in milliseconds: what is left is rounded up each time */
    bool measured;
} IoCall;

/* How often the calling thread has given up its core of its own accord: it cannot have been blocked without. */
static uint64_t times_given_way(void) {
    struct rusage usage;
    return gp_syscall3(SYS_getrusage, RUSAGE_THREAD, &usage, 0) ? 0 : (uint64_t)usage.ru_nvcsw;
}

/* A thread whose last call blocked gets its next one published with its stack, and the CPU it uses measured; one whose
 * calls return at once pays for two clock readings only. */
static void begin(Slot *slot, IoCall *call, enum Op op, int fd, void *caller) {
    slot->busy = 1;
    call->caller = caller;
    call->wait.start_ns = gp_now();
    call->wait.op = (uint8_t)op;
    call->wait.address = (uint64_t)(int64_t)fd;
    if (slot->spin.start_ns)
        gp_spin_close(slot);
    call->measured = slot->io_slow || op == GP_OP_SLEEP || op == GP_OP_CHILD || op == GP_OP_SIGNAL;
    if (call->measured) {
        int error = errno;
        /* Next to the clock, as at the end: what lies between the two is neither taken for blocked nor for CPU. */
        call->cpu_ns = gp_thread_cpu_ns();
        slot->gave_way = times_given_way();
        call->wait.stack_id = gp_stack_here(slot, caller);
        errno = error;
        gp_look_begin(slot, &call->wait);
    }
    call->gave_way = slot->gave_way;
    ThreadRecord *record = slot->record;
    record->open_address = call->wait.address;
    record->open_stack_id = call->wait.stack_id;
    record->open_type_id = 0;
    record->open_op = (uint8_t)op;
    record->open_subject = GP_SUBJECT_UNKNOWN;
    record->open_flags = 0;
    __atomic_store_n(&record->open_start_ns, call->wait.start_ns, __ATOMIC_RELEASE);
    slot->blocked = 1;
    slot->busy = 0;
}

/* A timer may fire this late without the thread being ready (the default timer slack, rounded up). */
#define TIMER_SLACK_NS 60000u

static uint64_t nanoseconds(const struct timespec *time) {
    return time ? (uint64_t)time->tv_sec * 1000000000u + (uint64_t)time->tv_nsec : 0;
}

static uint64_t due_after(const IoCall *call, const struct timespec *time) {
    return time ? call->wait.start_ns + nanoseconds(time) : 0;
}

/* A sleeper whose time is over, and that then got no core, was runnable. */
static void end_due(IoCall *call, uint64_t end_ns) {
    uint64_t from_ns = call->due_ns > call->wait.start_ns ? call->due_ns : call->wait.start_ns;
    if (call->due_ns && end_ns > from_ns + TIMER_SLACK_NS)
        call->wait.ready_ns = end_ns - from_ns - TIMER_SLACK_NS;
}

/* A call that took long without ever giving up its core computed (a copy from the page cache), or another program had
 * the core: the kernel counts it as CPU and as run delay. */
static bool blocked(Slot *slot, const IoCall *call) {
    static _Atomic bool counts; /* some kernels do not */
    slot->gave_way = times_given_way();
    if (slot->gave_way && GP_RARE(!atomic_load_explicit(&counts, memory_order_relaxed)))
        atomic_store_explicit(&counts, true, memory_order_relaxed);
    return slot->gave_way != call->gave_way || !atomic_load_explicit(&counts, memory_order_relaxed);
}

static void end(Slot *slot, IoCall *call) {
    int error = errno;
    slot->busy = 1;
    slot->blocked = 0;
    uint64_t end_ns = gp_now(), duration_ns = end_ns - call->wait.start_ns;
    ThreadRecord *record = slot->record;
    if (GP_RARE(slot->over)) {
        slot->busy = 0;
        errno = error;
        return;
    }
    record->open_start_ns = 0;
    bool slow = duration_ns >= QUICK_NS;
    /* Next to the clock, as in begin; the run delay after it, before any more work in which a core could be lost. */
    uint64_t cpu_ns = slow && call->measured ? gp_thread_cpu_ns() : 0;
    if (slow)
        gp_look_end(slot, &call->wait, duration_ns);
    slot->io_slow = slow && blocked(slot, call);
    if (!slot->io_slow) {
        record->quick_io_count++;
        record->quick_io_ns += duration_ns;
    } else {
        if (call->measured)
            record->io_cpu_ns += cpu_ns - call->cpu_ns;
        else
            call->wait.stack_id = gp_stack_here(slot, call->caller);
        end_due(call, end_ns);
        gp_wait_add(slot, &call->wait, end_ns, 0, 0);
    }
    slot->busy = 0;
    errno = error;
}

/* Has a handler run since `before` that would have ended the call? Sleeping and polling end for any, the rest for those
 * without SA_RESTART (signal(7)). Where begin did next to nothing the gap is no wider than the script's own. */
static bool overtaken(Slot *slot, const IoCall *call, HandledSignals before) {
    bool any = call->wait.op == GP_OP_SLEEP || call->wait.op == GP_OP_POLL || call->wait.op == GP_OP_SIGNAL;
    bool ran = any ? slot->handled.any != before.any : slot->handled.interrupting != before.interrupting;
    if (__builtin_expect(!ran || !call->measured, 1))
        return false;
    slot->blocked = 0;
    slot->record->open_start_ns = 0;
    return true;
}

#define MINUS_ONE (errno = EINTR, -1)

/* Did only the sampler's signal end the call? Sleeping and polling end for any signal that has a handler, SA_RESTART or
 * not; the script has to do with its own alone. */
static bool ended_by_us(const Slot *slot, bool interrupted, HandledSignals before) {
    return GP_RARE(interrupted) && slot->handled.own != before.own && slot->handled.any == before.any && !slot->over;
}

static uint64_t spent_ns(IoCall *call) {
    uint64_t since_ns = call->waited_ns ? call->waited_ns : call->wait.start_ns;
    call->waited_ns = gp_now();
    return call->waited_ns - since_ns;
}

/* What is left of a time limit. */
static const struct timespec *still(IoCall *call, const struct timespec *limit) {
    if (!limit)
        return NULL;
    int64_t left_ns = limit->tv_sec * 1000000000ll + limit->tv_nsec - (int64_t)spent_ns(call);
    left_ns = left_ns > 0 ? left_ns : 0;
    call->left = (struct timespec){left_ns / 1000000000, left_ns % 1000000000};
    return &call->left;
}

static useconds_t still_us(IoCall *call, useconds_t limit) {
    uint64_t spent_us = spent_ns(call) / 1000;
    return limit > spent_us ? limit - (useconds_t)spent_us : 0;
}

static void rest_of_sleep(IoCall *call, const struct timespec **time, const struct timespec *left) {
    if (left)
        call->left = *left; /* the kernel's own figure: the clock may be another than ours */
    *time = left ? &call->left : still(call, *time);
}

static int still_ms(IoCall *call, int limit_ms) {
    if (limit_ms < 0)
        return limit_ms;
    if (!call->limit_ns)
        call->limit_ns = limit_ms * 1000000ll;
    /* Whole milliseconds are all there is: rather too long than too short, as the kernel itself does. */
    int64_t left_ns = call->limit_ns - (int64_t)(gp_now() - call->wait.start_ns);
    return left_ns > 0 ? (int)((left_ns + 999999) / 1000000) : 0;
}

/* may_block: the call waits, so that a signal may end it. interrupted: what it then returns. */
#define IO_HOOK(result_type, name, op, fd, may_block, interrupted, parameters, arguments) \
    IO_CALL(result_type, name, op, fd, may_block, interrupted, (void)0, 0, false, parameters, arguments)

/* again: takes from the call's time limit what it has waited already. due: when it ends by itself; timed_out: it did.
 */
#define IO_CALL(result_type, name, op, fd, may_block, interrupted, again, due, timed_out, parameters, arguments) \
    GP_EXPORT result_type name parameters {                                                                      \
        gp_need_real();                                                                                          \
        Slot *slot = gp_slot();                                                                                  \
        if (!slot)                                                                                               \
            return gp_real.name arguments;                                                                       \
        const bool waits = (may_block); /* before `again` changes the limit, as for due_ns */                    \
        HandledSignals before = slot->handled;                                                                   \
        IoCall call = {0};                                                                                       \
        begin(slot, &call, op, fd, CALLER);                                                                      \
        const uint64_t due_ns = (due);                                                                           \
        if (waits && overtaken(slot, &call, before))                                                             \
            return interrupted;                                                                                  \
        result_type result;                                                                                      \
        while (ended_by_us(slot,                                                                                 \
                           ((result = gp_real.name arguments) == -1 && errno == EINTR) ||                        \
                               ((op) == GP_OP_SLEEP && result == EINTR),                                         \
                           before) &&                                                                            \
               waits) {                                                                                          \
            before.own = slot->handled.own;                                                                      \
            again;                                                                                               \
        }                                                                                                        \
        call.due_ns = (timed_out) ? due_ns : 0;                                                                  \
        end(slot, &call);                                                                                        \
        return result;                                                                                           \
    }

static int still_to_sleep(const struct timespec *time, struct timespec *left) {
    if (left)
        *left = *time;
    return EINTR;
}

/* Of a call that has begun: milliseconds after its start. */
#define DUE_MS(limit) ((limit) > 0 ? call.wait.start_ns + (uint64_t)(limit) * 1000000u : 0)

IO_CALL(int, nanosleep, GP_OP_SLEEP, -1, true, (errno = still_to_sleep(time, left), -1),
        rest_of_sleep(&call, &time, left), due_after(&call, time), result == 0,
        (const struct timespec *time, struct timespec *left), (time, left))
IO_CALL(int, clock_nanosleep, GP_OP_SLEEP, -1, true, still_to_sleep(time, flags &TIMER_ABSTIME ? NULL : left),
        flags &TIMER_ABSTIME ? (void)0 : rest_of_sleep(&call, &time, left),
        flags &TIMER_ABSTIME ? nanoseconds(time) : due_after(&call, time),
        result == 0 && (clock == CLOCK_MONOTONIC || !(flags & TIMER_ABSTIME)),
        (clockid_t clock, int flags, const struct timespec *time, struct timespec *left), (clock, flags, time, left))
IO_CALL(int, usleep, GP_OP_SLEEP, -1, true, MINUS_ONE, time = still_us(&call, time),
        call.wait.start_ns + time * 1000ull, result == 0, (useconds_t time), (time))
IO_CALL(int, poll, GP_OP_POLL, -1, timeout != 0, MINUS_ONE, timeout = still_ms(&call, timeout), DUE_MS(timeout),
        result == 0, (struct pollfd * fds, nfds_t count, int timeout), (fds, count, timeout))
IO_CALL(int, ppoll, GP_OP_POLL, -1, true, MINUS_ONE, timeout = still(&call, timeout), due_after(&call, timeout),
        result == 0, (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask),
        (fds, count, timeout, mask))
/* select itself takes from its limit what it has waited (select(2), Linux). */
IO_HOOK(int, select, GP_OP_POLL, -1, true, MINUS_ONE,
        (int count, fd_set *in, fd_set *out, fd_set *err, struct timeval *timeout), (count, in, out, err, timeout))
IO_CALL(int, pselect, GP_OP_POLL, -1, true, MINUS_ONE, timeout = still(&call, timeout), due_after(&call, timeout),
        result == 0,
        (int count, fd_set *in, fd_set *out, fd_set *err, const struct timespec *timeout, const sigset_t *mask),
        (count, in, out, err, timeout, mask))
IO_CALL(int, epoll_wait, GP_OP_POLL, fd, timeout != 0, MINUS_ONE, timeout = still_ms(&call, timeout), DUE_MS(timeout),
        result == 0, (int fd, struct epoll_event *events, int most, int timeout), (fd, events, most, timeout))
IO_CALL(int, epoll_pwait, GP_OP_POLL, fd, timeout != 0, MINUS_ONE, timeout = still_ms(&call, timeout), DUE_MS(timeout),
        result == 0, (int fd, struct epoll_event *events, int most, int timeout, const sigset_t *mask),
        (fd, events, most, timeout, mask))
IO_HOOK(ssize_t, read, GP_OP_READ, fd, true, MINUS_ONE, (int fd, void *data, size_t bytes), (fd, data, bytes))
IO_HOOK(ssize_t, pread64, GP_OP_READ, fd, true, MINUS_ONE, (int fd, void *data, size_t bytes, off_t at),
        (fd, data, bytes, at))
IO_HOOK(ssize_t, readv, GP_OP_READ, fd, true, MINUS_ONE, (int fd, const struct iovec *data, int count),
        (fd, data, count))
IO_HOOK(ssize_t, recv, GP_OP_READ, fd, true, MINUS_ONE, (int fd, void *data, size_t bytes, int flags),
        (fd, data, bytes, flags))
IO_HOOK(ssize_t, recvfrom, GP_OP_READ, fd, true, MINUS_ONE,
        (int fd, void *data, size_t bytes, int flags, struct sockaddr *from, socklen_t *from_bytes),
        (fd, data, bytes, flags, from, from_bytes))
IO_HOOK(ssize_t, recvmsg, GP_OP_READ, fd, true, MINUS_ONE, (int fd, struct msghdr *message, int flags),
        (fd, message, flags))
IO_HOOK(int, accept, GP_OP_READ, fd, true, MINUS_ONE, (int fd, struct sockaddr *from, socklen_t *from_bytes),
        (fd, from, from_bytes))
IO_HOOK(int, accept4, GP_OP_READ, fd, true, MINUS_ONE,
        (int fd, struct sockaddr *from, socklen_t *from_bytes, int flags), (fd, from, from_bytes, flags))
IO_HOOK(ssize_t, write, GP_OP_WRITE, fd, true, MINUS_ONE, (int fd, const void *data, size_t bytes), (fd, data, bytes))
IO_HOOK(ssize_t, pwrite64, GP_OP_WRITE, fd, true, MINUS_ONE, (int fd, const void *data, size_t bytes, off_t at),
        (fd, data, bytes, at))
IO_HOOK(ssize_t, writev, GP_OP_WRITE, fd, true, MINUS_ONE, (int fd, const struct iovec *data, int count),
        (fd, data, count))
IO_HOOK(ssize_t, send, GP_OP_WRITE, fd, true, MINUS_ONE, (int fd, const void *data, size_t bytes, int flags),
        (fd, data, bytes, flags))
IO_HOOK(ssize_t, sendto, GP_OP_WRITE, fd, true, MINUS_ONE,
        (int fd, const void *data, size_t bytes, int flags, const struct sockaddr *to, socklen_t to_bytes),
        (fd, data, bytes, flags, to, to_bytes))
IO_HOOK(ssize_t, sendmsg, GP_OP_WRITE, fd, true, MINUS_ONE, (int fd, const struct msghdr *message, int flags),
        (fd, message, flags))
/* An interrupted connect goes on in the background, which one never begun would not. */
IO_HOOK(int, connect, GP_OP_WRITE, fd, false, MINUS_ONE, (int fd, const struct sockaddr *to, socklen_t to_bytes),
        (fd, to, to_bytes))
IO_HOOK(int, fsync, GP_OP_SYNC, fd, false, MINUS_ONE, (int fd), (fd))
IO_HOOK(int, fdatasync, GP_OP_SYNC, fd, false, MINUS_ONE, (int fd), (fd))
IO_HOOK(int, flock, GP_OP_SYNC, fd, true, MINUS_ONE, (int fd, int operation), (fd, operation))
IO_HOOK(pid_t, waitpid, GP_OP_CHILD, -1, !(options & WNOHANG), MINUS_ONE, (pid_t pid, int *status, int options),
        (pid, status, options))
IO_HOOK(pid_t, wait4, GP_OP_CHILD, -1, !(options & WNOHANG), MINUS_ONE,
        (pid_t pid, int *status, int options, struct rusage *usage), (pid, status, options, usage))
IO_HOOK(int, waitid, GP_OP_CHILD, -1, !(options & WNOHANG), MINUS_ONE,
        (idtype_t type, id_t id, siginfo_t *info, int options), (type, id, info, options))
/* A script that waits for every signal must not be handed the sampler's. */
#define SIGNAL_HOOK(name, parameters, arguments, got, code) \
    GP_EXPORT int name parameters {                         \
        gp_need_real();                                     \
        Slot *slot = gp_slot();                             \
        IoCall call = {0};                                  \
        if (slot)                                           \
            begin(slot, &call, GP_OP_SIGNAL, -1, CALLER);   \
        int result;                                         \
        do                                                  \
            result = gp_real.name arguments;                \
        while (gp_is_sampler_signal(got, code));            \
        if (slot)                                           \
            end(slot, &call);                               \
        return result;                                      \
    }

SIGNAL_HOOK(sigwait, (const sigset_t *set, int *number), (set, number), result == 0 ? *number : 0, SI_TIMER)
SIGNAL_HOOK(sigwaitinfo, (const sigset_t *set, siginfo_t *info), (set, info), result, info ? info->si_code : SI_TIMER)
SIGNAL_HOOK(sigtimedwait, (const sigset_t *set, siginfo_t *info, const struct timespec *timeout), (set, info, timeout),
            result, info ? info->si_code : SI_TIMER)
IO_HOOK(int, pause, GP_OP_SIGNAL, -1, true, MINUS_ONE, (void), ())
