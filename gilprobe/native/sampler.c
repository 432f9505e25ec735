/* Registers and Python stack of each thread, by its CPU time: a signal from perf's task clock, or from a timer on the
 * thread's CPU clock where perf may not be used or descriptors are few. */
#define _GNU_SOURCE
#include "core.h"

#include <fcntl.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <ucontext.h>

#include "python.h"
#include "real.h"

#define SAMPLER_SIGNAL (SIGRTMAX - 2)
#define HIGH_DESCRIPTOR 200
/* Up to here a timer serves, which needs no descriptor that the script could see: the kernel looks at it at each of its
 * own ticks, 250 a second or more. */
#define MOST_TIMER_HZ 100
#define ONE_SECOND_NS 1000000000u

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define MOST_GREETED 4096
#define LEAST_PENDING 1024u

static bool on;

static struct {
    _Atomic uint32_t tid; /* 0 = adopted by the thread's slot */
    int timer;
} greeted[MOST_GREETED];
static uint32_t greeted_count;
static struct sigaction script_action; /* what the script believes to be installed on our signal */

bool gp_is_sampler_signal(int number, int code) {
    return on && number == SAMPLER_SIGNAL &&
           (code == SI_TIMER || code == POLL_IN || code == POLL_HUP || code == SI_SIGIO);
}

static void take_sample(Slot *slot, const ucontext_t *context) {
    static const uint8_t order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                      REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    /* Where a free-threaded object's atomics lie: ob_ref_shared, ob_ref_local, ob_mutex; elsewhere: ob_refcnt. */
    static const uint8_t offsets[] = {16, 12, 10, 0};
    SampleRecord sample = {.thread = slot->thread, .time_ns = gp_now(), .span_id = slot->spans.current};
    sample.flags = slot->record->gil_since_ticks ? GP_SAMPLE_HELD : 0;
    sample.pc = slot->last_pc = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
    for (int i = 0; i < 16; i++)
        sample.registers[i] = (uint64_t)context->uc_mcontext.gregs[order[i]];
    sample.stack_id = gp_stack_in_signal(slot);
    sample.address = gp_atomic_address(sample.pc, sample.registers);
    for (unsigned i = 0; sample.address && !sample.type_id && i < sizeof offsets; i++) {
        sample.type_id = gp_type_of(slot, sample.address - offsets[i], 0); /* the bytes may only look atomic */
        if (sample.type_id)
            sample.object = sample.address - offsets[i];
    }
    if (GP_RARE(gp_options.prove))
        gp_prove_sample(slot);
    SampleRecord *record = gp_array_begin(slot, &slot->samples, GP_CHUNK_SAMPLES, sizeof *record);
    if (!record)
        return;
    *record = sample;
    gp_array_done(&slot->samples, sizeof *record);
    slot->record->samples++;
}

static void on_signal(int number, siginfo_t *info, void *context) {
    int error = errno;
    Slot *slot = gp_slot_here;
    if (info->si_code == SI_USER || info->si_code == SI_QUEUE || info->si_code == SI_TKILL) {
        if (script_action.sa_flags & SA_SIGINFO)
            script_action.sa_sigaction(number, info, context);
        else if (script_action.sa_handler != SIG_DFL && script_action.sa_handler != SIG_IGN)
            script_action.sa_handler(number);
    } else if (on && gp_header->pid == (uint32_t)gp_syscall3(SYS_getpid, 0, 0, 0) && (slot = gp_slot_in_signal())) {
        if (slot->busy) {
            gp_header->lost_samples++;
        } else {
            slot->busy = 1;
            take_sample(slot, context);
            slot->busy = 0;
        }
        if (slot->sampler_fd >= 0)
            gp_syscall3(SYS_ioctl, slot->sampler_fd, PERF_EVENT_IOC_REFRESH, 1);
    }
    errno = error;
}

/* Sampling must not take the descriptors the script needs. */
static bool few_descriptors(long fd) {
    struct rlimit limit;
    return gp_syscall6(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&limit, 0, 0) ||
           (uint64_t)fd - HIGH_DESCRIPTOR > limit.rlim_cur / 4;
}

/* A signal that finds no room in the queue of pending ones comes as SIGIO instead, which ends a program that has no
 * handler for it (fcntl(2), F_SETSIG). */
static bool few_pending_signals(void) {
    struct rlimit limit;
    return gp_syscall6(SYS_prlimit64, 0, RLIMIT_SIGPENDING, 0, (long)&limit, 0, 0) || limit.rlim_cur < LEAST_PENDING;
}

static bool start_perf(Slot *slot) {
    if (few_pending_signals()) {
        gp_header->sampler_errno = EAGAIN;
        return false;
    }
    struct perf_event_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.config = PERF_COUNT_SW_TASK_CLOCK;
    attributes.sample_period = ONE_SECOND_NS / gp_options.rate_hz;
    attributes.sample_type = PERF_SAMPLE_IP;
    attributes.exclude_kernel = 1;
    attributes.exclude_hv = 1;
    attributes.disabled = 1;
    attributes.wakeup_events = 1;
    long fd = gp_syscall6(SYS_perf_event_open, (long)&attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC, 0);
    if (fd < 0) {
        gp_header->sampler_errno = (uint64_t)-fd;
        return false;
    }
    long high = gp_syscall3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR);
    gp_syscall3(SYS_close, fd, 0, 0);
    if (high < 0 || few_descriptors(high)) {
        if (high >= 0)
            gp_syscall3(SYS_close, high, 0, 0);
        gp_header->sampler_errno = EMFILE;
        return false;
    }
    struct f_owner_ex owner = {F_OWNER_TID, (pid_t)slot->tid};
    gp_syscall3(SYS_fcntl, high, F_SETOWN_EX, &owner);
    gp_syscall3(SYS_fcntl, high, F_SETSIG, SAMPLER_SIGNAL);
    gp_syscall3(SYS_fcntl, high, F_SETFL, O_ASYNC | O_NONBLOCK);
    slot->sampler_fd = (int)high;
    gp_header->flags |= GP_HEADER_SAMPLED_PERF;
    gp_syscall3(SYS_ioctl, high, PERF_EVENT_IOC_REFRESH, 1);
    return true;
}

