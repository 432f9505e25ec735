/* Registers and Python stack of each thread, by its CPU time: a signal from perf's task clock, or from a timer on the
 * thread's CPU clock where perf may not be used or descriptors are few. */
#define _GNU_SOURCE
#include "core.h"

#include <fcntl.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <ucontext.h>

#include "real.h"
#include "python.h"
#include "sampler.h"

#define HIGH_DESCRIPTOR 200
/* Up to here a timer serves, which needs no descriptor that the script could see: the kernel looks at it at each of its
 * own ticks, 250 a second or more. */
#define MOST_TIMER_HZ 100
#define ONE_SECOND_NS 1000000000u

#define LEAST_PENDING 1024u

static bool on;

static struct sigaction script_action; /* what the script believes to be installed on our signal */

bool gp_is_sampler_signal(int number, int code) {
    return on && number == GP_SAMPLER_SIGNAL &&
           (code == SI_TIMER || code == POLL_IN || code == POLL_HUP || code == SI_SIGIO);
}

static void take_sample(Slot *slot, const ucontext_t *context) {
    static const uint8_t order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                      REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    /* Where a free-threaded object's atomics lie: ob_ref_shared, ob_ref_local, ob_mutex; elsewhere: ob_refcnt. */
    static const uint8_t offsets[] = {offsetof(ObjectHead, shared), offsetof(ObjectHead, local),
                                      offsetof(ObjectHead, mutex), 0};
    SampleRecord sample = {.thread = slot->thread, .time_ns = gp_now(), .span_id = slot->spans.current};
    sample.flags = slot->record->gil_since_ticks ? GP_SAMPLE_HELD : 0;
    sample.pc = slot->last_pc = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
    for (int i = 0; i < 16; i++)
        sample.registers[i] = (uint64_t)context->uc_mcontext.gregs[order[i]];
    sample.stack_id = gp_stack_in_signal(slot);
    sample.address = gp_atomic_address(sample.pc, sample.registers);
    if (!sample.address && gp_python.free_threaded)
        sample.base = gp_replaced_base(sample.pc, sample.registers, &sample.base_back);
    for (unsigned i = 0; sample.address && !sample.type_id && i < sizeof offsets; i++) {
        sample.type_id = gp_type_of(slot, sample.address - offsets[i], 0); /* the bytes may only look atomic */
        if (sample.type_id)
            sample.object = sample.address - offsets[i];
    }
    sample.flags |= gp_gc_here(slot) ? GP_SAMPLE_COLLECTING : 0;
    if (GP_RARE(gp_options.prove))
        gp_prove_sample(slot);
    SampleRecord *record = gp_array_begin(slot, &slot->samples, GP_CHUNK_SAMPLES, sizeof *record);
    if (!record)
        return;
    *record = sample;
    gp_array_done(&slot->samples, sizeof *record);
    slot->record->samples++;
}

