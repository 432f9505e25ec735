/* CUDA contexts, GPU work and the GPU's context switches, through CUPTI.
 *
 * The driver calls InitializeInjection in the library that CUDA_INJECTION64_PATH names, at the program's first CUDA
 * call: a program that makes none never loads libcupti. No header of NVIDIA's is used: numbers and offsets below are
 * those of CUPTI 12.0 to 13.5 (held against the headers of eleven of them). CUPTI's callbacks run in the thread that
 * made the call, or in CUPTI's own, and never touch the interpreter. */
#define _GNU_SOURCE
#include "core.h"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "cupti.h"

/* A launch is marked, to bound the clock's error, when its thread changes context, and every so many. */
#define LAUNCHES_A_MARK 64
#define FLUSH_MS 1000 /* of buffers that are full; others wait for the end */

static CuptiFunctions cupti;
static CudaStateRecord no_state; /* stands in until there is a record */
static CudaStateRecord *state = &no_state;
static _Atomic bool on;

/* ---- what a thread does with contexts */

static CudaUseRecord *use_of(Slot *slot, uint32_t context, uint64_t now_ns) {
    if (slot->cuda_use && slot->cuda_use->context == context)
        return slot->cuda_use;
    uint64_t key = gp_mix(0x41445543 /* any constant: apart from the keys of waits */, context) | 1;
    IndexEntry *entry = gp_index_insert(&slot->waits, key);
    if (!entry)
        return NULL;
    if (!entry->value) {
        CudaUseRecord *fresh = gp_record_begin(slot, GP_CUDA_USE, sizeof *fresh);
        if (!fresh)
            return NULL;
        fresh->thread = slot->thread;
        fresh->context = context;
        fresh->first_ns = fresh->last_ns = now_ns;
        gp_record_done(slot);
        entry->value = (uint64_t)fresh;
    }
    return slot->cuda_use = (CudaUseRecord *)entry->value;
}

static void mark(Slot *slot, uint32_t kind, uint64_t time_ns, uint32_t context, uint32_t correlation, uint32_t thread) {
    GpuMark *made = gp_array_begin(slot, &slot->gpu_marks, GP_CHUNK_GPU_MARKS, sizeof *made);
    if (!made)
        return;
    *made = (GpuMark){time_ns, context, correlation, thread, kind};
    gp_array_done(&slot->gpu_marks, sizeof *made);
}

/* A kernel's record bears the number of the call that launched it. Where that is a call of the runtime, which calls the
 * driver, CUPTI does not say whose: both are marked, and the one that no record bears is of no account. */
static void mark_launch(Slot *slot, uint32_t kind, uint64_t time_ns, uint32_t context) {
    mark(slot, kind, time_ns, context, slot->cuda_last.driver, slot->thread);
    if (slot->cuda_last.runtime && slot->cuda_last.runtime != slot->cuda_last.driver)
        mark(slot, kind, time_ns, context, slot->cuda_last.runtime, slot->thread);
}

static void launched(Slot *slot, const CuptiCallbackData *data) {
    CudaUseRecord *before = slot->cuda_use;
    bool changed = !before || before->context != data->context_id;
    slot->cuda_last.driver = data->correlation;
    slot->cuda_last.runtime = slot->cuda_runtime_call;
    if (changed || slot->cuda_launches % LAUNCHES_A_MARK == 0) {
        uint64_t now_ns = gp_now();
        CudaUseRecord *use = use_of(slot, data->context_id, now_ns);
        if (!use)
            return;
        use->last_ns = now_ns;
        mark_launch(slot, GP_HOST_LAUNCH, now_ns, data->context_id);
    }
    slot->cuda_use->launches++;
    slot->cuda_launches++;
}

static uint32_t call_error(const CuptiCallbackData *data) {
    return data->return_value ? *(const uint32_t *)data->return_value : 0;
}

/* The context that a call names by its first argument, else the thread's current one; 0 = none. */
static uint32_t named_context(const CuptiCallbackData *data) {
    if (!data->parameters)
        return data->context_id;
    void *context = *(void *const *)data->parameters;
    uint32_t context_id = 0;
    if (context && cupti.get_context_id(context, &context_id))
        return data->context_id;
    return context_id;
}

