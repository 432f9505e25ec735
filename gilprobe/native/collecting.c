/* Is a thread in a garbage collection? The interpreter's gc.collecting says that one goes on, not whose it is: its
 * finalizers and callbacks let other threads run. So the collecting thread is remembered when the GIL leaves it, or,
 * without a GIL, when it stops the world. Only of the main interpreter; nothing is called but a getter of a static
 * address. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "core.h"
#include "python.h"

static const char *_Atomic main_interpreter;
static _Atomic uint32_t collector; /* its thread; 0 = not known to have let another one run */

static bool goes_on(const char *interpreter) {
    return __atomic_load_n((const int *)(interpreter + gp_python.interpreter_collecting), __ATOMIC_RELAXED) != 0;
}

static const char *interpreter(void) {
    const char *known = atomic_load_explicit(&main_interpreter, memory_order_relaxed);
    if (GP_RARE(!known) && gp_python.interpreter_collecting && gp_python.main_interpreter) {
        known = gp_python.main_interpreter();
        atomic_store_explicit(&main_interpreter, known, memory_order_relaxed);
    }
    return known;
}

static void set_collector(uint32_t thread) {
    /* Read first: the line is shared by all threads, and hardly ever changes. */
    if (atomic_load_explicit(&collector, memory_order_relaxed) != thread)
        atomic_store_explicit(&collector, thread, memory_order_relaxed);
}

/* The calling thread gives the GIL away. Nobody else can have run since a collection began whose thread is not yet
 * known, so it is this one's. */
void gp_gc_gil_dropped(const Slot *slot) {
    const char *main = interpreter();
    if (!main || gp_python.free_threaded)
        return;
    if (!goes_on(main))
        set_collector(0);
    else if (!atomic_load_explicit(&collector, memory_order_relaxed))
        set_collector(slot->thread);
}

/* The calling thread has waited for the others to stop: without a GIL that is how a collection begins. */
void gp_gc_world_stopped(const Slot *slot) {
    const char *main = interpreter();
    if (main && gp_python.free_threaded && goes_on(main))
        set_collector(slot->thread);
}

/* In a signal handler, of the thread that it interrupted. */
bool gp_gc_here(const Slot *slot) {
    const char *main = interpreter();
    if (!main)
        return false;
    if (!goes_on(main)) {
        if (gp_python.free_threaded)
            set_collector(0);
        return false;
    }
    const char *state = gp_python.thread_state();
    if (!state || GP_AT(const char *, state, gp_python.state_interpreter) != main)
        return false;
    uint32_t known = atomic_load_explicit(&collector, memory_order_relaxed);
    if (gp_python.free_threaded) {
        if (GP_AT(const char *, main, gp_python.interpreter_requester) != state)
            return known == slot->thread;
        set_collector(slot->thread);
        return true;
    }
    bool holds = slot->record->gil_since_ticks || !slot->gil_condition;
    return holds && (!known || known == slot->thread);
}

void gp_gc_forget(void) { atomic_store(&collector, 0); }
