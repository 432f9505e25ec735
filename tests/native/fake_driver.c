/* A libcuda.so.1 of our own: it loads the injected library as NVIDIA's driver does, and hands what a script does with
 * contexts to the fake libcupti. It computes nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    uint32_t id;
} Context;

static Context contexts[64];
static uint32_t count;
static __thread Context *stack[8];
static __thread int depth; /* the current context is stack[depth] */
static void (*tell_call)(uint32_t, uint32_t, uint32_t, uint64_t, uint64_t);
static void (*tell_context)(uint32_t, void *);
static void *cupti;

/* libcupti comes with the injected library, so it is sought after each call that may have brought it. */
static void find(void) {
    const char *path = getenv("FAKE_CUPTI");
    if (!cupti && path && (cupti = dlopen(path, RTLD_NOW | RTLD_NOLOAD))) {
        tell_call = (void (*)(uint32_t, uint32_t, uint32_t, uint64_t, uint64_t))dlsym(cupti, "fake_call");
        tell_context = (void (*)(uint32_t, void *))dlsym(cupti, "fake_context");
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

int cuCtxSetCurrent(Context *context) {
    call(303, 0, 0, 0);
    stack[depth] = context;
    call(303, 1, 0, 0);
    return 0;
}

int cuCtxPushCurrent_v2(Context *context) {
    call(323, 0, 0, 0);
    stack[++depth] = context;
    call(323, 1, 0, 0);
    return 0;
}

int cuCtxPopCurrent_v2(Context **popped) {
    call(324, 0, 0, 0);
    *popped = stack[depth--];
    call(324, 1, 0, 0);
    return 0;
}

int cuCtxSynchronize(void) {
    call(17, 0, 0, 0);
    call(17, 1, 0, 0);
    return 0;
}

/* "Runs" from start_ns for duration_ns on the clock the recorder gave. */
int fake_launch(uint64_t start_ns, uint64_t duration_ns) {
    call(307, 0, start_ns, duration_ns);
    call(307, 1, 0, 0);
    return 0;
}
