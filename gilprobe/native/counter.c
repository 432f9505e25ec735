/* Loads that hit a cache line another core had modified, counted for each thread: what threads that fight over one
 * object do. Only where the processor has a precise event for it and the kernel lets us count it. */
#define _GNU_SOURCE
#include "core.h"

#include <cpuid.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <string.h>

#include "python.h"

/* MEM_LOAD_L3_HIT_RETIRED.XSNP_HITM, later called XSNP_FWD: event 0xd2, umask 0x04 (Linux
 * tools/perf/pmu-events/arch/x86: skylake to emeraldrapids; models from its mapfile.csv). Hybrid processors are left
 * out: their small cores count something else under this number. */
#define MODIFIED_ELSEWHERE 0x04d2u
static const uint8_t models[] = {0x4e, 0x5e, 0x8e, 0x9e, 0xa5, 0xa6, 0x55, 0x7d,
                                 0x7e, 0xa7, 0x6a, 0x6c, 0x8c, 0x8d, 0x8f, 0xcf};

static bool on;

/* read(2) of such a counter: PERF_FORMAT_TOTAL_TIME_ENABLED and _RUNNING */
typedef struct {
    uint64_t value, enabled_ns, running_ns;
} Counted;

static bool known_processor(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(0, &a, &b, &c, &d) || b != signature_INTEL_ebx || d != signature_INTEL_edx ||
        c != signature_INTEL_ecx || !__get_cpuid(1, &a, &b, &c, &d) || (a >> 8 & 15) != 6)
        return false;
    unsigned model = (a >> 4 & 15) | (a >> 12 & 0xf0);
    return memchr(models, (int)model, sizeof models) != NULL;
}

static long open_counter(uint32_t type, uint64_t config) {
    struct perf_event_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.size = sizeof attributes;
    attributes.type = type;
    attributes.config = config;
    attributes.exclude_kernel = 1;
    attributes.exclude_hv = 1;
    attributes.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
    return gp_syscall6(SYS_perf_event_open, (long)&attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC, 0);
}

/* Once a recording, in its first thread. The header says what is counted, or why nothing is. */
void gp_counter_setup(void) {
    on = false;
    gp_header->counter_errno = gp_header->counter_flags = 0;
    if (!gp_options.rate_hz || (!gp_python.free_threaded && !gp_options.counter_given))
        return;
    gp_header->counter_type = gp_options.counter_given ? gp_options.counter_type : PERF_TYPE_RAW;
    gp_header->counter_config = gp_options.counter_given ? gp_options.counter_config : MODIFIED_ELSEWHERE;
    bool known = gp_options.counter_given || known_processor();
    /* An unknown processor is asked for cycles: without any counter of its own, that is what there is to say. */
    long fd = known ? open_counter(gp_header->counter_type, gp_header->counter_config)
                    : open_counter(PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES);
    gp_header->counter_flags = GP_COUNTER_TRIED | (known ? 0 : GP_COUNTER_UNKNOWN);
    if (fd < 0)
        gp_header->counter_errno = (uint64_t)-fd;
    else
        gp_syscall3(SYS_close, fd, 0, 0);
    on = known && fd >= 0;
}

void gp_counter_start(Slot *slot) {
    if (!on || atomic_load_explicit(&slot->counter_fd, memory_order_relaxed))
        return;
    long fd = open_counter((uint32_t)gp_header->counter_type, gp_header->counter_config);
    if (fd < 0)
        return;
    long high = gp_syscall3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, GP_HIGH_DESCRIPTOR);
    gp_syscall3(SYS_close, fd, 0, 0);
    atomic_store(&slot->counter_fd, high < 0 ? 0 : (int)high + 1);
}

static void read_counter(Slot *slot, int fd) {
    Counted counted;
    if (gp_syscall3(SYS_read, fd, &counted, sizeof counted) != sizeof counted)
        return;
    slot->record->counted = counted.value;
    slot->record->counted_enabled_ns = counted.enabled_ns;
    slot->record->counted_running_ns = counted.running_ns;
}

/* Any thread may; only one reads and closes, or the number could be another file's by then. */
void gp_counter_stop(Slot *slot) {
    int fd = atomic_exchange(&slot->counter_fd, 0) - 1;
    if (fd < 0)
        return;
    read_counter(slot, fd);
    gp_syscall3(SYS_close, fd, 0, 0);
}

/* The child's descriptors count the parent. */
void gp_counter_forked(Slot *slot) {
    int fd = atomic_exchange(&slot->counter_fd, 0) - 1;
    if (fd >= 0)
        gp_syscall3(SYS_close, fd, 0, 0);
}
