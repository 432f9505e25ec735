/* Waiter -> releaser: waiters raise a counter in a bucket of their address; who posts there while it is raised leaves
 * the time and its own stack. */
#include "core.h"

#include <string.h>

Bucket gp_buckets[1 << GP_BUCKET_BITS];

__attribute__((noinline)) void gp_post(const void *address, void *return_address) {
    Slot *slot = gp_slot();
    if (!slot)
        return;
    int error = errno;
    slot->busy = 1;
    uint64_t releaser = (uint64_t)slot->thread << 32 | gp_stack_here(slot, return_address);
    Bucket *bucket = gp_bucket(address);
    uint32_t sequence = atomic_load_explicit(&bucket->sequence, memory_order_relaxed);
    /* Another poster is writing for an address in this bucket: ours goes unseen, which the waiter reports as such. */
    if (!(sequence & 1) && atomic_compare_exchange_strong_explicit(&bucket->sequence, &sequence, sequence + 1,
                                                                   memory_order_acquire, memory_order_relaxed)) {
        atomic_store_explicit(&bucket->address, (uint64_t)address, memory_order_relaxed);
        uint64_t now_ns = gp_now();
        atomic_store_explicit(&bucket->posted_ns, now_ns, memory_order_relaxed);
        atomic_store_explicit(&bucket->posts_ns[sequence / 2 % GP_POSTS_KEPT], now_ns, memory_order_relaxed);
        atomic_store_explicit(&bucket->releaser, releaser, memory_order_relaxed);
        /* Release: pairs with the acquire in gp_posted. */
        atomic_store_explicit(&bucket->sequence, sequence + 2, memory_order_release);
    }
    slot->busy = 0;
    errno = error;
}

/* The last post on `address`, if it came after `since_ns`. */
bool gp_posted(const void *address, uint64_t since_ns, uint64_t *posted_ns, uint64_t *releaser) {
    Bucket *bucket = gp_bucket(address);
    for (int tries = 0; tries < 100; tries++) {
        uint32_t before = atomic_load_explicit(&bucket->sequence, memory_order_acquire);
        if (before & 1)
            continue;
        uint64_t at = atomic_load_explicit(&bucket->address, memory_order_relaxed);
        *posted_ns = atomic_load_explicit(&bucket->posted_ns, memory_order_relaxed);
        *releaser = atomic_load_explicit(&bucket->releaser, memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&bucket->sequence, memory_order_relaxed) == before)
            return at == (uint64_t)address && *posted_ns >= since_ns;
    }
    return false;
}

/* When the one of the waiters on `address` that came `ahead` others after `since_ns` was let go, if each post lets the
 * first of them go (futex queues are first come, first served); 0 if no post is known. */
uint64_t gp_posted_after(const void *address, uint64_t since_ns, uint32_t ahead) {
    Bucket *bucket = gp_bucket(address);
    for (int tries = 0; tries < 100; tries++) {
        uint32_t before = atomic_load_explicit(&bucket->sequence, memory_order_acquire);
        if (before & 1)
            continue;
        uint64_t found_ns = 0;
        uint32_t passed = 0;
        for (uint32_t i = 0; i < GP_POSTS_KEPT; i++) {
            uint64_t at_ns =
                atomic_load_explicit(&bucket->posts_ns[(before / 2 + i) % GP_POSTS_KEPT], memory_order_relaxed);
            if (at_ns < since_ns)
                continue;
            found_ns = at_ns;
            if (passed++ == ahead)
                break;
        }
        uint64_t at = atomic_load_explicit(&bucket->address, memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&bucket->sequence, memory_order_relaxed) == before)
            return at == (uint64_t)address ? found_ns : 0;
    }
    return 0;
}

void gp_edges_forked(void) { memset(gp_buckets, 0, sizeof gp_buckets); }
