/* What a wait was besides blocked: CPU of the calls, and time in which its thread could run but had no core. The kernel
 * knows both (schedstat), but asking costs as much as a short wait: so it is asked around some waits, chosen by chance
 * and the more often the longer a thread's waits are, and what it says of one counts for those that were not chosen. */
#include "core.h"

/* One long wait among short ones: so much more often are the next ones looked at. */
#define MOST_NS (16 * GP_LOOK_USUAL_NS)
#define SMOOTHING 8u

/* xorshift32 (G. Marsaglia, Xorshift RNGs, 2003) */
static uint32_t next_random(Slot *slot) {
    uint32_t x = slot->look_random ? slot->look_random : slot->tid | 1;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return slot->look_random = x;
}

static uint32_t *usual_ns(Slot *slot, const OpenWait *wait) { return &slot->usual_ns[gp_is_io(wait->op)]; }

void gp_look_begin(Slot *slot, OpenWait *wait) {
    uint32_t usual = *usual_ns(slot, wait), weight = 1;
    if (usual < GP_LOOK_USUAL_NS) {
        weight = GP_LOOK_USUAL_NS / (usual + 1);
        if (weight > 1 && next_random(slot) % weight)
            return;
    }
    if (!slot->record->run_delay_read_ns && !gp_run_delay(slot))
        return; /* it may not be read here */
    wait->look_cpu_ns = gp_thread_cpu_ns();
    wait->look_run_delay_ns = gp_run_delay(slot);
    wait->look_ready_ns = wait->ready_ns;
    wait->look_weight = weight;
}

/* After the wait's end was taken: from here on the look's own time is none of it. */
void gp_look_end(Slot *slot, OpenWait *wait, uint64_t duration_ns) {
    uint32_t *usual = usual_ns(slot, wait), now = duration_ns > MOST_NS ? MOST_NS : (uint32_t)duration_ns;
    *usual = (uint32_t)(((uint64_t)*usual * (SMOOTHING - 1) + now) / SMOOTHING);
    if (!wait->look_weight)
        return;
    wait->look_cpu_ns = gp_thread_cpu_ns() - wait->look_cpu_ns;
    wait->look_run_delay_ns = gp_run_delay(slot) - wait->look_run_delay_ns;
}

/* wake_ns: what the record has of this wait. */
void gp_look_add(WaitRecord *record, const OpenWait *wait, uint64_t wake_ns) {
    if (!wait->look_weight)
        return;
    int64_t beyond_ns = (int64_t)wait->look_run_delay_ns - (int64_t)(wake_ns - wait->look_ready_ns);
    record->looked_ns += beyond_ns * wait->look_weight;
    if (!gp_is_io(wait->op))
        record->cpu_ns += wait->look_cpu_ns * wait->look_weight;
}
