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

/* Kernels (version 4 to 13 of the record) and copies (5 to 7) keep start@16 and end@24; device, context and stream
 * follow each other. */
enum { CUPTI_KERNEL_IDS = 40, CUPTI_KERNEL_CORRELATION = 92, CUPTI_COPY_IDS = 32, CUPTI_SHORTEST_RECORD = 24 };

enum { CUPTI_ERROR_MAX_LIMIT_REACHED = 12, CUPTI_ERROR_NOT_SUPPORTED = 27, CUPTI_ERROR_UNKNOWN = 999 };

/* Callbacks: domains, functions of the driver (cupti_driver_cbid), resources */
enum { CUPTI_DOMAIN_DRIVER = 1, CUPTI_DOMAIN_RESOURCE = 3 };
enum {
    CUPTI_SYNCHRONIZE = 17,
    CUPTI_SET_CURRENT = 303,
    CUPTI_LAUNCH = 307,
    CUPTI_PUSH = 323,
    CUPTI_POP = 324,
    CUPTI_LAUNCH_PTSZ = 442,
    CUPTI_LAUNCH_EX = 652,
    CUPTI_LAUNCH_EX_PTSZ = 653
};
enum { CUPTI_CONTEXT_CREATED = 1, CUPTI_CONTEXT_DESTROYED = 2 };
enum { CUPTI_ENTER = 0, CUPTI_EXIT = 1 };

#define CUPTI_BUFFER_BYTES (1u << 20) /* its start must lie on 8 bytes */

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
    int (*dropped)(void *, uint32_t, size_t *); /* these two may be missing */
    int (*flush_period)(uint32_t);
} CuptiFunctions;

/* Opens libcupti: the one that the process has, else `wanted`, else by its usual names. `path` tells which; `whole`:
 * it has every function we need. NULL when there is none. */
void *gp_cupti_open(CuptiFunctions *functions, const char *wanted, char *path, size_t path_bytes, bool *whole,
                    bool *replay);

uint64_t gp_now_for_cupti(void);

#pragma GCC visibility pop
#endif