static void synchronized(Slot *slot, uint32_t context) {
    if (slot->cuda_last.driver && slot->cuda_use && slot->cuda_use->context == context)
        mark_launch(slot, GP_HOST_SYNCHRONIZED, gp_now(), context);
}

static void called(Slot *slot, uint32_t function, const CuptiCallbackData *data) {
    bool leaving = data->site == CUPTI_EXIT;
    switch (function) {
    case CUPTI_LAUNCH:
    case CUPTI_LAUNCH_PTSZ:
    case CUPTI_LAUNCH_COOPERATIVE:
    case CUPTI_LAUNCH_COOPERATIVE_PTSZ:
    case CUPTI_LAUNCH_EX:
    case CUPTI_LAUNCH_EX_PTSZ:
        if (!leaving)
            launched(slot, data);
        return;
    }
    if (!leaving || call_error(data))
        return;
    if (function == CUPTI_SYNCHRONIZE || function == CUPTI_SYNCHRONIZE_CONTEXT) {
        synchronized(slot, function == CUPTI_SYNCHRONIZE ? data->context_id : named_context(data));
        return;
    }
    /* cuCtxPopCurrent's argument is where the popped one goes: what counts is the one that is current again. */
    uint32_t context = function == CUPTI_POP ? data->context_id : named_context(data);
    uint64_t now_ns = gp_now();
    CudaUseRecord *use = use_of(slot, context, now_ns);
    if (!use)
        return;
    use->last_ns = now_ns;
    if (function == CUPTI_SET_CURRENT)
        use->set_current++;
    else if (function == CUPTI_PUSH)
        use->pushed++;
    else if (function == CUPTI_POP)
        use->popped++;
}

static void context_event(Slot *slot, uint32_t event, uint32_t context, uint32_t device, uint32_t thread,
                          uint32_t api_kind, uint32_t process_id) {
    CudaContextRecord *record = gp_record_begin(slot, GP_CUDA_CONTEXT, sizeof *record);
    if (!record)
        return;
    record->event = event;
    record->context = context;
    record->device = device;
    record->thread = thread;
    record->api_kind = api_kind;
    record->process_id = process_id;
    record->time_ns = gp_now();
    gp_record_done(slot);
}

static void lose(void) { __atomic_fetch_add(&state->lost, 1, __ATOMIC_RELAXED); }

static void on_callback(void *user, int domain, uint32_t id, const void *data) {
    (void)user;
    if (!atomic_load_explicit(&on, memory_order_relaxed))
        return;
    int error = errno;
    Slot *slot = gp_slot();
    if (!slot) {
        lose();
        errno = error;
        return;
    }
    slot->busy = 1;
    if (domain == CUPTI_DOMAIN_DRIVER) {
        called(slot, id, data);
    } else if (domain == CUPTI_DOMAIN_RUNTIME) {
        const CuptiCallbackData *launch = data;
        slot->cuda_runtime_call = launch->site == CUPTI_ENTER ? launch->correlation : 0;
    } else if (domain == CUPTI_DOMAIN_RESOURCE) {
        void *context = ((const CuptiResourceData *)data)->context;
        uint32_t context_id = 0, device = 0;
        cupti.get_context_id(context, &context_id);
        if (id == CUPTI_CONTEXT_CREATED)
            cupti.get_device_id(context, &device);
        context_event(slot, id == CUPTI_CONTEXT_CREATED ? GP_CUDA_CREATED : GP_CUDA_DESTROYED, context_id, device,
                      slot->thread, 0, gp_header->pid);
    }
    slot->busy = 0;
    errno = error;
}

/* ---- what the GPU did */

