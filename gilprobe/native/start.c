/* Starting, forking, running other programs, ending. */
#define _GNU_SOURCE
#include "core.h"

#include <alloca.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "python.h"
#include "real.h"
#include "watch.h"

#define RECORDING "GILPROBE_RECORDING="
#define OPTIONS "GILPROBE_OPTIONS="
#define PRELOAD "LD_PRELOAD="
#define INJECTION "CUDA_INJECTION64_PATH="

_Atomic bool gp_active;
Options gp_options;
bool gp_ticks_are_ns;
char gp_preload_path[1024];
char gp_recording_variable[sizeof RECORDING + sizeof gp_options.folder];
char gp_options_variable[2048];
static char injection_variable[sizeof INJECTION + sizeof gp_preload_path]; /* empty without --cuda */

extern char **environ;

void gp_clock_setup(void) {
    char text[16] = "";
    long fd =
        gp_syscall6(SYS_openat, AT_FDCWD, (long)"/sys/devices/system/clocksource/clocksource0/current_clocksource",
                    O_RDONLY | O_CLOEXEC, 0, 0, 0);
    if (fd >= 0) {
        gp_syscall3(SYS_read, fd, text, sizeof text - 1);
        gp_syscall3(SYS_close, fd, 0, 0);
    }
    /* The kernel keeps time by the counter, or by a clock derived from it: then it is the same on all cores. */
    gp_ticks_are_ns = strncmp(text, "tsc", 3) && strncmp(text, "kvm-clock", 9) && strncmp(text, "hyperv", 6);
}

static void parse_options(const char *text) {
    for (const char *at = text; at && *at;) {
        const char *value = strchr(at, '=');
        if (!value)
            break;
        value++;
        if (!strncmp(at, "events=", 7))
            gp_options.events = atoi(value) != 0;
        else if (!strncmp(at, "prove=", 6))
            gp_options.prove = atoi(value) != 0;
        else if (!strncmp(at, "holds=", 6))
            gp_options.holds = atoi(value) != 0;
        else if (!strncmp(at, "rate=", 5))
            gp_options.rate_hz = (uint32_t)atoi(value);
        else if (!strncmp(at, "sampler=", 8))
            gp_options.sampler = !strncmp(value, "perf", 4) ? 1 : !strncmp(value, "timer", 5) ? 2 : 0;
        else if (!strncmp(at, "counter=", 8)) {
            char *config;
            gp_options.counter_type = (uint32_t)strtoul(value, &config, 10);
            gp_options.counter_given = *config == ':';
            gp_options.counter_config = gp_options.counter_given ? strtoull(config + 1, NULL, 10) : 0;
        } else if (!strncmp(at, "cuda=", 5))
            gp_options.cuda = atoi(value) != 0;
        else if (!strncmp(at, "cuda_raw=", 9))
            gp_options.cuda_raw = (uint32_t)atoi(value);
        else if (!strncmp(at, "cupti=", 6))
            snprintf(gp_options.cupti, sizeof gp_options.cupti, "%.*s", (int)strcspn(value, ","), value);
        else if (!strncmp(at, "watchdog_ms=", 12))
            gp_watch.on = (gp_watch.limit_ns = strtoull(value, NULL, 10) * 1000000) > 0;
        else if (!strncmp(at, "on_deadlock=", 12))
            gp_watch.on_deadlock = !strncmp(value, "raise", 5)   ? GP_RAISE
                                   : !strncmp(value, "abort", 5) ? GP_ABORT
                                                                 : GP_REPORT;
        at = strchr(value, ',');
        at = at ? at + 1 : NULL;
    }
}

