/* The script's signal handlers, called through ours, which counts them.
 *
 * A signal that comes between CPython's last look at its flag and a blocking call does not end that call. What a hook
 * does before the call would widen this gap a hundredfold; so a hook that saw a handler run meanwhile returns EINTR, as
 * the call would have, had it been reached. */
#define _GNU_SOURCE
#include "core.h"

#include <dlfcn.h>
#include <signal.h>

typedef void (*Handler)(int, siginfo_t *, void *);

static _Atomic(Handler) handlers[NSIG]; /* the script's, where the kernel has `relay` */
static _Atomic int flags[NSIG];         /* as the script gave them */

static int (*real_sigaction)(int, const struct sigaction *, struct sigaction *);

int gp_real_sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    if (!real_sigaction)
        real_sigaction = (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
    return real_sigaction(number, action, old);
}

/* The kernel sends SIGIO where its queue of pending signals has no room for perf's (fcntl(2), F_SETSIG), and that would
 * end a script which has no handler for it. The script has it by default, and sees it so. */
static _Atomic bool guarded;

static void default_sigio(const siginfo_t *info) {
    if (info->si_code == SI_KERNEL) {
        gp_sampler_refused();
        return;
    }
    struct sigaction usual = {.sa_handler = SIG_DFL};
    gp_real_sigaction(SIGIO, &usual, NULL);
    gp_syscall3(SYS_tgkill, gp_syscall3(SYS_getpid, 0, 0, 0), gp_syscall3(SYS_gettid, 0, 0, 0), SIGIO);
}

static void relay(int number, siginfo_t *info, void *context) {
    Slot *slot = gp_slot_here;
    Handler handler = atomic_load_explicit(&handlers[number], memory_order_acquire);
    if (!handler) {
        if (number == SIGIO)
            default_sigio(info);
        return;
    }
    if (slot) {
        slot->handled.any++;
        if (!(atomic_load_explicit(&flags[number], memory_order_relaxed) & SA_RESTART))
            slot->handled.interrupting++;
    }
    /* A handler of one argument ignores the other two: x86-64 passes them in registers. */
    handler(number, info, context);
}

/* Those that a fault raises keep the script's own handler: it reads the context, and no blocking call waits for it. */
static bool relayed(int number) {
    switch (number) {
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
    case SIGABRT:
    case SIGSYS:
        return false;
    default:
        return number > 0 && number < NSIG;
    }
}

GP_EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    if (gp_sampler_sigaction(number, action, old))
        return 0;
    if (!relayed(number) || !atomic_load_explicit(&gp_active, memory_order_relaxed))
        return gp_real_sigaction(number, action, old);
    Handler before = atomic_load_explicit(&handlers[number], memory_order_acquire);
    int before_flags = atomic_load_explicit(&flags[number], memory_order_relaxed);
    struct sigaction ours, was;
    bool kept = number == SIGIO && atomic_load(&guarded) && action && action->sa_handler == SIG_DFL;
    bool function = kept || (action && action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN);
    /* A library may give back what signal() told it was there: our relay, whose handler then stays. */
    if (function && action->sa_sigaction != relay) {
        /* A vfork child sets defaults only, so these are never its. Stored first: the new one may be called at once. */
        atomic_store_explicit(&flags[number], action->sa_flags, memory_order_relaxed);
        atomic_store_explicit(&handlers[number], action->sa_sigaction, memory_order_release);
        ours = *action;
        ours.sa_sigaction = relay;
        ours.sa_flags |= SA_SIGINFO | (kept ? SA_RESTART : 0);
        action = &ours;
    }
    int result = gp_real_sigaction(number, action, &was);
    if (result) {
        atomic_store_explicit(&flags[number], before_flags, memory_order_relaxed);
        atomic_store_explicit(&handlers[number], before, memory_order_release);
        return result;
    }
    if (old) {
        *old = was;
        if (was.sa_sigaction == relay) {
            old->sa_sigaction = before;
            old->sa_flags = before ? (was.sa_flags & ~SA_SIGINFO) | (before_flags & SA_SIGINFO) : before_flags;
        }
    }
    return 0;
}

/* Called where the first perf event of this process is opened. */
void gp_signals_guard(void) {
    struct sigaction was;
    if (atomic_exchange(&guarded, true) || gp_real_sigaction(SIGIO, NULL, &was) || was.sa_handler != SIG_DFL)
        return;
    was.sa_sigaction = relay;
    was.sa_flags |= SA_SIGINFO | SA_RESTART;
    gp_real_sigaction(SIGIO, &was, NULL);
}

/* Handlers that were there before the recording. */
void gp_signals_take_over(void) {
    for (int number = 1; number < NSIG; number++) {
        struct sigaction was;
        if (!relayed(number) || gp_sampler_sigaction(number, NULL, NULL) || gp_real_sigaction(number, NULL, &was) ||
            was.sa_handler == SIG_DFL || was.sa_handler == SIG_IGN || was.sa_sigaction == relay)
            continue;
        sigaction(number, &was, NULL);
    }
}

void gp_signals_give_back(void) {
    atomic_store(&guarded, false);
    for (int number = 1; number < NSIG; number++) {
        struct sigaction was;
        if (!relayed(number) || gp_real_sigaction(number, NULL, &was) || was.sa_sigaction != relay)
            continue;
        int own = atomic_load_explicit(&flags[number], memory_order_relaxed);
        was.sa_sigaction = atomic_load_explicit(&handlers[number], memory_order_acquire);
        was.sa_flags = (was.sa_flags & ~SA_SIGINFO) | (own & SA_SIGINFO);
        gp_real_sigaction(number, &was, NULL);
    }
}
