/* What the whole machine did meanwhile. A hypervisor may take a core away while a thread runs on it: that time is in
 * neither the thread's CPU clock nor its run delay (CONFIG_PARAVIRT_TIME_ACCOUNTING takes it off the first), and only
 * the machine's sum of it is known. */
#include "core.h"

#include <fcntl.h>

/* USER_HZ, in which /proc/stat counts, is 100 on every architecture but Alpha. */
#define TICK_NS 10000000u
/* proc_stat(5): cpu user nice system idle iowait irq softirq steal ... of all cores together */
enum { IDLE = 3, IOWAIT = 4, STEAL = 7, COLUMNS = 8 };

/* busy_ns: of all programs and the kernel. Both stay as they are where /proc/stat cannot be read. */
void gp_machine_read(uint64_t *busy_ns, uint64_t *stolen_ns) {
    char text[256]; /* the first line is enough, and the kernel makes all of them anyway */
    long fd = gp_syscall6(SYS_openat, AT_FDCWD, (long)"/proc/stat", O_RDONLY | O_CLOEXEC, 0, 0, 0);
    if (fd < 0)
        return;
    size_t got = gp_read_text(fd, text, sizeof text);
    gp_syscall3(SYS_close, fd, 0, 0);
    if (got < 5)
        return;
    const char *at = text + 5; /* "cpu", and two spaces */
    uint64_t ticks[COLUMNS];
    for (int column = 0; column < COLUMNS; column++)
        ticks[column] = gp_number(&at);
    *busy_ns = *stolen_ns = 0;
    for (int column = 0; column < STEAL; column++)
        *busy_ns += column == IDLE || column == IOWAIT ? 0 : ticks[column] * TICK_NS;
    *stolen_ns = ticks[STEAL] * TICK_NS;
}