/* The script must not see our variables; exec gives them to its children again. */
static void hide_environment(void) {
    Dl_info here;
    if (dladdr((void *)hide_environment, &here) && here.dli_fname)
        snprintf(gp_preload_path, sizeof gp_preload_path, "%s", here.dli_fname);
    const char *preload = getenv("LD_PRELOAD");
    if (preload) {
        char *rest = alloca(strlen(preload) + 1), *out = rest;
        size_t own = strlen(gp_preload_path);
        for (const char *at = preload; *at;) {
            size_t bytes = strcspn(at, ": ");
            if (bytes && !(bytes == own && !strncmp(at, gp_preload_path, own))) {
                if (out != rest)
                    *out++ = ':';
                memcpy(out, at, bytes);
                out += bytes;
            }
            at += bytes + (at[bytes] != 0);
        }
        *out = 0;
        if (out == rest)
            unsetenv("LD_PRELOAD");
        else
            setenv("LD_PRELOAD", rest, 1);
    }
    unsetenv("GILPROBE_RECORDING");
    unsetenv("GILPROBE_OPTIONS");
}

static void write_start(Slot *slot) {
    char text[4096];
    long got = gp_syscall3(SYS_readlink, "/proc/self/exe", text, sizeof text);
    if (got > 0)
        gp_meta(slot, "executable", text, (size_t)got);
    long fd = gp_syscall6(SYS_openat, AT_FDCWD, (long)"/proc/self/cmdline", O_RDONLY | O_CLOEXEC, 0, 0, 0);
    if (fd >= 0) {
        got = gp_syscall3(SYS_read, fd, text, sizeof text);
        gp_syscall3(SYS_close, fd, 0, 0);
        if (got > 0)
            gp_meta(slot, "argv", text, (size_t)got - (text[got - 1] == 0));
    }
    got = gp_syscall3(SYS_getcwd, text, sizeof text, 0);
    if (got > 1)
        gp_meta(slot, "cwd", text, (size_t)got - 1);
    gp_images_write(slot);
    if (gp_watch.on)
        gp_meta(slot, "watchdog", "on", 2);
}

static void begin_file(bool forked) {
    gp_file_open(forked);
    gp_machine_read(&gp_header->start_busy_ns, &gp_header->start_stolen_ns);
    gp_header->python_hex = gp_python.hex;
    gp_header->runtime_address = gp_python.runtime;
    gp_header->runtime_bytes = gp_python.runtime_bytes;
    gp_header->flags |=
        (gp_python.free_threaded ? GP_HEADER_FREE_THREADED : 0u) | (gp_python.known ? GP_HEADER_PYTHON_STACKS : 0u);
}

static void forked_child(void) {
    if (!atomic_load(&gp_active))
        return;
    gp_file_forget();
    gp_edges_forked();
    gp_cuda_forked();
    gp_frames_forked();
    gp_gc_forget();
    gp_sampler_forked();
    gp_run_delay_close_all();
    begin_file(true);
    gp_counter_setup();
    gp_slots_forked();
    Slot *slot = gp_slot();
    if (!slot)
        return;
    slot->busy = 1;
    write_start(slot);
    gp_sampler_start(slot, false);
    slot->busy = 0;
    gp_watchdog_forked();
}

__attribute__((constructor)) static void start(void) {
    gp_resolve_real();
    const char *recording = getenv("GILPROBE_RECORDING");
    if (!recording || strlen(recording) >= sizeof gp_options.folder || !gp_is_preloaded())
        return;
    snprintf(gp_options.folder, sizeof gp_options.folder, "%s", recording);
    const char *options = getenv("GILPROBE_OPTIONS");
    snprintf(gp_recording_variable, sizeof gp_recording_variable, RECORDING "%s", recording);
    snprintf(gp_options_variable, sizeof gp_options_variable, OPTIONS "%s", options ? options : "");
    parse_options(options);
    hide_environment();
    if (gp_options.cuda)
        snprintf(injection_variable, sizeof injection_variable, INJECTION "%s", gp_preload_path);
    gp_python_setup();
    if (!gp_python.runtime)
        return; /* not Python: only hand the variables on to children */
    gp_clock_setup();
    begin_file(false);
    gp_slots_setup();
    gp_sampler_setup();
    pthread_atfork(gp_watchdog_before_fork, NULL, forked_child);
    atomic_store(&gp_active, true);
    Slot *slot = gp_slot();
    if (!slot)
        return;
    slot->busy = 1;
    write_start(slot);
    slot->busy = 0;
    gp_prove_setup();
    if (gp_watch.on) {
        slot->busy = 1;
        gp_watch.on = gp_locks_install();
        const char *state = gp_watch.on ? "on" : "no: this interpreter's method tables are not known";
        gp_meta(slot, "watchdog", state, strlen(state));
        slot->busy = 0;
        gp_watchdog_start();
    }
}