static size_t bytes_read(uint32_t kind) {
    switch (kind) {
    case CUPTI_KIND_CONCURRENT_KERNEL:
    case CUPTI_KIND_KERNEL:
        return CUPTI_KERNEL_READ;
    case CUPTI_KIND_MEMCPY:
    case CUPTI_KIND_MEMSET:
        return CUPTI_COPY_READ;
    case CUPTI_KIND_CONTEXT_SWITCH:
        return CUPTI_SWITCH_READ;
    case CUPTI_KIND_CONTEXT:
        return state->version >= CUPTI_WITH_PROCESS ? CUPTI_CONTEXT_PROCESS + 4 : CUPTI_CONTEXT_READ;
    }
    return sizeof kind;
}

/* False: the buffer ends within it. */
static bool take_record(Slot *slot, const void *record, size_t left) {
    uint32_t kind = left >= sizeof kind ? CUPTI_AT(uint32_t, record, 0) : 0;
    if (left < sizeof kind || left < bytes_read(kind))
        return false;
    bool kernel = kind == CUPTI_KIND_CONCURRENT_KERNEL || kind == CUPTI_KIND_KERNEL;
    if (kernel || kind == CUPTI_KIND_MEMCPY || kind == CUPTI_KIND_MEMSET) {
        uint32_t ids = kernel ? CUPTI_KERNEL_IDS : CUPTI_COPY_IDS;
        GpuWork *work = gp_array_begin(slot, &slot->gpu_work, GP_CHUNK_GPU_WORK, sizeof *work);
        if (!work) {
            lose();
            return true;
        }
        *work = (GpuWork){
            .start_ns = CUPTI_AT(uint64_t, record, 16),
            .end_ns = CUPTI_AT(uint64_t, record, 24),
            .bytes = kernel ? 0 : CUPTI_AT(uint64_t, record, 8),
            .device = CUPTI_AT(uint32_t, record, ids),
            .context = CUPTI_AT(uint32_t, record, ids + 4),
            .stream = CUPTI_AT(uint32_t, record, ids + 8),
            .correlation = CUPTI_AT(uint32_t, record, kernel ? CUPTI_KERNEL_CORRELATION : ids + 12),
            .kind = kernel                      ? GP_GPU_KERNEL
                    : kind == CUPTI_KIND_MEMCPY ? GP_GPU_COPY
                                                : GP_GPU_SET,
            .copy_kind = kind == CUPTI_KIND_MEMCPY ? CUPTI_AT(uint8_t, record, 4) : 0,
        };
        gp_array_done(&slot->gpu_work, sizeof *work);
    } else if (kind == CUPTI_KIND_CONTEXT_SWITCH) {
        uint32_t operation = CUPTI_AT(uint32_t, record, 16);
        if (operation == 1 || operation == 2)
            mark(slot, operation == 1 ? GP_GPU_SWITCH_START : GP_GPU_SWITCH_END, CUPTI_AT(uint64_t, record, 8),
                 CUPTI_AT(uint32_t, record, 4), 0, 0);
    } else if (kind == CUPTI_KIND_CONTEXT) {
        context_event(slot, GP_CUDA_LISTED, CUPTI_AT(uint32_t, record, 4), CUPTI_AT(uint32_t, record, 8), 0,
                      CUPTI_AT(uint16_t, record, 12),
                      state->version >= CUPTI_WITH_PROCESS ? CUPTI_AT(uint32_t, record, CUPTI_CONTEXT_PROCESS) : 0);
    }
    return true;
}

/* `end`: of the record, or where the next begins. */
static void keep_raw(Slot *slot, const uint8_t *record, const uint8_t *end) {
    size_t bytes = (size_t)(end - record);
    if (!gp_options.cuda_raw || bytes > CUPTI_LONGEST_RAW)
        return;
    CudaRawRecord *raw = gp_record_begin(slot, GP_CUDA_RAW, sizeof *raw + bytes);
    if (!raw)
        return;
    gp_options.cuda_raw--;
    raw->version = state->version;
    raw->raw_bytes = (uint32_t)bytes;
    memcpy(raw + 1, record, bytes);
    gp_record_done(slot);
}

/* Buffers that CUPTI has given back, to be given out again. */
static void *_Atomic spare[8];

