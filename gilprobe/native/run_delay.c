/* How long a thread could run but had no core. The kernel tells it in schedstat. To open that file takes five times as
 * long as to read it, so a thread that asks often keeps it open, by a number that the program will hardly use; and as
 * the program may close any number and open another file by it, each use begins with a look at whose file it is. */
#include "core.h"
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Questions of a thread before its file is kept. */
#define OFTEN 64
/* Files kept in a process, of those that it may have open at least. */
#define MOST_KEPT 64
#define ROOM 1024

static _Atomic int kept;

/* What /proc says of a thread in `file`, not closed yet; below 0 where it cannot be opened. */
static long open_task(uint32_t tid, const char *file) {
    char path[64] = "/proc/self/task/", *end = path + 16, digits[12];
    int n = 0;
    do
        digits[n++] = (char)('0' + tid % 10);
    while (tid /= 10);
    while (n)
        *end++ = digits[--n];
    strcpy(end, file);
    return gp_syscall6(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
}

static size_t read_text(long fd, char *text, size_t room) {
    long got = gp_syscall6(SYS_pread64, fd, (long)text, (long)room - 1, 0, 0, 0);
    text[got > 0 ? got : 0] = 0;
    return got > 0 ? (size_t)got : 0;
}

/* Ended by a 0; bytes read, 0 for nothing. */
size_t gp_read_task(uint32_t tid, const char *file, char *text, size_t room) {
    long fd = open_task(tid, file);
    if (fd < 0)
        return 0;
    size_t got = read_text(fd, text, room);
    gp_syscall3(SYS_close, fd, 0, 0);
    return got;
}

uint64_t gp_number(const char **text) {
    uint64_t value = 0;
    while (**text >= '0' && **text <= '9')
        value = value * 10 + (uint64_t)(*(*text)++ - '0');
    while (**text == ' ')
        (*text)++;
    return value;
}

/* cpu_ns and run_delay_ns of a thread: "RUN_NS DELAY_NS TIMESLICES". */
bool gp_read_schedstat(uint32_t tid, uint64_t *cpu_ns, uint64_t *run_delay_ns) {
    char text[96];
    if (!gp_read_task(tid, "/schedstat", text, sizeof text))
        return false;
    const char *at = text;
    *cpu_ns = gp_number(&at);
    *run_delay_ns = gp_number(&at);
    return true;
}

static bool file_of(long fd, uint64_t *file) {
    struct stat status;
    if (gp_syscall3(SYS_fstat, fd, (long)&status, 0))
        return false;
    *file = (uint64_t)status.st_dev << 32 ^ status.st_ino;
    return true;
}

static bool is_ours(const Slot *slot, int fd) {
    uint64_t file;
    return file_of(fd, &file) && file == slot->run_delay_file;
}

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
    if (high < 0 || !file_of(high, &slot->run_delay_file)) {
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
        got = read_text(fd, text, sizeof text);
        put_back(slot, fd);
    } else {
        if (fd >= 0)
            let_go(slot, fd);
        long fresh = open_task(slot->tid, "/schedstat");
        if (fresh < 0)
            return 0;
        got = read_text(fresh, text, sizeof text);
        if (++slot->run_delay_asked >= OFTEN) {
            slot->run_delay_asked = 0;
            keep(slot, fresh);
        }
        gp_syscall3(SYS_close, fresh, 0, 0);
    }
    if (!got)
        return 0;
    const char *at = text;
    gp_number(&at);
    return gp_number(&at);
}

/* The recording ends, or this is the child of fork, which has its parent's. */
void gp_run_delay_close_all(void) {
    for (Slot *slot = gp_slots_all(); slot; slot = slot->next_all)
        gp_run_delay_close(slot);
}