/* A running program begins a recording, maybe not its first. */
int gp_start_inside(const char *folder, const char *options) {
    static bool forks_watched, python_known;
    snprintf(gp_options.folder, sizeof gp_options.folder, "%s", folder);
    gp_options.events = false;
    gp_options.rate_hz = 0;
    gp_options.sampler = 0;
    gp_options.prove = gp_options.cuda = false;
    parse_options(options);
    if (!python_known) {
        gp_python_setup();
        gp_clock_setup();
        gp_slots_setup();
    }
    python_known = true;
    if (!gp_python.runtime)
        return -ENOSYS;
    gp_frames_forked();
    gp_gc_forget();
    gp_slots_begin();
    begin_file(false);
    if (gp_header->lost_errno)
        return -(int)gp_header->lost_errno;
    gp_sampler_setup();
    if (!forks_watched)
        pthread_atfork(gp_watchdog_before_fork, NULL, forked_child);
    forks_watched = true;
    atomic_store(&gp_active, true);
    Slot *slot = gp_slot();
    if (slot) {
        slot->busy = 1;
        write_start(slot);
        slot->busy = 0;
    }
    gp_sampler_greet();
    return 0;
}

void gp_finish(enum EndKind kind) {
    if (!atomic_load(&gp_active) || gp_header->pid != (uint32_t)gp_syscall3(SYS_getpid, 0, 0, 0))
        return;
    gp_cuda_flush();
    if (kind != GP_END_EXEC && kind != GP_END_STOP) /* a watchdog of the program's own goes on */
        gp_watchdog_finish();
    if (gp_slot_here)
        gp_slot_here->busy = 1;
    if (kind == GP_END_EXEC)
        gp_sampler_before_exec();
    uint64_t now_ns, now_ticks;
    gp_clock_pair(&now_ns, &now_ticks);
    gp_slots_finish(now_ns);
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    gp_header->process_cpu_ns = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
    gp_machine_read(&gp_header->busy_ns, &gp_header->stolen_ns);
    gp_header->end_ns = now_ns;
    gp_header->end_ticks = now_ticks;
    /* Release: a reader that sees the end must see the final figures. */
    __atomic_store_n(&gp_header->end_kind, (uint32_t)kind, __ATOMIC_RELEASE);
    if (kind != GP_END_EXEC) {
        atomic_store(&gp_active, false);
        for (Slot *slot = gp_slots_all(); slot; slot = slot->next_all)
            slot->over = 1;
    }
    if (gp_slot_here)
        gp_slot_here->busy = 0;
}

__attribute__((destructor)) static void stop(void) { gp_finish(GP_END_EXIT); }

/* ---- hooks */

GP_EXPORT void _exit(int status) {
    gp_need_real();
    gp_finish(GP_END_QUICK_EXIT);
    gp_real._exit(status);
    __builtin_unreachable();
}

GP_EXPORT void _Exit(int status) { _exit(status); }