/* On the CPU clock of a thread of this process; its id, or -1. */
static int start_timer(uint32_t tid, clockid_t clock) {
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SAMPLER_SIGNAL;
    event.sigev_notify_thread_id = (pid_t)tid;
    int id;
    if (gp_syscall3(SYS_timer_create, clock, &event, &id) < 0)
        return -1;
    uint64_t period_ns = ONE_SECOND_NS / gp_options.rate_hz;
    struct timespec period = {(time_t)(period_ns / ONE_SECOND_NS), (long)(period_ns % ONE_SECOND_NS)};
    struct itimerspec both = {period, period};
    gp_syscall6(SYS_timer_settime, id, 0, (long)&both, 0, 0, 0);
    gp_header->flags |= GP_HEADER_SAMPLED_TIMER;
    return id;
}

static int adopt(uint32_t tid) {
    for (uint32_t i = 0; i < greeted_count; i++) {
        uint32_t expected = tid;
        if (atomic_compare_exchange_strong(&greeted[i].tid, &expected, 0))
            return greeted[i].timer;
    }
    return -1;
}

void gp_sampler_start(Slot *slot) {
    if (on)
        gp_counter_start(slot);
    if (!on || slot->sampler_on)
        return;
    int error = errno;
    int timer = adopt(slot->tid);
    bool timer_will_do = gp_options.rate_hz <= MOST_TIMER_HZ && gp_options.sampler == 0;
    if (timer < 0 && gp_options.sampler != 2 && !timer_will_do && start_perf(slot)) {
        slot->sampler_on = 1;
    } else {
        if (timer < 0)
            timer = start_timer(slot->tid, CLOCK_THREAD_CPUTIME_ID);
        slot->sampler_timer = timer;
        slot->sampler_on = timer < 0 ? 0 : 2;
    }
    errno = error;
}

void gp_sampler_stop(Slot *slot) {
    uint8_t was_on = __atomic_exchange_n(&slot->sampler_on, 0, __ATOMIC_ACQ_REL);
    int fd = slot->sampler_fd;
    slot->sampler_fd = -1;
    gp_counter_stop(slot);
    if (was_on == 1)
        gp_syscall3(SYS_close, fd, 0, 0);
    else if (was_on == 2)
        gp_syscall3(SYS_timer_delete, slot->sampler_timer, 0, 0);
}

/* The recording ends, the process goes on. Our handler stays: a signal that is on its way would else end the process.
 */
void gp_sampler_stop_all(void) {
    on = false;
    for (Slot *slot = gp_slots_all(); slot; slot = slot->next_all)
        if (slot->session == gp_session)
            gp_sampler_stop(slot);
    for (uint32_t i = 0; i < greeted_count; i++)
        if (atomic_exchange(&greeted[i].tid, 0))
            gp_syscall3(SYS_timer_delete, greeted[i].timer, 0, 0);
    greeted_count = 0;
}

/* Threads that were there before the recording, and may compute on without ever calling a hook: a timer of ours on
 * their clock brings them its signal. */
void gp_sampler_greet(void) {
    if (!on)
        return;
    static uint32_t tids[MOST_GREETED];
    uint32_t count = gp_tasks(tids, MOST_GREETED);
    greeted_count = 0;
    for (uint32_t i = 0; i < count && i < MOST_GREETED; i++) {
        if (gp_slot_here && tids[i] == gp_slot_here->tid)
            continue;
        /* The kernel's clock of another thread (linux/posix-timers.h, MAKE_THREAD_CPUCLOCK with CPUCLOCK_SCHED). */
        int timer = start_timer(tids[i], (clockid_t)(~tids[i] << 3 | 6));
        if (timer < 0)
            continue;
        greeted[greeted_count].timer = timer;
        atomic_store(&greeted[greeted_count].tid, tids[i]);
        greeted_count++;
    }
}

/* The child has the parent's perf descriptors, which count the parent; timers it has none. */
void gp_sampler_forked(void) {
    greeted_count = 0;
    for (Slot *slot = gp_slots_all(); slot; slot = slot->next_all) {
        if (slot->sampler_on == 1)
            gp_syscall3(SYS_close, slot->sampler_fd, 0, 0);
        slot->sampler_on = 0;
        slot->sampler_fd = -1;
        gp_counter_forked(slot);
    }
}

void gp_sampler_setup(void) {
    static bool installed;
    gp_counter_setup();
    if (!gp_options.rate_hz)
        return;
    if (installed) {
        on = true;
        gp_header->rate_hz = gp_options.rate_hz;
        return;
    }
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    installed = on = !gp_real_sigaction(SAMPLER_SIGNAL, &action, &script_action);
    gp_header->rate_hz = on ? gp_options.rate_hz : 0;
}

/* The script sees its own action on our signal, and gets the signals that were not ours. False: another signal. */
bool gp_sampler_sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    if (!on || number != SAMPLER_SIGNAL)
        return false;
    struct sigaction before = script_action;
    if (action)
        script_action = *action;
    if (old)
        *old = before;
    return true;
}
