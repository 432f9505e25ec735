/* What a wait was besides blocked: CPU of the calls, and time in which its thread could run but had no core. The kernel
 * knows both (schedstat), but asking takes some 30 us, also from whoever waits for this thread: so it is asked around
 * some waits, chosen by chance, the more often the longer a thread's waits are and the more the time varies that it
 * spent in them without a core unbeknown to us (the time since a releaser's post is known of every wait); and what it
 * says of one counts for those that were not chosen. */
#include "core.h"

/* Every wait of a thread where that time usually varies by twice this, or whose waits are about so long. */
#define ALWAYS_NS 512000u
/* By this is the square of a wait divided: a look costs more than most of the short ones, such as joins of short
 * threads, and there are many. */
#define SHORT_NS 262144u
/* One long wait among short ones: so much more often are the next ones looked at. */
#define MOST_NS (16ll * ALWAYS_NS)
/* A look is a large part of a thread that ends so soon. */
#define YOUNG_NS 2000000u

/* xorshift32 (G. Marsaglia, Xorshift RNGs, 2003) */
static uint32_t next_random(Slot *slot) {
    uint32_t x = slot->look_random ? slot->look_random : slot->tid | 1;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return slot->look_random = x;
}

/* An eighth of the way. */
static int64_t nearer(int64_t usual, int64_t now) { return (usual * 7 + now) / 8; }

static int64_t at_most(int64_t ns) { return ns > MOST_NS ? MOST_NS : ns < -MOST_NS ? -MOST_NS : ns; }

/* The square root, right within a factor of the root of 2. */
static uint32_t root(uint64_t square) { return square ? 1u << (64 - __builtin_clzll(square)) / 2 : 0; }

void gp_look_begin(Slot *slot, OpenWait *wait) {
    if (wait->start_ns - slot->record->start_ns < YOUNG_NS)
        return;
    wait->lookable = true;
    const Usual *usual = &slot->usual[gp_is_io(wait->op)];
    uint64_t worth_ns = root(usual->square_ns) / 2 + (uint64_t)usual->wait_ns * usual->wait_ns / SHORT_NS;
    uint32_t weight = 1;
    if (worth_ns < ALWAYS_NS) {
        weight = (uint32_t)(ALWAYS_NS / (worth_ns + 1));
        if (weight > 1 && next_random(slot) % weight)
            return;
    }
    wait->look_run_delay_ns = gp_run_delay(slot);
    if (!wait->look_run_delay_ns)
        return;              /* it may not be read here, or the thread has hardly run */
    if (!gp_is_io(wait->op)) /* whose calls are measured anyway */
        wait->look_cpu_ns = gp_thread_cpu_ns();
    wait->look_ready_ns = wait->ready_ns;
    wait->look_weight = weight;
}

/* After the wait's end was taken: from here on the look's own time is none of it. */
void gp_look_end(Slot *slot, OpenWait *wait, uint64_t duration_ns) {
    Usual *usual = &slot->usual[gp_is_io(wait->op)];
    usual->wait_ns = (uint32_t)nearer(usual->wait_ns, at_most((int64_t)duration_ns));
    if (!wait->look_weight)
        return;
    if (!gp_is_io(wait->op))
        wait->look_cpu_ns = gp_thread_cpu_ns() - wait->look_cpu_ns;
    wait->look_run_delay_ns = gp_run_delay(slot) - wait->look_run_delay_ns;
}

/* wake_ns: what the record has of this wait. */
void gp_look_add(Slot *slot, WaitRecord *record, const OpenWait *wait, uint64_t wake_ns) {
    record->lookable += wait->lookable;
    if (!wait->look_weight)
        return;
    int64_t beyond_ns = (int64_t)wait->look_run_delay_ns - (int64_t)(wake_ns - wait->look_ready_ns);
    Usual *usual = &slot->usual[gp_is_io(wait->op)];
    int64_t off_ns = at_most(beyond_ns - usual->delay_ns);
    usual->square_ns = (uint64_t)nearer((int64_t)usual->square_ns, off_ns * off_ns);
    usual->delay_ns = (int32_t)nearer(usual->delay_ns, at_most(beyond_ns));
    record->looked += wait->look_weight;
    record->looked_ns += beyond_ns * wait->look_weight;
    if (!gp_is_io(wait->op))
        record->cpu_ns += wait->look_cpu_ns * wait->look_weight;
}
