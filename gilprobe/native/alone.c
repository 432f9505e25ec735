/* The watchdog for a part of a program (gilprobe.watchdog): in a recorded process, or in one where this library was
 * loaded by ctypes and hooks nothing: then it sees what the swapped methods tell. */
#define _GNU_SOURCE
#include "graph.h"

#include <string.h>

#include "python.h"
#include "real.h"

enum Started { STARTED = 0, UNKNOWN_INTERPRETER = 1, ON_ALREADY = 2 };

static _Atomic bool on_here; /* by gilprobe_watch_start */
static WatchOptions before;
static char allowed_before[sizeof gp_allowed_orders];

static void forked_child(void) {
    if (atomic_load(&gp_active)) /* start.c does it, when there is a new file */
        return;
    gp_header->pid = (uint32_t)gp_syscall3(SYS_getpid, 0, 0, 0);
    gp_watchdog_forked();
}

static void set_up_alone(void) {
    static bool done;
    if (done || atomic_load(&gp_active))
        return;
    done = true;
    gp_need_real();
    gp_python_setup();
    gp_clock_setup();
    gp_file_none();
    pthread_atfork(gp_watchdog_before_fork, NULL, forked_child);
}

/* Called with the GIL. */
GP_EXPORT int gilprobe_watch_start(unsigned limit_ms, int on_deadlock, const char *allowed_orders) {
    bool off = false;
    if (!atomic_compare_exchange_strong(&on_here, &off, true))
        return ON_ALREADY;
    set_up_alone();
    before = gp_watch;
    memcpy(allowed_before, gp_allowed_orders, sizeof allowed_before);
    size_t bytes = strnlen(allowed_orders, sizeof gp_allowed_orders - 1);
    memcpy(gp_allowed_orders, allowed_orders, bytes);
    gp_allowed_orders[bytes] = 0;
    gp_watch.limit_ns = (uint64_t)limit_ms * 1000000;
    gp_watch.on_deadlock = (enum OnDeadlock)on_deadlock;
    if (before.on)
        return STARTED;
    gp_order_reset();
    if (!gp_python.runtime || !gp_locks_install()) {
        gp_watch = before;
        atomic_store(&on_here, false);
        return UNKNOWN_INTERPRETER;
    }
    gp_locks_learn_types();
    gp_watch.on = true;
    gp_watchdog_start();
    return STARTED;
}

GP_EXPORT void gilprobe_watch_stop(void) {
    if (!atomic_load(&on_here))
        return;
    if (!before.on) {
        gp_locks_uninstall();
        gp_watchdog_stop();
    }
    gp_watch = before;
    memcpy(gp_allowed_orders, allowed_before, sizeof allowed_before);
    atomic_store(&on_here, false);
}
