/* When a condition was last notified, and since when a thread waits for it: Condition.notify and Condition.wait both
 * ask first whether the lock is theirs. */
#include "watch.h"

#include "python.h"

#define NOTIFIED_BITS 10

static struct {
    _Atomic uint64_t lock, when_ns;
    _Atomic uint32_t clock;
} notified[1 << NOTIFIED_BITS];
static _Atomic uint64_t notify_code;

static uint32_t notified_at(uint64_t lock) {
    return (uint32_t)((lock >> 4) * 0x9E3779B97F4A7C15u >> (64 - NOTIFIED_BITS));
}

static bool is_notify(uint64_t code) {
    if (code == atomic_load_explicit(&notify_code, memory_order_relaxed))
        return true;
    if (!gp_code_is(code, "Condition.notify", "threading.py"))
        return false;
    atomic_store_explicit(&notify_code, code, memory_order_relaxed);
    return true;
}

void gp_asked_owner(uint64_t lock) {
    Place place;
    gp_place_here(&place);
    for (int i = 0; i < 2 && place.code[i]; i++) {
        if (is_notify(place.code[i])) {
            uint32_t at = notified_at(lock);
            atomic_store_explicit(&notified[at].when_ns, gp_now(), memory_order_relaxed);
            atomic_store_explicit(&notified[at].clock, atomic_load_explicit(&gp_birth_clock, memory_order_relaxed),
                                  memory_order_relaxed);
            atomic_store_explicit(&notified[at].lock, lock, memory_order_release);
            return;
        }
        if (gp_lock_thread &&
            (gp_is_wait_code(place.code[i]) || gp_code_is(place.code[i], "Condition.wait", "threading.py"))) {
            gp_lock_thread->wait_ns = gp_now();
            return;
        }
    }
}

/* How long before this thread's wait its condition was notified, where that was the last time; 0 = it was not. */
uint64_t gp_notified_before_ns(const LockThread *thread, uint64_t lock) {
    uint32_t at = notified_at(lock);
    if (atomic_load_explicit(&notified[at].lock, memory_order_acquire) != lock ||
        gp_birth_of(lock) > atomic_load_explicit(&notified[at].clock, memory_order_relaxed))
        return 0;
    uint64_t when_ns = atomic_load_explicit(&notified[at].when_ns, memory_order_relaxed);
    return when_ns < thread->wait_ns ? thread->wait_ns - when_ns : 0;
}