static void sampled(const siginfo_t *info, const void *context) {
    if (!on || gp_header->pid != (uint32_t)gp_syscall3(SYS_getpid, 0, 0, 0))
        return;
    if (gp_is_census(info)) {
        gp_census();
        return;
    }
    Slot *slot = gp_slot_in_signal();
    if (!slot)
        return;
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

/* A SIGIO came in place of a sample's signal, which the full queue of pending ones refused. */
void gp_sampler_refused(void) {
    Slot *slot = gp_slot_here;
    if (!slot || slot->sampler_fd < 0)
        return;
    slot->handled.own++;
    gp_header->lost_samples++;
    gp_syscall3(SYS_ioctl, slot->sampler_fd, PERF_EVENT_IOC_REFRESH, 1);
}

static void on_signal(int number, siginfo_t *info, void *context) {
    int error = errno;
    Slot *slot = gp_slot_here;
    if (info->si_code == SI_USER || info->si_code == SI_QUEUE || info->si_code == SI_TKILL) {
        if (script_action.sa_flags & SA_SIGINFO)
            script_action.sa_sigaction(number, info, context);
        else if (script_action.sa_handler != SIG_DFL && script_action.sa_handler != SIG_IGN)
            script_action.sa_handler(number);
    } else {
        if (slot)
            slot->handled.own++;
        sampled(info, context);
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
    gp_signals_guard();
    struct f_owner_ex owner = {F_OWNER_TID, (pid_t)slot->tid};
    gp_syscall3(SYS_fcntl, high, F_SETOWN_EX, &owner);
    gp_syscall3(SYS_fcntl, high, F_SETSIG, GP_SAMPLER_SIGNAL);
    gp_syscall3(SYS_fcntl, high, F_SETFL, O_ASYNC | O_NONBLOCK);
    slot->sampler_fd = (int)high;
    gp_header->flags |= GP_HEADER_SAMPLED_PERF;
    gp_syscall3(SYS_ioctl, high, PERF_EVENT_IOC_REFRESH, 1);
    return true;
}

/* A fresh thread is one that began with this call. */
void gp_sampler_start(Slot *slot, bool fresh) {
    if (on)
        gp_counter_start(slot);
    if (!on || atomic_load_explicit(&slot->sampler, memory_order_relaxed) != GP_SAMPLER_NONE)
        return;
    int error = errno;
    bool timer_will_do = gp_options.rate_hz <= MOST_TIMER_HZ && gp_options.sampler == 0;
    bool timer_only = timer_will_do || gp_options.sampler == 2;
    if (!(fresh && timer_only && gp_timer_later(slot)) && (fresh || !gp_timer_adopt(slot))) {
        if (!timer_only && start_perf(slot))
            atomic_store(&slot->sampler, GP_SAMPLER_PERF);
        else
            gp_timer_start(slot);
    }
    errno = error;
}

void gp_sampler_stop(Slot *slot) {
    uint64_t was = atomic_exchange(&slot->sampler, GP_SAMPLER_NONE);
    int fd = slot->sampler_fd;
    slot->sampler_fd = -1;
    gp_counter_stop(slot);
    if (was == GP_SAMPLER_PERF)
        gp_syscall3(SYS_close, fd, 0, 0);
    else if ((was & 0xff) == GP_SAMPLER_TIMER)
        gp_syscall3(SYS_timer_delete, was >> 8, 0, 0);
}

/* The recording ends, the process goes on. Our handler stays: a signal that is on its way would else end the process.
 */
void gp_sampler_stop_all(void) {
    on = false;
    gp_census_end();
    for (Slot *slot = gp_slots_all(); slot; slot = slot->next_all)
        if (slot->session == gp_session)
            gp_sampler_stop(slot);
    gp_timers_ungreet();
}

/* Another program follows in this process, which has no handler for our signal. */
void gp_sampler_before_exec(void) {
    if (!on)
        return;
    gp_census_end();
    if (gp_slot_here)
        gp_sampler_stop(gp_slot_here);
}

void gp_sampler_exec_failed(void) {
    if (!on)
        return;
    gp_census_setup();
    if (gp_slot_here)
        gp_sampler_start(gp_slot_here, true); /* calls the census, for all that wait for it */
}

void gp_sampler_greet(void) {
    if (on)
        gp_timers_greet();
}

/* The child has the parent's perf descriptors, which count the parent; timers it has none. */
void gp_sampler_forked(void) {
    for (Slot *slot = gp_slots_all(); slot; slot = slot->next_all) {
        if (atomic_load(&slot->sampler) == GP_SAMPLER_PERF)
            gp_syscall3(SYS_close, slot->sampler_fd, 0, 0);
        atomic_store(&slot->sampler, GP_SAMPLER_NONE);
        slot->sampler_fd = -1;
        gp_counter_forked(slot);
    }
    if (on)
        gp_timers_forked();
}

void gp_sampler_setup(void) {
    static bool installed;
    gp_counter_setup();
    if (!gp_options.rate_hz)
        return;
    if (installed) {
        on = true;
        gp_census_setup();
        gp_header->rate_hz = gp_options.rate_hz;
        return;
    }
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    installed = on = !gp_real_sigaction(GP_SAMPLER_SIGNAL, &action, &script_action);
    gp_header->rate_hz = on ? gp_options.rate_hz : 0;
    if (on)
        gp_census_setup();
}

/* The script sees its own action on our signal, and gets the signals that were not ours. False: another signal. */
bool gp_sampler_sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    if (!on || number != GP_SAMPLER_SIGNAL)
        return false;
    struct sigaction before = script_action;
    if (action)
        script_action = *action;
    if (old)
        *old = before;
    return true;
}
