/* Locks that one thread takes and another releases. */
#include "watch.h"

#include "python.h"

#define HANDED_BITS 10

/* Locks that were once released by another thread than the one that took them: hand-overs, with no owner to wait for.
 */
static _Atomic uint64_t handed_over[1 << HANDED_BITS];

static uint32_t handed_slot(uint64_t lock) {
    return (uint32_t)((lock >> 4) * 0x9E3779B97F4A7C15u >> (64 - HANDED_BITS));
}

bool gp_lock_is_handed_over(uint64_t lock) {
    return atomic_load_explicit(&handed_over[handed_slot(lock)], memory_order_relaxed) == lock;
}

bool gp_has_touched(const LockThread *thread, uint64_t lock) {
    uint32_t birth = gp_birth_of(lock);
    return birth && (uint32_t)thread->touched[gp_touched_at(lock)] >= birth;
}

bool gp_has_surely_touched(const LockThread *thread, uint64_t lock) {
    return gp_has_touched(thread, lock) && thread->touched[gp_touched_at(lock)] >> 32 == (uint32_t)(lock >> 4);
}

/* Released by a thread that did not take it. Condition.notify and the import system do so by design, with locks that
 * nobody else ever waits for; of all others the taker's entry must go. */
void gp_released_by_another(LockThread *thread, uint64_t lock) {
    Place place;
    gp_place_here(&place);
    if (place.code[0] == thread->plain_code)
        return;
    if (gp_code_is(place.code[0], "Condition.notify", "threading.py") ||
        gp_code_is(place.code[0], "_ModuleLock.release", "")) {
        thread->plain_code = place.code[0];
        return;
    }
    for (LockThread *other = gp_lock_threads(); other; other = other->next_all) {
        for (uint32_t i = 0; i < GP_MOST_HELD; i++) {
            uint64_t expected = lock;
            if (other->held[i].lock == lock && other->held[i].kind == GP_LOCK &&
                __atomic_compare_exchange_n(&other->held[i].lock, &expected, 0, false, __ATOMIC_RELAXED,
                                            __ATOMIC_RELAXED)) {
                uint64_t before = atomic_exchange(&handed_over[handed_slot(lock)], lock);
                if (before && before != lock)
                    atomic_fetch_add_explicit(&gp_locks_dropped, 1, memory_order_relaxed);
            }
        }
    }
}
