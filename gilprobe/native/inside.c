/* A recording that a running program begins and ends itself (gilprobe.profile): called through ctypes. */
#define _GNU_SOURCE
#include "core.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <string.h>

#include "python.h"

#define PATIENCE_NS 200000000u

/* Preloaded, we belong to the program's own libraries: then nothing is to be rewritten. */
bool gp_is_preloaded(void) {
    void *program = dlopen(NULL, RTLD_LAZY);
    bool found = program && dlsym(program, "gilprobe_start") == (void *)gilprobe_start;
    if (program)
        dlclose(program);
    return found;
}

/* Negative errno; the recording's folder exists. */
GP_EXPORT int gilprobe_start(const char *folder, const char *options) {
    if (atomic_load(&gp_active) || gp_is_preloaded())
        return -EBUSY;
    if (strlen(folder) >= sizeof gp_options.folder)
        return -ENAMETOOLONG;
    int error = errno;
    int result = gp_start_inside(folder, options);
    if (!result) {
        gp_signals_take_over();
        if (gp_got_patch()) {
            gilprobe_stop();
            result = -EACCES;
        }
    }
    errno = error;
    return result;
}

/* Hooks that are at work finish; those that wait find the recording over when they wake. */
static void wait_for_hooks(void) {
    gp_syscall3(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    gp_syscall3(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    uint64_t until_ns = gp_now() + PATIENCE_NS;
    for (Slot *slot = gp_slots_all(); slot; slot = slot->next_all)
        while (atomic_load(&slot->in_use) && slot->busy && slot != gp_slot_here && gp_now() < until_ns)
            gp_syscall3(SYS_sched_yield, 0, 0, 0);
}

/* Threads that the recording has nothing of: they were blocked from before it began. */
static void note_unseen(void) {
    uint32_t seen = 0, tasks = gp_tasks(NULL, 0);
    for (Slot *slot = gp_slots_all(); slot; slot = slot->next_all)
        seen += atomic_load(&slot->in_use) && slot->session == gp_session && !slot->over;
    Slot *slot = gp_slot();
    char text[16];
    tasks -= slot && !slot->thread; /* gilprobe attach's own */
    if (!slot || tasks <= seen)
        return;
    slot->busy = 1;
    gp_meta(slot, "unseen_threads", text, (size_t)snprintf(text, sizeof text, "%u", tasks - seen));
    slot->busy = 0;
}

/* Slots of import tables that could not be put back, or negative errno. */
GP_EXPORT int gilprobe_stop(void) {
    if (!atomic_load(&gp_active) || gp_is_preloaded())
        return -EINVAL;
    int error = errno;
    uint32_t left = gp_got_restore();
    gp_signals_give_back();
    gp_sampler_stop_all();
    note_unseen();
    gp_finish(GP_END_STOP);
    gp_run_delay_close_all();
    wait_for_hooks();
    errno = error;
    return (int)left;
}
