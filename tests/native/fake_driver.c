/* A libcuda.so.1 of our own: it loads the injected library as NVIDIA's driver does, and hands what a script does with
 * contexts to the fake libcupti. It computes nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct {
    uint32_t id;
} Context;

static Context contexts[64];
static uint32_t count;
static __thread Context *stack[8];
static __thread int depth; /* the current context is stack[depth] */
static void (*tell_call)(uint32_t, uint32_t, uint32_t, uint64_t, uint64_t);
static void (*tell_context)(uint32_t, void *);
static void (*tell_arguments)(const void *, int);
static void (*tell_runtime)(uint32_t);
static void (*tell_switch)(uint32_t, uint64_t, uint32_t);
static void *cupti;

/* libcupti comes with the injected library, so it is sought after each call that may have brought it. */
static void find(void) {
    const char *path = getenv("FAKE_CUPTI");
    if (!cupti && path && (cupti = dlopen(path, RTLD_NOW | RTLD_NOLOAD))) {
        tell_call = (void (*)(uint32_t, uint32_t, uint32_t, uint64_t, uint64_t))dlsym(cupti, "fake_call");
        tell_context = (void (*)(uint32_t, void *))dlsym(cupti, "fake_context");
        tell_arguments = (void (*)(const void *, int))dlsym(cupti, "fake_arguments");
        tell_runtime = (void (*)(uint32_t))dlsym(cupti, "fake_runtime");
        tell_switch = (void (*)(uint32_t, uint64_t, uint32_t))dlsym(cupti, "fake_switch");
    }
}

static void begin(void) {
    const char *path = getenv("CUDA_INJECTION64_PATH");
    void *library = path ? dlopen(path, RTLD_NOW) : NULL;
    int (*initialize)(void) = library ? (int (*)(void))dlsym(library, "InitializeInjection") : NULL;
    if (initialize)
        initialize();
    find();
}

static void call(uint32_t function, uint32_t site, uint64_t a, uint64_t b) {
    if (tell_call)
        tell_call(function, site, stack[depth] ? stack[depth]->id : 0, a, b);
}

int cuInit(unsigned flags) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)flags;
    const char *error = getenv("FAKE_CUDA_ERROR");
    pthread_once(&once, begin);
    return error ? atoi(error) : 0;
}

int cuDriverGetVersion(int *version) {
    const char *wanted = getenv("FAKE_CUDA_VERSION");
    *version = wanted ? atoi(wanted) : 13010;
    return 0;
}

int cuDeviceGetCount(int *devices) {
    *devices = 1;
    return 0;
}

int cuCtxCreate_v2(Context **made, unsigned flags, int device) {
    (void)flags, (void)device;
    uint32_t at = __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
    *made = &contexts[at];
    (*made)->id = at + 1;
    stack[depth] = *made;
    if (tell_context)
        tell_context(1, *made);
    return 0;
}

int cuCtxDestroy_v2(Context *context) {
    if (tell_context)
        tell_context(2, context);
    return 0;
}

/* As CUPTI may: the context that it names is the one that was current at the call's entry, also at its exit. */
static int current(uint32_t function, const void *arguments, Context **place, Context *context) {
    const char *failing = getenv("FAKE_CUDA_SET_CURRENT");
    int error = failing ? atoi(failing) : 0;
    Context *before = stack[depth];
    if (tell_arguments)
        tell_arguments(arguments, error);
    call(function, 0, 0, 0);
    if (tell_call)
        tell_call(function, 1, before ? before->id : 0, 0, 0);
    if (tell_arguments)
        tell_arguments(NULL, 0);
    if (!error)
        *place = context;
    return error;
}

int cuCtxSetCurrent(Context *context) { return current(303, &context, &stack[depth], context); }

int cuCtxPushCurrent_v2(Context *context) {
    int error = current(323, &context, &stack[depth + 1], context);
    depth += !error;
    return error;
}

int cuCtxPopCurrent_v2(Context **popped) {
    *popped = stack[depth];
    call(324, 0, 0, 0);
    depth--;
    call(324, 1, 0, 0);
    return 0;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t last_end_ns;

int cuCtxSynchronize(void) {
    call(17, 0, 0, 0);
    pthread_mutex_lock(&mutex);
    uint64_t end_ns = last_end_ns;
    pthread_mutex_unlock(&mutex);
    while (now_ns() < end_ns)
        nanosleep(&(struct timespec){0, 50000}, NULL);
    call(17, 1, 0, 0);
    return 0;
}

/* "Runs" from start_ns for duration_ns on the clock the recorder gave. */
int fake_launch(uint64_t start_ns, uint64_t duration_ns) {
    call(307, 0, start_ns, duration_ns);
    call(307, 1, 0, 0);
    return 0;
}

/* As a launch through the runtime: the kernel's record bears the runtime's number. */
int fake_runtime_launch(uint64_t start_ns, uint64_t duration_ns) {
    if (tell_runtime)
        tell_runtime(0);
    fake_launch(start_ns, duration_ns);
    if (tell_runtime)
        tell_runtime(1);
    return 0;
}

/* ---- what the decode study calls besides. A kernel takes 10 ns a turn, one after the other, and the GPU's switch
 * records around it last FAKE_SWITCH_PERCENT of that [100]. */

int cuDeviceGetName(char *name, int bytes, int device) {
    (void)device;
    snprintf(name, (size_t)bytes, "no GPU (fake)");
    return 0;
}

int cuDevicePrimaryCtxRetain(Context **made, int device) {
    static Context *primary;
    if (!primary)
        cuCtxCreate_v2(&primary, 0, device);
    *made = primary;
    return 0;
}

int cuStreamCreate(void **stream, unsigned flags) {
    (void)flags;
    static char streams[64];
    static uint32_t made;
    *stream = &streams[__atomic_fetch_add(&made, 1, __ATOMIC_RELAXED) % 64];
    return 0;
}

int cuModuleLoadData(void **module, const void *image) {
    *module = (void *)image;
    return 0;
}

int cuModuleGetFunction(void **function, void *module, const char *name) {
    (void)name;
    *function = module;
    return 0;
}

int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    (void)bytes;
    *address = 4096;
    return 0;
}

int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    (void)function, (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)stream, (void)extra;
    const char *percent = getenv("FAKE_SWITCH_PERCENT");
    uint64_t duration_ns = *(uint64_t *)parameters[0] * 10, start_ns = now_ns() + 2000;
    pthread_mutex_lock(&mutex);
    if (start_ns < last_end_ns)
        start_ns = last_end_ns;
    last_end_ns = start_ns + duration_ns;
    pthread_mutex_unlock(&mutex);
    fake_launch(start_ns, duration_ns);
    if (tell_switch) {
        tell_switch(1, start_ns, 1);
        tell_switch(1, start_ns + duration_ns * (uint64_t)(percent ? atoi(percent) : 100) / 100, 2);
    }
    return 0;
}