static void on_buffer_requested(uint8_t **buffer, size_t *bytes, size_t *most_records) {
    *bytes = CUPTI_BUFFER_BYTES;
    *most_records = 0; /* as many as fit */
    for (unsigned i = 0; i < sizeof spare / sizeof spare[0]; i++) {
        void *kept = atomic_exchange_explicit(&spare[i], NULL, memory_order_acq_rel);
        if (kept) {
            *buffer = kept;
            return;
        }
    }
    *buffer = gp_memory(CUPTI_BUFFER_BYTES);
    if (!*buffer)
        *bytes = 0;
}

static void keep(uint8_t *buffer) {
    for (unsigned i = 0; i < sizeof spare / sizeof spare[0]; i++) {
        void *none = NULL;
        if (atomic_compare_exchange_strong_explicit(&spare[i], &none, buffer, memory_order_acq_rel,
                                                    memory_order_relaxed))
            return;
    }
    gp_syscall3(SYS_munmap, buffer, CUPTI_BUFFER_BYTES, 0);
}

static void on_buffer_completed(void *context, uint32_t stream, uint8_t *buffer, size_t bytes, size_t valid) {
    (void)bytes;
    if (!buffer)
        return;
    int error = errno;
    Slot *slot = atomic_load_explicit(&on, memory_order_acquire) ? gp_slot() : NULL;
    size_t dropped = 0;
    if (cupti.dropped && !cupti.dropped(context, stream, &dropped) && dropped)
        __atomic_fetch_add(&state->dropped, dropped, __ATOMIC_RELAXED);
    void *record = NULL;
    const uint8_t *last = NULL;
    int status;
    while (!(status = cupti.next_record(buffer, valid, &record))) {
        size_t at = (size_t)((uint8_t *)record - buffer);
        if (!slot) {
            lose();
            continue;
        }
        slot->busy = 1;
        bool whole = at < valid && take_record(slot, record, valid - at);
        if (last)
            keep_raw(slot, last, whole ? record : buffer + valid);
        last = whole ? record : NULL;
        slot->busy = 0;
        if (!whole) {
            status = CUPTI_ERROR_UNKNOWN;
            break;
        }
    }
    if (slot && last) {
        slot->busy = 1;
        keep_raw(slot, last, buffer + valid);
        slot->busy = 0;
    }
    if (status != CUPTI_ERROR_MAX_LIMIT_REACHED && valid)
        __atomic_fetch_add(&state->unread, 1, __ATOMIC_RELAXED);
    keep(buffer);
    errno = error;
}

/* ---- beginning and end */

static void *subscriber;

static int fail(uint32_t step, int error) {
    state->step = step;
    state->error = error;
    /* Others (torch.profiler) cannot subscribe while we are. */
    if (error && subscriber && cupti.unsubscribe) {
        cupti.unsubscribe(subscriber);
        subscriber = NULL;
    }
    return error;
}