/* The child runs on this stack and memory until it execs: mark the slot, then jump, leaving the stack as it is. */
__attribute__((naked)) GP_EXPORT pid_t vfork(void) {
    __asm__ volatile("movq gp_slot_here@gottpoff(%%rip), %%rax\n"
                     "movq %%fs:(%%rax), %%rax\n"
                     "testq %%rax, %%rax\n"
                     "je 1f\n"
                     "movb $1, %c0(%%rax)\n"
                     "1: leaq gp_real(%%rip), %%rax\n"
                     "jmpq *%c1(%%rax)\n"
                     :
                     : "i"(offsetof(Slot, vforked)), "i"(offsetof(RealFunctions, vfork)));
}

static bool is_variable(const char *entry, const char *name) { return !strncmp(entry, name, strlen(name)); }

/* Ours added to the environment of a program to be run. No allocation: this may be a vfork child. An empty environment
 * stays empty. */
#define WITH_OURS(envp)                                                                   \
    size_t count = 0, preload_bytes = 0;                                                  \
    for (; envp && envp[count]; count++)                                                  \
        if (is_variable(envp[count], PRELOAD))                                            \
            preload_bytes = strlen(envp[count]);                                          \
    bool add = count && gp_recording_variable[0] && gp_preload_path[0];                   \
    char **changed = alloca((count + 5) * sizeof *changed);                               \
    char *preload = alloca(sizeof PRELOAD + strlen(gp_preload_path) + 1 + preload_bytes); \
    char *const *ours = add ? add_ours(envp, changed, preload) : envp

static char *const *add_ours(char *const envp[], char **changed, char *preload) {
    size_t count = 0;
    bool injected = false;
    char *end = stpcpy(stpcpy(preload, PRELOAD), gp_preload_path);
    for (; *envp; envp++) {
        if (is_variable(*envp, RECORDING) || is_variable(*envp, OPTIONS))
            continue;
        if (is_variable(*envp, PRELOAD)) {
            const char *value = *envp + strlen(PRELOAD);
            if (*value && !strstr(value, gp_preload_path))
                stpcpy(stpcpy(end, ":"), value);
            continue;
        }
        injected = injected || is_variable(*envp, INJECTION);
        changed[count++] = *envp;
    }
    changed[count++] = preload;
    changed[count++] = gp_recording_variable;
    changed[count++] = gp_options_variable;
    if (injection_variable[0] && !injected)
        changed[count++] = injection_variable;
    changed[count] = NULL;
    return changed;
}

/* The recording of this process is whole before its memory goes; if exec fails it goes on. */
static int exec_failed(int result) {
    int error = errno;
    if (atomic_load(&gp_active) && gp_header->pid == (uint32_t)gp_syscall3(SYS_getpid, 0, 0, 0)) {
        gp_header->end_kind = GP_END_NONE;
        gp_sampler_exec_failed();
    }
    errno = error;
    return result;
}

GP_EXPORT int execve(const char *path, char *const argv[], char *const envp[]) {
    gp_need_real();
    WITH_OURS(envp);
    gp_finish(GP_END_EXEC);
    return exec_failed(gp_real.execve(path, argv, ours));
}

GP_EXPORT int execv(const char *path, char *const argv[]) { return execve(path, argv, environ); }

GP_EXPORT int execvpe(const char *file, char *const argv[], char *const envp[]) {
    gp_need_real();
    WITH_OURS(envp);
    gp_finish(GP_END_EXEC);
    return exec_failed(gp_real.execvpe(file, argv, ours));
}

GP_EXPORT int execvp(const char *file, char *const argv[]) { return execvpe(file, argv, environ); }

GP_EXPORT int fexecve(int fd, char *const argv[], char *const envp[]) {
    gp_need_real();
    WITH_OURS(envp);
    gp_finish(GP_END_EXEC);
    return exec_failed(gp_real.fexecve(fd, argv, ours));
}

GP_EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                          const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]) {
    gp_need_real();
    WITH_OURS(envp);
    return gp_real.posix_spawn(pid, path, actions, attributes, argv, ours);
}

GP_EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                           const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]) {
    gp_need_real();
    WITH_OURS(envp);
    return gp_real.posix_spawnp(pid, file, actions, attributes, argv, ours);
}
