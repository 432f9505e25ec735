/* Small files of /proc: each is read by one call, whole or as far as there is room. */
#include "core.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

typedef char TaskPath[64];

static void task_path(TaskPath path, uint32_t tid, const char *file) {
    char *end = stpcpy(path, "/proc/self/task/"), digits[12];
    int n = 0;
    do
        digits[n++] = (char)('0' + tid % 10);
    while (tid /= 10);
    while (n)
        *end++ = digits[--n];
    strcpy(end, file);
}

/* What /proc says of a thread in `file`, not closed yet; below 0 where it cannot be opened. */
long gp_open_task(uint32_t tid, const char *file) {
    TaskPath path;
    task_path(path, tid, file);
    return gp_syscall6(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
}

static uint64_t identity(const struct stat *status) { return (uint64_t)status->st_dev << 32 ^ status->st_ino; }

/* The same number as gp_file_of gives for a descriptor of it, as long as one is open; 0 for none. */
uint64_t gp_task_file(uint32_t tid, const char *file) {
    TaskPath path;
    struct stat status;
    task_path(path, tid, file);
    return gp_syscall6(SYS_newfstatat, AT_FDCWD, (long)path, (long)&status, 0, 0, 0) ? 0 : identity(&status);
}

/* 0 for a descriptor that is not open. */
uint64_t gp_file_of(long fd) {
    struct stat status;
    return gp_syscall3(SYS_fstat, fd, (long)&status, 0) ? 0 : identity(&status);
}

size_t gp_read_text(long fd, char *text, size_t room) {
    long got = gp_syscall6(SYS_pread64, fd, (long)text, (long)room - 1, 0, 0, 0);
    text[got > 0 ? got : 0] = 0;
    return got > 0 ? (size_t)got : 0;
}

/* Ended by a 0; bytes read, 0 for nothing. */
size_t gp_read_task(uint32_t tid, const char *file, char *text, size_t room) {
    long fd = gp_open_task(tid, file);
    text[0] = 0;
    if (fd < 0)
        return 0;
    size_t got = gp_read_text(fd, text, room);
    gp_syscall3(SYS_close, fd, 0, 0);
    return got;
}

/* Goes on to what follows it and its spaces. */
uint64_t gp_number(const char **text) {
    uint64_t value = 0;
    while (**text >= '0' && **text <= '9')
        value = value * 10 + (uint64_t)(*(*text)++ - '0');
    while (**text == ' ')
        (*text)++;
    return value;
}

/* text: "RUN_NS DELAY_NS TIMESLICES". */
void gp_schedstat(const char *text, uint64_t *cpu_ns, uint64_t *run_delay_ns) {
    *cpu_ns = gp_number(&text);
    *run_delay_ns = gp_number(&text);
}

bool gp_read_schedstat(uint32_t tid, uint64_t *cpu_ns, uint64_t *run_delay_ns) {
    char text[96];
    size_t got = gp_read_task(tid, "/schedstat", text, sizeof text);
    gp_schedstat(text, cpu_ns, run_delay_ns);
    return got > 0;
}