/* Each step in the order that CUPTI asks for: the clock before any kind is enabled. */
static int subscribe(void) {
    uint32_t version = 0;
    int error = cupti.get_version(&version);
    state->version = version;
    if (error)
        return fail(GP_CUDA_VERSION, error);
    if ((error = cupti.subscribe(&subscriber, on_callback, NULL)))
        return fail(GP_CUDA_SUBSCRIBE, error);
    if ((error = cupti.register_clock(gp_now_for_cupti)))
        return fail(GP_CUDA_CLOCK, error);
    if ((error = cupti.register_buffers(on_buffer_requested, on_buffer_completed)))
        return fail(GP_CUDA_BUFFERS, error);
    /* Only the kind that lets kernels run at once: the other would serialise them. */
    int kernels = cupti.enable(CUPTI_KIND_CONCURRENT_KERNEL), copies = cupti.enable(CUPTI_KIND_MEMCPY);
    if (kernels && copies)
        return fail(GP_CUDA_ENABLE, kernels);
    cupti.enable(CUPTI_KIND_MEMSET);
    cupti.enable(CUPTI_KIND_CONTEXT);
    state->switches_error =
        version >= CUPTI_WITH_SWITCHES ? cupti.enable(CUPTI_KIND_CONTEXT_SWITCH) : CUPTI_ERROR_NOT_SUPPORTED;
    static const uint32_t functions[] = {CUPTI_LAUNCH,
                                         CUPTI_LAUNCH_PTSZ,
                                         CUPTI_LAUNCH_COOPERATIVE,
                                         CUPTI_LAUNCH_COOPERATIVE_PTSZ,
                                         CUPTI_LAUNCH_EX,
                                         CUPTI_LAUNCH_EX_PTSZ,
                                         CUPTI_SYNCHRONIZE,
                                         CUPTI_SYNCHRONIZE_CONTEXT,
                                         CUPTI_SET_CURRENT,
                                         CUPTI_PUSH,
                                         CUPTI_POP};
    static const uint32_t launches[] = {CUPTI_RUNTIME_LAUNCH, CUPTI_RUNTIME_LAUNCH_PTSZ, CUPTI_RUNTIME_LAUNCH_EX,
                                        CUPTI_RUNTIME_LAUNCH_EX_PTSZ};
    for (unsigned i = 0; i < sizeof functions / sizeof functions[0]; i++)
        cupti.enable_callback(1, subscriber, CUPTI_DOMAIN_DRIVER, functions[i]); /* 12 does not know the newest */
    for (unsigned i = 0; i < sizeof launches / sizeof launches[0]; i++)
        cupti.enable_callback(1, subscriber, CUPTI_DOMAIN_RUNTIME, launches[i]);
    cupti.enable_callback(1, subscriber, CUPTI_DOMAIN_RESOURCE, CUPTI_CONTEXT_CREATED);
    cupti.enable_callback(1, subscriber, CUPTI_DOMAIN_RESOURCE, CUPTI_CONTEXT_DESTROYED);
    if (cupti.flush_period)
        cupti.flush_period(FLUSH_MS);
    return fail(GP_CUDA_ON, 0);
}

static void begin_state(Slot *slot, const char *path, bool replay) {
    size_t bytes = strlen(path);
    CudaStateRecord *record = gp_record_begin(slot, GP_CUDA_STATE, sizeof *record + bytes);
    if (!record)
        return;
    memcpy(record + 1, path, bytes);
    record->path_bytes = (uint32_t)bytes;
    record->start_ns = gp_now();
    record->step = GP_CUDA_NOT_FOUND;
    record->replay = replay;
    gp_record_done(slot);
    state = record;
}

void gp_cuda_flush(void) {
    if (atomic_load_explicit(&on, memory_order_acquire) && cupti.flush)
        cupti.flush(1);
}

/* In exit(). Our destructor comes after CUPTI's own, when it can no longer be called. */
static void at_exit(void) {
    gp_cuda_flush();
    atomic_store(&on, false);
}

/* A forked child cannot use the parent's CUDA: its calls fail, and its records would be the parent's. */
void gp_cuda_forked(void) {
    atomic_store(&on, false);
    state = &no_state;
}

/* Called by the driver, in the thread of the first CUDA call, under its own lock. Returns 1 for success. */
GP_EXPORT int InitializeInjection(void);
GP_EXPORT int InitializeInjection(void) {
    static _Atomic bool begun;
    if (!atomic_load(&gp_active) || !gp_options.cuda || atomic_exchange(&begun, true))
        return 1;
    Slot *slot = gp_slot();
    if (!slot)
        return 1;
    char path[1024] = "";
    bool whole = false, replay = false;
    void *library = gp_cupti_open(&cupti, gp_options.cupti, path, sizeof path, &whole, &replay);
    slot->busy = 1;
    begin_state(slot, path, replay);
    slot->busy = 0;
    if (!library)
        fail(GP_CUDA_NOT_FOUND, 0);
    else if (!whole)
        fail(GP_CUDA_SYMBOLS, 0);
    else {
        atomic_store_explicit(&on, true, memory_order_release); /* enabling may already call back */
        if (subscribe())
            atomic_store(&on, false);
        else
            atexit(at_exit); /* registered after the driver's own, so it runs before it */
    }
    return 1;
}
