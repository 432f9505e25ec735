/* How long a thread could run but had no core. The kernel tells it in schedstat. To open that file takes longer
 * than to read it, so a thread that asks often keeps it open, by a number that the program will hardly use; and as the
 * program may close any number and open another file by it, each use begins with a look at whose file it is. */
#include "core.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* Questions of a thread before its file is kept. */
#define OFTEN 64
/* Files kept in a process, of those that it may have open at least. */
#define MOST_KEPT 64
#define ROOM 1024
#define SCHEDSTAT "/schedstat"

static _Atomic int kept;

static bool is_ours(const Slot *slot, int fd) { return gp_file_of(fd) == slot->run_delay_file; }

/* In: a number that is taken out of the slot. */
static void let_go(const Slot *slot, int fd) {
    if (is_ours(slot, fd))
        gp_syscall3(SYS_close, fd, 0, 0);
    atomic_fetch_sub(&kept, 1);
}

/* Any thread may. */
void gp_run_delay_close(Slot *slot) {
    int fd = atomic_exchange(&slot->run_delay_fd, 0) - 1;
    if (fd >= 0)
        let_go(slot, fd);
}

/* A signal handler that waits may have put one there meanwhile, or the recording may have ended. */
static void put_back(Slot *slot, int fd) {
    int none = 0;
    if (!atomic_compare_exchange_strong(&slot->run_delay_fd, &none, fd + 1))
        let_go(slot, fd);
    else if (!atomic_load(&gp_active))
        gp_run_delay_close(slot);
}

static void keep(Slot *slot, long fd) {
    struct rlimit most;
    if (atomic_load_explicit(&slot->run_delay_fd, memory_order_relaxed) ||
        gp_syscall6(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&most, 0, 0) || most.rlim_cur < ROOM)
        return;
    if (atomic_fetch_add(&kept, 1) >= MOST_KEPT) {
        atomic_fetch_sub(&kept, 1);
        return;
    }
    long high = gp_syscall3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, GP_HIGH_DESCRIPTOR);
    /* By its path: the program may have put a file of its own there since. */
    slot->run_delay_file = gp_task_file(slot->tid, SCHEDSTAT);
    if (high < 0 || !slot->run_delay_file || !is_ours(slot, (int)high)) {
        atomic_fetch_sub(&kept, 1);
        return;
    }
    put_back(slot, (int)high);
}

/* Nanoseconds that the calling thread was runnable without a core; 0 where that cannot be read. */
uint64_t gp_run_delay(Slot *slot) {
    char text[96];
    size_t got = 0;
    int fd = atomic_exchange(&slot->run_delay_fd, 0) - 1;
    if (fd >= 0 && is_ours(slot, fd)) {
        got = gp_read_text(fd, text, sizeof text);
        put_back(slot, fd);
    } else {
        if (fd >= 0)
            let_go(slot, fd);
        long fresh = gp_open_task(slot->tid, SCHEDSTAT);
        if (fresh < 0)
            return 0;
        got = gp_read_text(fresh, text, sizeof text);
        if (++slot->run_delay_asked >= OFTEN) {
            slot->run_delay_asked = 0;
            keep(slot, fresh);
        }
        gp_syscall3(SYS_close, fresh, 0, 0);
    }
    uint64_t cpu_ns, run_delay_ns;
    gp_schedstat(text, &cpu_ns, &run_delay_ns);
    return got ? run_delay_ns : 0;
}

/* The recording ends, or this is the child of fork, which has its parent's. */
void gp_run_delay_close_all(void) {
    for (Slot *slot = gp_slots_all(); slot; slot = slot->next_all)
        gp_run_delay_close(slot);
}
