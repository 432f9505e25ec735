/* Which lock was taken while which was held, and orders that contradict each other (as Linux's lockdep does). */
#include "graph.h"

_Atomic uint64_t gp_order_dropped;

void gp_order_taken(LockThread *thread, const Held *taken) {
    (void)thread;
    (void)taken;
}
void gp_order_check(void) {}
void gp_order_forked(void) {}
