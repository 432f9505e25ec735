/* The explorer's baton, called through ctypes, which lets the GIL go first: the thread that is let through finds it
   free. Python's own locks wake a thread while the GIL is still held, and it goes back to sleep at once. */
#include "core.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* 1: open. Only one thread at a time waits at a gate. */
typedef _Atomic uint32_t BatonGate;

GP_EXPORT void gilprobe_baton_open(BatonGate *gate);
GP_EXPORT int gilprobe_baton_wait(BatonGate *gate, int64_t nanoseconds);
GP_EXPORT int gilprobe_baton_pass(BatonGate *to, BatonGate *mine, int64_t nanoseconds);

/* Release: pairs with the exchange in wait, which orders all that was written before the baton was given away. */
void gilprobe_baton_open(BatonGate *gate) {
    atomic_store_explicit(gate, 1, memory_order_release);
    syscall(SYS_futex, gate, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* nanoseconds < 0: for ever. Returns 0 when they are over or a signal came, which Python must see to. */
int gilprobe_baton_wait(BatonGate *gate, int64_t nanoseconds) {
    struct timespec time = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    for (;;) {
        if (atomic_exchange_explicit(gate, 0, memory_order_acquire))
            return 1;
        long woken = syscall(SYS_futex, gate, FUTEX_WAIT_PRIVATE, 0, nanoseconds < 0 ? NULL : &time, NULL, 0);
        if (woken < 0 && nanoseconds >= 0 && errno != EAGAIN)
            return (int)atomic_exchange_explicit(gate, 0, memory_order_acquire);
    }
}

int gilprobe_baton_pass(BatonGate *to, BatonGate *mine, int64_t nanoseconds) {
    gilprobe_baton_open(to);
    return gilprobe_baton_wait(mine, nanoseconds);
}
