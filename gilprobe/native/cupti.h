/* The part of CUPTI's binary interface that we use: its functions, and where its records keep what. */
#ifndef GILPROBE_CUPTI_H
#define GILPROBE_CUPTI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

#define CUPTI_AT(type, record, offset) (*(const type *)((const char *)(record) + (offset)))

/* Activity kinds */
enum {
    CUPTI_KIND_MEMCPY = 1,
    CUPTI_KIND_MEMSET = 2,
    CUPTI_KIND_KERNEL = 3,
    CUPTI_KIND_CONTEXT = 9,
    CUPTI_KIND_CONCURRENT_KERNEL = 10,
    CUPTI_KIND_CONTEXT_SWITCH = 57 /* from 13.1: context@4 timestamp@8 operation@16 (1 start, 2 end) */
};

/* Kernels (version 4 to 13 of the record), copies (5 to 7) and sets (4 and 5) keep start@16 and end@24; device, context
 * and stream follow each other. */
enum { CUPTI_KERNEL_IDS = 40, CUPTI_KERNEL_CORRELATION = 92, CUPTI_COPY_IDS = 32 };

/* Up to where we read. A context's record has 16 bytes in 12.0, 32 in 13.0 and its process from 13.1 on. */
enum {
    CUPTI_KERNEL_READ = 96,
    CUPTI_COPY_READ = 48,
    CUPTI_SWITCH_READ = 20,
    CUPTI_CONTEXT_READ = 14,
    CUPTI_CONTEXT_PROCESS = 32,
    CUPTI_WITH_PROCESS = 130100,
    CUPTI_WITH_SWITCHES = 130100
};

enum { CUPTI_ERROR_MAX_LIMIT_REACHED = 12, CUPTI_ERROR_NOT_SUPPORTED = 27, CUPTI_ERROR_UNKNOWN = 999 };

/* Callbacks: domains, functions of the driver (cupti_driver_cbid), resources */
enum { CUPTI_DOMAIN_DRIVER = 1, CUPTI_DOMAIN_RUNTIME = 2, CUPTI_DOMAIN_RESOURCE = 3 };
enum {
    CUPTI_SYNCHRONIZE = 17,
    CUPTI_SET_CURRENT = 303,
    CUPTI_LAUNCH = 307,
    CUPTI_PUSH = 323,
    CUPTI_POP = 324,
    CUPTI_LAUNCH_PTSZ = 442,
    CUPTI_LAUNCH_COOPERATIVE = 477,
    CUPTI_LAUNCH_COOPERATIVE_PTSZ = 478,
    CUPTI_LAUNCH_EX = 652,
    CUPTI_LAUNCH_EX_PTSZ = 653,
    CUPTI_SYNCHRONIZE_CONTEXT = 800 /* from 13.0: of the context that it names */
};
/* of the runtime (cupti_runtime_cbid) */
enum {
    CUPTI_RUNTIME_LAUNCH = 211,
    CUPTI_RUNTIME_LAUNCH_PTSZ = 214,
    CUPTI_RUNTIME_LAUNCH_EX = 430,
    CUPTI_RUNTIME_LAUNCH_EX_PTSZ = 431
};
enum { CUPTI_CONTEXT_CREATED = 1, CUPTI_CONTEXT_DESTROYED = 2 };
enum { CUPTI_ENTER = 0, CUPTI_EXIT = 1 };

#define CUPTI_LONGEST_RAW 1024u
/* Its start must lie on 8 bytes. CUPTI gives a buffer back when it is full or flushed: a killed process loses what is
 * in it, some thousand kernels. */
#define CUPTI_BUFFER_BYTES (1u << 18)

typedef struct {
    int site;
    const char *function_name;
    const void *parameters;
    void *return_value;
    const char *symbol_name;
    void *context;
    uint32_t context_id; /* of the context current to the thread */
    uint64_t *correlation_data;
    uint32_t correlation;
} CuptiCallbackData;

typedef struct {
    void *context;
} CuptiResourceData;

typedef struct {
    int (*get_version)(uint32_t *);
    int (*subscribe)(void **, void (*)(void *, int, uint32_t, const void *), void *);
    int (*enable_callback)(uint32_t, void *, int, uint32_t);
    int (*register_clock)(uint64_t (*)(void));
    int (*register_buffers)(void (*)(uint8_t **, size_t *, size_t *),
                            void (*)(void *, uint32_t, uint8_t *, size_t, size_t));
    int (*enable)(int);
    int (*next_record)(uint8_t *, size_t, void **);
    int (*get_context_id)(void *, uint32_t *);
    int (*get_device_id)(void *, uint32_t *);
    int (*flush)(uint32_t);
    int (*dropped)(void *, uint32_t, size_t *); /* from here on they may be missing */
    int (*flush_period)(uint32_t);
    int (*unsubscribe)(void *);
} CuptiFunctions;

/* Opens libcupti: the one that the process has, else `wanted`, else by its usual names. `path` tells which; `whole`:
 * it has every function we need. NULL when there is none. */
void *gp_cupti_open(CuptiFunctions *functions, const char *wanted, char *path, size_t path_bytes, bool *whole,
                    bool *replay);

uint64_t gp_now_for_cupti(void);

#pragma GCC visibility pop
#endif
