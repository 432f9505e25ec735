/* Is a thread in a garbage collection? The interpreter's gc.collecting says that one goes on, not whose it is: its
 * finalizers and callbacks let other threads run. So the collecting thread is remembered when the GIL leaves it, or,
 * without a GIL, when it stops the world. Only of the main interpreter; nothing is called but a getter of a static
 * address. */
#include "core.h"
#include "python.h"

const int *_Atomic gp_gc_flag;
_Atomic uint32_t gp_gc_collector;

void gp_gc_learn(void) {
    const char *main = NULL;
    if (gp_python.interpreter_collecting && gp_python.main_interpreter)
        main = gp_python.main_interpreter();
    if (main)
        atomic_store_explicit(&gp_gc_flag, (const int *)(main + gp_python.interpreter_collecting),
                              memory_order_relaxed);
}

static const int *flag(void) {
    if (GP_RARE(!atomic_load_explicit(&gp_gc_flag, memory_order_relaxed)))
        gp_gc_learn();
    return atomic_load_explicit(&gp_gc_flag, memory_order_relaxed);
}

static bool goes_on(const int *flag) { return __atomic_load_n(flag, __ATOMIC_RELAXED) != 0; }

static void set_collector(uint32_t thread) {
    /* Read first: the line is shared by all threads, and hardly ever changes. */
    if (atomic_load_explicit(&gp_gc_collector, memory_order_relaxed) != thread)
        atomic_store_explicit(&gp_gc_collector, thread, memory_order_relaxed);
}

/* Nobody else can have run since a collection began whose thread is not yet known, so it is this one's. */
void gp_gc_let_go(const Slot *slot) {
    const int *collecting = flag();
    if (!collecting || gp_python.free_threaded)
        return;
    if (!goes_on(collecting))
        set_collector(0);
    else if (!atomic_load_explicit(&gp_gc_collector, memory_order_relaxed))
        set_collector(slot->thread);
}

/* The calling thread has waited for the others to stop: without a GIL that is how a collection begins. */
void gp_gc_world_stopped(const Slot *slot) {
    const int *collecting = flag();
    if (collecting && gp_python.free_threaded && goes_on(collecting))
        set_collector(slot->thread);
}

/* In a signal handler, of the thread that it interrupted. */
bool gp_gc_here(const Slot *slot) {
    const int *collecting = flag();
    if (!collecting)
        return false;
    if (!goes_on(collecting)) {
        if (gp_python.free_threaded)
            set_collector(0);
        return false;
    }
    const char *main = (const char *)collecting - gp_python.interpreter_collecting;
    const char *state = gp_python.thread_state();
    if (!state || GP_AT(const char *, state, gp_python.state_interpreter) != main)
        return false;
    uint32_t known = atomic_load_explicit(&gp_gc_collector, memory_order_relaxed);
    if (gp_python.free_threaded) {
        if (GP_AT(const char *, main, gp_python.interpreter_requester) != state)
            return known == slot->thread;
        set_collector(slot->thread);
        return true;
    }
    bool holds = slot->record->gil_since_ticks || !slot->gil_condition;
    return holds && (!known || known == slot->thread);
}

void gp_gc_forget(void) { atomic_store(&gp_gc_collector, 0); }
