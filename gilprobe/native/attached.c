/* A recording that is begun and ended from outside (gilprobe attach). A tracer has one of the program's threads call
 * these in the midst of something else: that thread only makes another, which does the work and is gone. */
#define _GNU_SOURCE
#include "core.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "real.h"

#define AT_WORK 1
#define STACK_BYTES (256u << 10)

/* AT_WORK, else what gilprobe_start or gilprobe_stop returned; the tracer reads it. */
__attribute__((visibility("default"))) _Atomic int gilprobe_attached;

static char folder_asked[sizeof gp_options.folder], options_asked[1024];

static void *act(void *asked_to_end) {
    /* Its own records are the recording's; it is no thread of the program's. */
    Slot *own = gp_slot_here = gp_slot_unlisted();
    if (own)
        own->busy = 0;
    int result = asked_to_end ? gilprobe_stop() : gilprobe_start(folder_asked, options_asked);
    gp_slot_here = NULL;
    gp_slot_gone = true;
    if (own)
        gp_syscall3(SYS_munmap, own, sizeof *own, 0);
    atomic_store(&gilprobe_attached, result);
    return NULL;
}

static int in_another_thread(bool asked_to_end) {
    int expected = atomic_load(&gilprobe_attached);
    if (expected == AT_WORK || !atomic_compare_exchange_strong(&gilprobe_attached, &expected, AT_WORK))
        return -EBUSY;
    gp_need_real();
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* so that no signal of the script's is handled in it */
    int error = gp_real.pthread_create(&thread, &attributes, act, asked_to_end ? folder_asked : NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error)
        atomic_store(&gilprobe_attached, -error);
    return -error;
}

GP_EXPORT int gilprobe_attach(const char *folder, const char *options) {
    if (strlen(folder) >= sizeof folder_asked || strlen(options) >= sizeof options_asked)
        return -ENAMETOOLONG;
    strcpy(folder_asked, folder);
    strcpy(options_asked, options);
    return in_another_thread(false);
}

GP_EXPORT int gilprobe_detach(void) { return in_another_thread(true); }
